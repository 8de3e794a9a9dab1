-- What libuv 1.44 does to those who trust it, and what the runtime makes of it instead. Each trap in a process of its
-- own where it would end the process.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"
local sockets = require "spec.support.sockets"
local net = require "lunation.net"
local testing = require "lunation.testing"

local refuses = helper.refuses

local function in_folder(fn)
  local dir = command.temp_dir()
  local _ <close> = async.defer(function() command.remove_dir(dir) end)
  return fn(dir)
end

describe("libuv's silence", function()
  it("over paths that it cuts: nothing is made under a wrong name", function()
    in_folder(function(dir)
      local path = dir .. "/" .. ("n"):rep(108)
      refuses("OSError", "ENAMETOOLONG", net.listen_unix, path)
      refuses("OSError", "ENAMETOOLONG", net.connect_unix, path)
      local listing <close> = io.popen("ls -A " .. command.quote(dir))
      assert.equal("", listing:read("a"))
    end)
  end)

  it("over missing folders, which it calls EACCES", function()
    in_folder(function(dir)
      assert.equal("ENOENT", refuses("OSError", dir, net.listen_unix, dir .. "/missing/s").code)
    end)
  end)

  it("over a queue without end: a stalled reader costs the mark and one write #real", function()
    sockets.with_pair(function(client)
      local piece, written = ("x"):rep(65536), 0
      local writer = async.create_task(function()
        while true do
          client:write(piece)
          written = written + #piece
        end
      end)
      local _ <close> = async.defer(function()
        writer:cancel()
        async.wait { writer }
      end)
      local last
      repeat
        last = written
        async.sleep(0.02)
      until written == last
      collectgarbage()
      local before = collectgarbage("count")
      async.sleep(0.02)
      assert.equal(last, written)
      assert.is_true(written < 32 << 20, "accepted " .. written)
      assert.is_true(collectgarbage("count") - before < 256)
    end)
  end)
end)

describe("errors that libuv calls EBADF", function()
  it("are what the socket says", function()
    local port = (function()
      local s <close> = net.udp { host = "127.0.0.1" }
      return s:address().port
    end)()
    local s <close> = net.udp { connect = { "127.0.0.1", port } }
    local waiting = async.create_task(s.recv, s)
    async.sleep(0)
    s:send("x")
    assert.equal("ECONNREFUSED", refuses("OSError", "recv", async.await, waiting).code)
  end)
end)

describe("a peer that is gone", function()
  it("is an error of the write, not the end of the process", function()
    local program = [[
      local net = async.net
      async.run(function()
        for _, make in ipairs {
          function() return net.listen("127.0.0.1", 0), function(a) return net.connect(a.host, a.port) end end,
          function() return net.listen_unix("\0lunation-" .. math.random(1 << 50)),
            function(a) return net.connect_unix(a.path) end end,
        } do
          local server <close>, connect = make()
          local client <close> = connect(server:address())
          server:accept():close()
          local ok, e
          repeat
            ok, e = pcall(client.write, client, ("x"):rep(1000))
            async.sleep(0.001)
          until not ok
          assert(e.code == "EPIPE" or e.code == "ECONNRESET", tostring(e))
        end
        print "alive"
      end)
    ]]
    assert.equal("alive\n", helper.plain(program))
    local out, err, code = helper.command((program:gsub("async.run%(function%(%)", "do"):gsub("end%)%s*$", "end")))
    assert.same({ "alive\n", "", 0 }, { out, err, code })
  end)
end)

describe("a signal handler that was taken away", function()
  it("leaves the signal ignored if it was, though libuv would make it deadly", function()
    in_folder(function(dir)
      command.write_file(dir .. "/program.lua", [[
        local async = require "lunation"
        local loop, got = async.get_running_loop(), async.Event()
        local self = io.open("/proc/self/stat"):read("n")
        local function hang_up() os.execute("kill -s HUP " .. self) end
        loop:add_signal_handler("HUP", function() got:set() end)
        hang_up()
        got:wait()
        loop:remove_signal_handler("HUP")
        hang_up()
        async.sleep(0.05)
        print "alive"
      ]])
      local out = command.run { "sh", "-c", 'trap "" HUP; exec "$0" "$@"', command.lunation, dir .. "/program.lua" }
      assert.equal("alive\n", out)
    end)
  end)
end)

describe("no descriptors left", function()
  it("makes clients wait, not the processor; they are counted, and served within a second #real", function()
    in_folder(function(dir)
      local pid = command.start { "sh", "-c", 'ulimit -n 64; exec "$0" "$@"', command.lunation,
        "spec/support/descriptors_run_out.lua", dir .. "/port", helper.slow, log = dir .. "/log" }
      local function port() return tonumber(command.slurp(dir .. "/port") or "") end
      assert.is_true(helper.eventually(port))
      local list = {}
      -- The system's queue takes those that are too many.
      for i = 1, 90 do list[i] = net.connect("127.0.0.1", port()) end
      async.sleep(1.5)
      local answered = 0
      for i = 1, 40 do
        list[i]:write(i, "\n")
        assert.equal(i, list[i]:read("n"))
        list[i]:close()
      end
      local freed = async.get_running_loop():time()
      async.map(list, function(stream, i)
        if i <= 40 then return end
        stream:write(i, "\n")
        assert.equal(i, stream:read("n"))
        answered = answered + 1
      end)
      assert.equal(50, answered)
      local took = async.get_running_loop():time() - freed
      assert.is_true(took < 1 * helper.slow, "took " .. took)
      for i = 41, 90 do list[i]:close() end
      local last <close> = net.connect("127.0.0.1", port())
      last:write("end\n")
      assert.equal("end\n", last:read("a"))
      command.wait_until(command.ended(pid))
      assert.equal("reported\taccept\tAccept failed\tEMFILE\ttrue\nserved\t91\nreports are rare\ttrue\n"
        .. "waiting costs little\ttrue\nfailures are counted\ttrue\n", command.slurp(dir .. "/log"))
    end)
  end)
end)

describe("what was dropped unclosed", function()
  -- Under `limit` descriptors; what the program prints.
  local function limited(limit, program)
    return in_folder(function(dir)
      command.write_file(dir .. "/program.lua", program)
      local words = { "sh", "-c", ("ulimit -n %d; exec \"$0\" \"$@\""):format(limit), command.lunation }
      words[#words + 1] = dir .. "/program.lua"
      local out, err, code = command.run(words)
      assert.same({ "", 0 }, { err, code })
      return out
    end)
  end

  it("gives its descriptors back before they run out", function()
    assert.equal("2000\n", limited(64, [[
      local net = require("lunation").net
      collectgarbage("stop") -- nobody but the runtime collects
      local port, name, n = net.listen("127.0.0.1", 0), "\0lunation-" .. math.random(1 << 50), 0
      local server = net.listen_unix(name)
      for _ = 1, 400 do
        net.udp()
        net.listen("127.0.0.1", 0)
        net.listen_unix(name .. n)
        net.connect("127.0.0.1", port:address().port)
        port:accept()
        n = n + 5
      end
      print(n)
    ]]))
  end)

  it("is not looked for again and again where there is none", function()
    assert.equal("EMFILE\ttrue\n", limited(64, [[
      local net = require("lunation").net
      local heap, open, ok, e = {}, {}, nil, nil
      for i = 1, 300000 do heap[i] = { i } end
      repeat
        ok, e = pcall(net.udp)
        open[#open + 1] = e
      until not ok
      local began = os.clock()
      for _ = 1, 1000 do ok, e = pcall(net.udp) end
      local took = os.clock() - began
      began = os.clock()
      collectgarbage()
      print(e.code, took < 0.05 + 20 * (os.clock() - began))
    ]]))
  end)
end)

describe("a closed connection with output that nobody takes", function()
  -- closed(fn): fn(client, handles before, clock), the other end closed over megabytes that it had accepted.
  local function closed(fn)
    sockets.with_pair(function(client, peer)
      local writer = async.create_task(peer.write, peer, ("x"):rep(40 << 20))
      async.sleep(0.02)
      writer:cancel()
      async.wait { writer }
      local before = async.get_running_loop():stats().handles
      local clock <close> = testing.clock { autojump = false }
      peer:close()
      return fn(client, before, clock)
    end)
  end

  local function handles() return async.get_running_loop():stats().handles end

  it("is given up after half a minute without progress, by a reset #real", function()
    closed(function(client, before, clock)
      clock:advance(29)
      assert.equal(before, handles())
      clock:advance(2)
      assert.equal(before - 1, handles())
      local ok, got
      repeat ok, got = pcall(client.read_some, client) until not ok or not got
      assert.equal("ECONNRESET", not ok and got.code or "an end")
    end)
  end)

  it("lives as long as the other end takes something, and loses nothing #real", function()
    closed(function(client, before, clock)
      local n = 0
      for _ = 1, 3 do
        n = n + #client:read(4 << 20)
        clock:advance(29)
      end
      assert.equal(before, handles())
      assert.equal(40 << 20, n + #client:read("a"))
      assert.is_nil(client:read(1))
    end)
  end)
end)

-- A lookup that runs in libuv's pool cannot be stopped, and its thread is waited for when a process exits.
describe("a lookup that hangs #real", function()
  local dir, preload

  setup(function()
    dir = command.temp_dir()
    command.write_file(dir .. "/hang.c", [[
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)host, (void)service, (void)hints, (void)found;
    sleep(30);
    return EAI_AGAIN;
}
]])
    local line = ("cc -shared -fPIC -o %s %s"):format(command.quote(dir .. "/hang.so"), command.quote(dir .. "/hang.c"))
    assert(os.execute(line))
    preload = { LD_PRELOAD = dir .. "/hang.so",
      ASAN_OPTIONS = (os.getenv("ASAN_OPTIONS") or "detect_leaks=0") .. ":verify_asan_link_order=0" }
  end)
  teardown(function() command.remove_dir(dir) end)

  -- Runs the program, which presses Ctrl-C when it says so -> seconds it took, signal it died of, what it printed.
  local function run(program)
    command.write_file(dir .. "/program.lua", [[
      local async = require "lunation"
      io.stdout:setvbuf "no"
      local self = io.open("/proc/self/stat"):read("n")
      local function press(after)
        -- Two that are pending are one, and os.execute would ignore what comes meanwhile.
        local taken = "while grep -q 'ShdPnd:.*[2367abef]$' /proc/" .. self .. "/status; do sleep 0.01; done"
        io.popen(("(sleep %g; %s; kill -s INT %d) >/dev/null 2>&1 &"):format(after, taken, self)):close()
      end
    ]] .. program)
    local began = async.get_running_loop():time()
    local out, _, _, signal = command.run { command.lunation, dir .. "/program.lua", env = preload, limit = 60 }
    return async.get_running_loop():time() - began, signal, out
  end

  it("lets a second Ctrl-C end the command at once, its cleanup done", function()
    local took, signal, out = run [[
      press(0.3)
      press(0.8)
      local _ <close> = async.defer(function() print "cleaned up" end)
      async.net.getaddrinfo("host")
    ]]
    assert.equal(2, signal)
    assert.equal("cleaned up\n", out)
    assert.is_true(took < 10, "took " .. took)
  end)

  it("ends with the second Ctrl-C also if that cuts a cleanup that takes long", function()
    local took, signal, out = run [[
      press(0.3)
      press(0.8)
      local _ <close> = async.defer(function()
        print "cleaning up"
        async.sleep(40)
      end)
      async.net.getaddrinfo("host")
    ]]
    assert.equal(2, signal)
    assert.equal("cleaning up\n", out)
    assert.is_true(took < 10, "took " .. took)
  end)

  it("does not keep the task that asked, nor what is told the time", function()
    local took, signal, out = run [[
      local ok, e = pcall(async.wait_for, function() return async.net.connect("host", 1) end, 0.05)
      print(e.name)
      ok, e = pcall(async.net.connect, "host", 1, { timeout = 0.05 })
      print(e.name)
      press(0.3) -- the program has ended, its loop waits for the pool
    ]]
    assert.equal("TimeoutError\nTimeoutError\n", out)
    assert.equal(2, signal)
    assert.is_true(took < 10, "took " .. took)
  end)
end)

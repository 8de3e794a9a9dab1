-- Unix sockets: paths, abstract names, files that come and go, who is at the other end.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"
local net = require "lunation.net"

local refuses, turns = helper.refuses, helper.turns

-- in_folder(fn): fn(path) with a folder that is removed afterwards.
local function in_folder(fn)
  local dir = command.temp_dir()
  local _ <close> = async.defer(function() command.remove_dir(dir) end)
  return fn(dir)
end

local function exists(path)
  return (os.execute("test -e " .. command.quote(path)))
end

-- connected(path, fn): fn(client, peer, server).
local function connected(path, fn)
  local server <close> = net.listen_unix(path)
  local client <close> = net.connect_unix(path)
  local peer <close> = server:accept()
  return fn(client, peer, server)
end

describe("a Unix socket", function()
  it("carries bytes both ways", function()
    in_folder(function(dir)
      connected(dir .. "/s", function(client, peer)
        client:write("ping\n", 1, "\n")
        assert.equal("ping", peer:read("l"))
        assert.equal(1, peer:read("n"))
        peer:write("pong\n")
        peer:shutdown()
        assert.equal("pong\n", client:read("a"))
        assert.is_nil(client:read("l"))
      end)
    end)
  end)

  it("says who is at the other end", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      connected(path, function(client, peer, server)
        assert.same({ family = "unix", path = path }, server:address())
        assert.same({ family = "unix", path = path }, peer:sock())
        assert.same({ family = "unix" }, client:sock())
        local them, us = client:peer(), peer:peer()
        assert.equal(path, them.path)
        assert.is_nil(us.path)
        for _, a in ipairs { them, us } do
          assert.equal("unix", a.family)
          assert.is_true(a.pid > 0)
          assert.equal(them.uid, a.uid)
          assert.equal(them.gid, a.gid)
        end
        assert.equal("<Stream open " .. path .. ">", tostring(client))
        assert.equal("<Stream open unix socket>", tostring(peer))
        assert.equal("<Server open " .. path .. ">", tostring(server))
      end)
    end)
  end)

  it("waits for a slow reader, and a reset is an error #real", function()
    in_folder(function(dir)
      connected(dir .. "/s", function(client, peer)
        local writer = async.create_task(client.write, client, ("x"):rep(1000000))
        async.sleep(0.01)
        assert.is_false(writer:done())
        assert.equal(("x"):rep(1000000), peer:read(1000000))
        async.await(writer)
        peer:close()
        local e = refuses("OSError", dir .. "/s", function()
          while true do client:write("x") async.sleep(0) end
        end)
        assert.equal("EPIPE", e.code)
      end)
    end)
  end)

  it("has abstract names", function()
    local name = "\0lunation-" .. os.time() .. "-" .. math.random(1 << 40)
    connected(name, function(client, peer, server)
      assert.equal(name, server:address().path)
      assert.equal(name, client:peer().path)
      assert.equal("<Stream open @" .. name:sub(2) .. ">", tostring(client))
      client:write("x\n")
      assert.equal("x", peer:read())
    end)
    assert.equal("ECONNREFUSED", refuses("OSError", "@", net.connect_unix, name).code)
    local long <close> = net.listen_unix("\0" .. ("n"):rep(107))
    assert.equal(108, #long:address().path)
  end)

  it("takes names of up to 107 bytes and cuts none", function()
    in_folder(function(dir)
      local path = dir .. "/"
      path = path .. ("n"):rep(107 - #path)
      connected(path, function(client, peer)
        assert.is_true(exists(path))
        client:write("whole\n")
        assert.equal("whole", peer:read())
      end)
      for name, fn in pairs { connect_unix = net.connect_unix, listen_unix = net.listen_unix } do
        local e = refuses("OSError", {}, fn, path .. "n")
        assert.equal(("%s %sn: ENAMETOOLONG"):format(name, path), e.message)
        assert.equal("ENAMETOOLONG", e.code)
        assert.equal(path .. "n", e.path)
        assert.equal("ENAMETOOLONG", refuses("OSError", name, fn, "\0" .. ("n"):rep(108)).code)
      end
    end)
  end)

  it("throws OSErrors that name the path", function()
    in_folder(function(dir)
      local path = dir .. "/missing/s"
      local e = refuses("OSError", {}, net.listen_unix, path)
      assert.equal("listen_unix " .. path .. ": ENOENT", e.message)
      assert.equal(path, e.path)
      assert.equal("listen_unix", e.syscall)
      e = refuses("OSError", {}, net.connect_unix, dir .. "/s")
      assert.equal("connect_unix " .. dir .. "/s: ENOENT", e.message)
    end)
  end)

  it("checks its arguments", function()
    for name, fn in pairs { connect_unix = net.connect_unix, listen_unix = net.listen_unix } do
      refuses("TypeError", { "#1", name, "string" }, fn)
      refuses("ValueError", { "#1", name, "empty" }, fn, "")
      refuses("ValueError", { "#1", name, "NUL" }, fn, "/tmp/a\0b")
      refuses("TypeError", { "#2", name }, fn, "/tmp/a", 1)
      refuses("ValueError", { "#2", name, "limit" }, fn, "/tmp/a", { limit = 0 })
    end
    refuses("TypeError", { "#2", "timeout" }, net.connect_unix, "/tmp/a", { timeout = "1" })
    refuses("ValueError", { "#2", "mode" }, net.listen_unix, "/tmp/a", { mode = 512 })
    refuses("ValueError", { "#2", "backlog" }, net.listen_unix, "/tmp/a", { backlog = 0 })
    refuses("TypeError", { "#2", "unlink" }, net.listen_unix, "/tmp/a", { unlink = 1 })
  end)

  it("has a limit for lines", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local server <close> = net.listen_unix(path, { limit = 5 })
      local client <close> = net.connect_unix(path, { limit = 6 })
      local peer <close> = server:accept()
      client:write("123456\n")
      peer:write("1234567\n")
      refuses("LimitOverrunError", "5", peer.read, peer)
      refuses("LimitOverrunError", "6", client.read, client)
    end)
  end)
end)

describe("the file of a server", function()
  it("goes with the server", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local server = net.listen_unix(path)
      assert.is_true(exists(path))
      server:close()
      assert.is_nil(exists(path))
      helper.without_sites(function()
        net.listen_unix(path)
        collectgarbage()
        collectgarbage()
      end)
      assert.is_nil(exists(path))
    end)
  end)

  it("is left alone if it is another one by now", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local first <close> = net.listen_unix(path)
      os.remove(path)
      local second <close> = net.listen_unix(path)
      first:close()
      assert.is_true(exists(path))
      net.connect_unix(path):close()
      second:accept():close()
    end)
  end)

  it("has the mode that was asked for", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      for _, mode in ipairs { "600", "660", "777" } do
        local _ <close> = net.listen_unix(path, { mode = tonumber(mode, 8) })
        local pipe <close> = io.popen("stat -c %a " .. command.quote(path))
        assert.equal(mode, pipe:read("l"))
      end
    end)
  end)

  it("is replaced only if nobody listens and that was asked for", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local stale = ("import socket; socket.socket(socket.AF_UNIX).bind(%q)"):format(path)
      assert(os.execute("python3 -c " .. command.quote(stale)))
      assert.is_true(exists(path))
      assert.equal("ECONNREFUSED", refuses("OSError", path, net.connect_unix, path).code)
      assert.equal("EADDRINUSE", refuses("OSError", path, net.listen_unix, path).code)
      local server <close> = net.listen_unix(path, { unlink = true })
      assert.equal("EADDRINUSE", refuses("OSError", path, net.listen_unix, path, { unlink = true }).code)
      local _ <close> = net.connect_unix(path)
      server:accept():close() -- that of the one who asked whether anybody listens
      server:accept():close()
      server:close()
      command.write_file(path, "no socket")
      assert.equal("EADDRINUSE", refuses("OSError", path, net.listen_unix, path, { unlink = true }).code)
      assert.equal("no socket", command.slurp(path))
    end)
  end)
end)

describe("connect_unix", function()
  it("waits while the server's queue is full, up to its timeout #real", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local server <close> = net.listen_unix(path, { backlog = 1 })
      local list <close> = setmetatable({}, { __close = function(self) for _, s in ipairs(self) do s:close() end end })
      local e
      repeat
        local ok, s = pcall(net.connect_unix, path, { timeout = 0.02 })
        if ok then list[#list + 1] = s else e = s end
      until not ok or #list > 10
      assert.is_true(async.isinstance(e, async.TimeoutError))
      assert.is_truthy(e.message:find(path, 1, true))
      local waiting = async.create_task(net.connect_unix, path)
      async.sleep(0.005)
      assert.is_false(waiting:done())
      server:accept():close()
      async.await(waiting):close()
      waiting = async.create_task(net.connect_unix, path)
      local cut = async.create_task(net.connect_unix, path)
      turns()
      cut:cancel()
      async.wait { cut }
      assert.is_true(cut:cancelled())
      for _ = 1, #list do server:accept():close() end
      async.await(waiting):close()
    end)
  end)

  it("gives up at once with a timeout of 0", function()
    refuses("TimeoutError", "/nowhere", net.connect_unix, "/nowhere", { timeout = 0 })
  end)

  it("lets others run when it never has to wait", function()
    in_folder(function(dir)
      local path, ticks = dir .. "/s", 0
      local _ <close> = net.listen_unix(path, { backlog = 1000 })
      local ticker = async.create_task(function()
        while true do
          ticks = ticks + 1
          async.sleep(0)
        end
      end)
      local _ <close> = async.defer(function()
        ticker:cancel()
        async.wait { ticker }
      end)
      for _ = 1, 400 do net.connect_unix(path):close() end
      assert.is_true(ticks > 2)
    end)
  end)

  it("is for tasks alone", function()
    local got = async.Future()
    async.get_running_loop():call_soon(function() got:set_result(select(2, pcall(net.connect_unix, "/x"))) end)
    assert.equal("RuntimeError", async.await(got).name)
  end)
end)

describe("serve over Unix sockets", function()
  it("serves, counts, and ends with its last connection", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local server <close> = net.listen_unix(path)
      local serving = async.create_task(server.serve, server, function(s)
        for line in s:lines() do s:write(line:upper(), "\n") end
      end)
      local answers = async.map({ "a", "b", "c" }, function(word)
        local s <close> = net.connect_unix(path)
        s:write(word, "\n")
        return s:read()
      end)
      assert.same({ "A", "B", "C", n = 3 }, answers)
      local open <close> = net.connect_unix(path)
      open:write("d\n")
      assert.equal("D", open:read())
      assert.is_true(helper.eventually(function() return server:stats().live == 1 end))
      assert.same({ accepted = 4, failed = 0, live = 1 }, server:stats())
      server:close()
      assert.is_false(serving:done())
      open:close()
      async.await(serving)
      assert.same({ accepted = 4, failed = 0, live = 0 }, server:stats())
    end)
  end)

  it("talks to python3's sockets, either way #real", function()
    in_folder(function(dir)
      local path = dir .. "/s"
      local server <close> = net.listen_unix(path)
      local program = [[
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"from python\n")
print(s.makefile().readline(), end="")
]]
      local pid = command.start { "python3", "-c", program, path, log = dir .. "/log" }
      local peer <close> = server:accept()
      assert.equal("from python", peer:read())
      assert.is_true(peer:peer().pid > 0)
      peer:write("to python\n")
      peer:close()
      command.wait_until(command.ended(pid))
      assert.equal("to python\n", command.slurp(dir .. "/log"))
      local listening = [[
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
c, _ = s.accept()
c.sendall(c.makefile().readline().upper().encode())
]]
      pid = command.start { "python3", "-c", listening, dir .. "/p", log = dir .. "/log" }
      local client
      assert.is_true(helper.eventually(function()
        local ok, s = pcall(net.connect_unix, dir .. "/p")
        client = ok and s
        return ok
      end))
      local _ <close> = client
      client:write("hello\n")
      assert.equal("HELLO\n", client:read("a"))
      command.wait_until(command.ended(pid))
    end)
  end)
end)

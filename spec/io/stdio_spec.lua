-- async.stdin, async.stdout, async.stderr: over pipes, files, sockets, terminals, in programs of their own. What they
-- must not do to others is looked up in /proc: the flags of an open file that is shared.
local helper = require "spec.helper"
local command = require "spec.support.command"

-- What scripts here begin with. `flags(fd)`: of the open file behind a descriptor, as the kernel says. `go()` lets
-- those of the shell's line go on that `await`. `ticks` counts what another task does meanwhile; the 20th calls go().
local PRELUDE = [[
  local async = require "lunation"
  local function flags(fd) return io.open("/proc/self/fdinfo/" .. fd):read "a":match "flags:%s*(%d+)" end
  local before = { flags(0), flags(1) }
  local stdin, stdout, stderr = async.stdin, async.stdout, async.stderr
  local function peak() return tonumber(io.open "/proc/self/status":read "a":match "VmHWM:%s*(%d+)") end
  local function go() io.open(os.getenv "D" .. "/go", "w"):close() end
  local ticks = 0
  local function tick()
    return async.create_task(function()
      while true do
        async.sleep(0.001)
        ticks = ticks + 1
        if ticks == 20 then go() end
      end
    end)
  end
]]

local AWAIT = "await() { i=0; until [ -e $D/go ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.02; done; }; rm -f $D/go; "

local dir
setup(function() dir = command.temp_dir() end)
teardown(function() command.remove_dir(dir) end)

local function write_script(text, name)
  local path = dir .. "/" .. (name or "script.lua")
  command.write_file(path, PRELUDE:gsub("\n", " ") .. text)
  return path
end

-- A line for the shell in which $L is the command and $S the script -> stdout, stderr, exit code, signal
local function shell(line, text, spec)
  local call = { "sh", "-c", AWAIT .. line }
  for name, value in pairs(spec or {}) do call[name] = value end
  call.env = { L = command.lunation, S = write_script(text or ""), D = dir }
  call.limit = 30 * math.max(1, helper.slow // 2)
  return command.run(call)
end

-- It must end well and say nothing on stderr; what it printed.
local function good(line, text, spec)
  local out, err, code = shell(line, text, spec)
  if code ~= 0 or err ~= "" then error(("status %d\n%s%s"):format(code, out:sub(1, 2000), err:sub(1, 2000)), 2) end
  return out
end

describe("async.stdin over a pipe", function()
  it("reads with every format, to the end", function()
    assert.equal("one\ntwo\n\t3\tabc\nrest|\tnil\t\n", good("printf 'one\\ntwo\\n3 abcde\\nrest|' | $L $S", [[
      print(stdin:read())
      print(stdin:read("L", "n"))
      stdin:read(1)
      print(stdin:read(3))
      stdin:read()
      print(stdin:read("a") .. "\t" .. tostring(stdin:read()) .. "\t" .. stdin:read("a"))
    ]]):gsub("\n\t3\n", "\n\t3\t", 1))
  end)

  it("of a one-liner", function()
    assert.equal("x\n", good("echo x | $L -l async=lunation -e 'print(async.stdin:read())'"))
  end)

  it("is the same stream each time, and lets other tasks run while it waits", function()
    assert.equal("true\ttick\nline\n", good("(await; echo line) | $L $S", [[
      local ticked
      async.create_task(function() ticked = "tick" go() end)
      local line = stdin:read()
      print(stdin == async.stdin, ticked)
      print(line)
    ]]))
  end)

  it("loses no byte to a cancelled read, and has one reader at a time", function()
    assert.equal("TimeoutError\nRuntimeError\nab\n", good("(printf a; await; echo b) | $L $S", [[
      print(select(2, pcall(async.wait_for, function() return stdin:read() end, 0.02)).name)
      local task = async.create_task(stdin.read, stdin)
      async.sleep(0)
      print(select(2, pcall(stdin.read, stdin)).name)
      go()
      print(async.await(task))
    ]]))
  end)

  it("reads a megabyte that comes in pieces of any size", function()
    local text = "for i = 1, 20000 do io.write(('%050d\\n'):format(i)) end"
    assert.equal("1020000\t20000\n", good("$L -e \"" .. text .. "\" | $L $S", [[
      local size, n = 0, 0
      for line in stdin:lines("L") do
        size, n = size + #line, n + 1
        if tonumber(line) ~= n then error("line " .. n) end
      end
      print(size, n)
    ]]))
  end)

  it("closed, leaves the descriptor to io", function()
    assert.equal("EBADF\tread stdin: the stream is closed\nline\n", good("(sleep 0.1; echo line) | $L $S", [[
      stdin:close()
      local e = select(2, pcall(stdin.read, stdin))
      print(e.code, e.message)
      print(io.read())
    ]]))
  end)
end)

describe("async.stdout", function()
  it("keeps its order with print and io.write", function()
    for _, line in ipairs { "$L $S | cat", "$L $S > $D/out; cat $D/out", "$L $S >> $D/more; cat $D/more" } do
      assert.equal("a\nb\nc\nd\n2\n", good(line, [[
        print "a"
        stdout:write("b\n")
        io.write("c\n")
        stdout:write("d", "\n", 2, "\n")
      ]]), line)
    end
  end)

  it("keeps it behind a write that the reader is slow to take", function()
    -- A little more than a pipe holds.
    assert.equal("70008\nprinted\n", good("$L $S | (await; cat) > $D/out; wc -c < $D/out; tail -1 $D/out", [[
      local ticker = tick()
      stdout:write(("x"):rep(69999), "\n")
      print "printed"
      io.stdout:flush()
      ticker:cancel()
    ]]))
  end)

  it("goes one way, as stdin does", function()
    assert.equal(("OSError\tEBADF\tread stdout: the stream is write-only\n"
      .. "OSError\tEBADF\twrite stdin: the stream is read-only\n"):rep(2), good(
      "echo | $L $S | cat; $L $S < $S > $D/out; cat $D/out", [[
      local function say(ok, e) print(e.name, e.code, e.message) end
      say(pcall(stdout.read, stdout))
      say(pcall(stdin.write, stdin, "x"))
    ]]))
  end)

  it("is called by its name", function()
    assert.equal("<Stream open stdout>\t<Stream closed stderr>\tstdin\n", good("echo | $L $S | cat", [[
      stderr:close()
      print(tostring(stdout) .. "\t" .. tostring(stderr) .. "\t" .. stdin:peer().family)
    ]]))
  end)

  it("to a slow reader takes bounded memory", function()
    local out, err = shell("$L $S | (sleep 0.2; wc -c)", [[
      local piece = ("x"):rep(100000)
      for _ = 1, 300 do stdout:write(piece) end
      io.stderr:write(peak())
    ]])
    assert.equal("30000000\n", out)
    if helper.slow == 1 then assert.is_true(tonumber(err) < 16000, err .. " KiB") end
  end)

  it("whose reader has gone throws EPIPE, which ends a script that lets it", function()
    local out, err, code = shell("{ $L $S; echo $? >&2; } | head -1", [[
      for i = 1, 1000000 do stdout:write(i, "\n") end
    ]])
    assert.equal("1\n", out)
    assert.equal(0, code)
    assert.matches("^lunation: OSError: write stdout: EPIPE\n.*\n1\n$", err)
  end)

  it("whose reader has gone can be lived with", function()
    local out, err, code = shell("{ $L $S; echo $? >&2; } | head -1", [[
      local ok, e
      repeat ok, e = pcall(stdout.write, stdout, "line\n") until not ok
      stderr:write(e.code, "\n")
    ]])
    assert.same({ "line\n", "EPIPE\n0\n", 0 }, { out, err, code })
  end)

  it("without any reader from the start throws EPIPE", function()
    local _, err = shell("{ trap '' PIPE; while echo x; do sleep 0.02; done 2>/dev/null; $L $S; } | true", [[
      io.stderr:write(select(2, pcall(stdout.write, stdout, "x")).message, "\n")
    ]])
    assert.equal("write stdout: EPIPE\n", err)
  end)

  it("cannot be half closed where its descriptor stays open", function()
    local _, err = shell("$L $S | cat; $L $S > /dev/null", [[
      io.stderr:write(select(2, pcall(stdout.shutdown, stdout)).message, "\n")
    ]])
    assert.equal(("shutdown stdout: ENOTSUP\n"):rep(2), err)
  end)
end)

describe("output that is accepted", function()
  it("goes out though the writer is cancelled and the run ends", function()
    assert.equal("400000\n", good("$L $S | wc -c", [[
      local task = async.create_task(stdout.write, stdout, ("x"):rep(400000))
      async.sleep(0)
      task:cancel()
    ]]))
  end)

  it("goes out before os.exit", function()
    local out, err, code = shell("{ $L $S; echo $? >&2; } | wc -c", [[
      async.create_task(stdout.write, stdout, ("x"):rep(400000))
      async.sleep(0)
      os.exit(3)
    ]])
    assert.same({ "400000\n", "3\n", 0 }, { out, err, code })
  end)

  it("goes out of a file's queue, too", function()
    assert.equal("400000\n", good("$L $S > $D/big; wc -c < $D/big", [[
      local task = async.create_task(stdout.write, stdout, ("x"):rep(400000))
      async.sleep(0)
      task:cancel()
    ]]))
  end)

  it("does not hold the end up for ever", function()
    assert.equal("over\n", good("{ $L $S; touch $D/over; } | (i=0; until [ -e $D/over ] || [ $i -gt 600 ]; "
      .. "do i=$((i+1)); sleep 0.05; done; [ -e $D/over ] && echo over)", [[
      local task = async.create_task(stdout.write, stdout, ("x"):rep(400000))
      async.sleep(0)
      task:cancel()
    ]]))
  end)
end)

describe("a redirected file", function()
  it("is read and written, byte for byte", function()
    local file <close> = assert(io.open(dir .. "/in", "wb"))
    for i = 1, 40000 do file:write(i * 7919 % 1000003, "\n\0") end
    file:close()
    assert.equal("same\n", good("$L $S < $D/in > $D/copy; cmp $D/in $D/copy && echo same", [[
      while true do
        local piece = stdin:read_some()
        if not piece then break end
        stdout:write(piece)
      end
    ]]))
  end)

  it("has one place for all who share it", function()
    assert.equal("before\nmine\nafter\n", good("{ echo before; $L $S; echo after; } > $D/log; cat $D/log", [[
      stdout:write("mine\n")
    ]]))
    assert.equal("two\nthree\n", good("printf 'one\\ntwo\\nthree\\n' > $D/in; { read x; $L $S; } < $D/in", [[
      print((stdin:read("a"):gsub("\n$", "")))
    ]]))
  end)

  it("that fails says how", function()
    local _, err = shell("$L $S < $D > /dev/full", [[
      io.stderr:write(select(2, pcall(stdin.read, stdin)).message, "\n")
      io.stderr:write(select(2, pcall(stdout.write, stdout, "x")).message, "\n")
    ]])
    assert.equal("read stdin: EISDIR\nwrite stdout: ENOSPC\n", err)
  end)

  it("may be /dev/null", function()
    assert.equal("nil\t\n", good("$L $S </dev/null 2>/dev/null", [[
      stderr:write("nobody reads this")
      print(stdin:read(), stdin:read("a"))
    ]]))
  end)

  it("may be read by a cancelled task", function()
    assert.equal("line\n", good("echo line > $D/in; $L $S < $D/in", [[
      local task = async.create_task(stdin.read, stdin)
      async.sleep(0)
      task:cancel()
      async.wait { task }
      async.sleep(0.02)
      print(stdin:read())
    ]]))
  end)

  it("may be closed while it is read and written", function()
    assert.equal("ECANCELED\tECANCELED\n", good("echo line > $D/in; $L $S < $D/in > $D/out 2> $D/err; cat $D/err", [[
      local reading, writing = async.create_task(stdin.read, stdin), async.create_task(stdout.write, stdout, "x")
      async.sleep(0)
      stdin:close()
      stdout:close()
      async.wait { reading, writing }
      stderr:write(reading:exception().code, "\t", writing:exception().code, "\n")
    ]]))
  end)
end)

describe("a closed descriptor", function()
  it("is refused, and nothing of ours takes its place", function()
    local script = [[
      local ok, e = pcall(function() return async.stdin end)
      io.stderr:write(e.name, " ", e.code, " ", e.message, "\n")
      io.stderr:write(tostring(select(2, pcall(function() return async.stdout end))), "\n")
      io.write "lost"
      io.stderr:write(tostring(io.read()), "\n")
    ]]
    local path = write_script(script, "closed.lua")
    command.write_file(path, "local async = require 'lunation' " .. script)
    local _, err, code = shell("$L $D/closed.lua <&- >&-")
    assert.equal("OSError EBADF open stdin: EBADF\nOSError: open stdout: EBADF\nnil\n", err)
    assert.equal(0, code)
  end)
end)

describe("an open file that others have, too", function()
  -- Before, during and after, as seen on the shell's own descriptors.
  local CHECK = "cat /proc/self/fdinfo/%d | grep flags: >&2; "
  local SCRIPT = [[
    local first = stdin:read()
    stdout:write(first, "\n")
    local second = async.create_task(stdin.read, stdin)
    local writing = async.create_task(stdout.write, stdout, ("x"):rep(200000), "\n")
    local ticker = tick()
    async.sleep(0.01)
    if flags(0) ~= before[1] or flags(1) ~= before[2] then stderr:write("flags have changed\n") end
    if KILL then async.signal.raise "KILL" end
    async.await(second)
    async.await(writing)
    ticker:cancel()
    if ticks < 10 then stderr:write("the loop has stood still\n") end
  ]]

  local function unchanged(line, text)
    local out, err = shell(line, text)
    local flags = {}
    for value in err:gmatch("flags:%s*(%d+)") do flags[#flags + 1] = value end
    assert.equal(2, #flags, err)
    assert.equal(flags[1], flags[2], err)
    assert.is_nil(err:find("changed", 1, true) or err:find("stood still", 1, true), err)
    return out
  end

  for fd = 0, 1 do
    local check = CHECK:format(fd)
    it(("is not touched: descriptor %d"):format(fd), function()
      local pipe = "(echo one; sleep 0.1; echo two) | { %s $L $S; %s } | (await; wc -c)"
      assert.equal("200005\n", unchanged(pipe:format(check, check), SCRIPT))
    end)

    it(("is not touched by one that is killed: descriptor %d"):format(fd), function()
      local pipe = "(echo one; sleep 0.1; echo two) | { %s ($L $S; true) 2>/dev/null; %s } | wc -c"
      unchanged(pipe:format(check, check), "KILL = true " .. SCRIPT)
    end)
  end

  it("is not touched where it cannot be opened again, and is read and written all the same", function()
    if io.popen("id -u"):read("l") ~= "0" then return pending("only root can become somebody else") end
    local become = "setpriv --reuid 65534 --clear-groups"
    local reachable = os.execute(become .. " test -x " .. command.quote(command.lunation))
    if not reachable then return pending("the command is out of nobody's reach") end
    local pipe = "chmod 777 $D; chmod 644 $S; "
      .. "(echo one; sleep 0.1; echo two) | { %s %s $L $S; %s } | (await; wc -c)"
    for fd = 0, 1 do
      local check = CHECK:format(fd)
      assert.equal("200005\n", unchanged(pipe:format(check, become, check), SCRIPT))
    end
    assert.equal("65537\n", good("chmod 777 $D; chmod 644 $S; " .. become .. " $L $S | (await; wc -c)", [[
      stdout:write(("x"):rep(65536)) -- fills the pipe
      local ticker = tick()
      stdout:write("y")
      ticker:cancel()
      if ticks < 10 then error("the loop has stood still") end
    ]]))
  end)

  it("is not touched if it is a socket", function()
    write_script([[
      stdout:write("first\n")
      for line in stdin:lines() do stdout:write("got ", line, "\n") end
      local ticker = tick()
      stdout:write(("x"):rep(3000000), "\n")
      ticker:cancel()
      stderr:write(flags(0) == before[1] and flags(1) == before[2] and "same" or "changed", "\n")
      if ticks < 10 then stderr:write("the loop has stood still\n") end
      stdout:shutdown()
    ]], "socket.lua")
    local out, err = shell("(echo one; echo two) | socat -t 10 - EXEC:\"$L $D/socket.lua\" | (await; cat)")
    assert.equal("same\n", err)
    assert.is_true(out == "first\ngot one\ngot two\n" .. ("x"):rep(3000000) .. "\n")
  end)
end)

describe("the standard streams", function()
  it("belong to the loop that runs", function()
    assert.equal("no running event loop\nfalse\none\nthree\n", helper.plain([[
      local first
      print(thrown(function() return async.stdin end).message)
      async.run(function() first = async.stdin end)
      async.run(function() print(first == async.stdin) end)
      local one, two = async.new_event_loop(), async.new_event_loop()
      one:run_until_complete(function() print(async.stdin:read()) end)
      one:close()
      -- What the first loop had read ahead has gone with it.
      local file = io.open(os.getenv "D" .. "/in", "ab")
      file:write "three\n"
      file:close()
      two:run_until_complete(function() print(async.stdin:read()) end)
      two:close()
    ]], { env = { D = dir }, prefix = (function()
      command.write_file(dir .. "/in", "one\ntwo\n")
      return { "sh", "-c", "exec \"$@\" < " .. dir .. "/in", "sh" }
    end)() }))
  end)

  it("are nothing that a test leaves behind, even under the sweeps", function()
    command.write_file(dir .. "/printing_spec.lua", [[
      local async = require "lunation"
      it("prints", function() async.stdout:write("printed\n") end)
      it("reads", function() assert.equal("line", async.stdin:read("L"):sub(1, 4)) end)
      it("waits in vain", function() async.pcall(async.wait_for, function() async.stdin:read("a") end, 0.001) end)
      it("prints much", function() async.stdout:write(("x"):rep(200000)) end)
    ]])
    for _, options in ipairs { "", "--sweep=cancel", "--sweep=throw" } do
      local out, _, code = shell(
        "(yes line | head -100; sleep 0.5) | $L test " .. options .. " $D/printing_spec.lua | (sleep 0.1; tr -d x)")
      assert.matches("4 successes / 0 failures / 0 errors", out, 1, true)
      assert.equal(0, code)
    end
  end)

  it("do not keep a virtual clock from seeing that nothing is left to wait for", function()
    local _, err, code = shell("$L --virtual-time $S | cat; true", [[
      stdout:write("x")
      async.sleep(86400)
      stderr:write("a day\n")
      async.await(async.Future())
    ]])
    assert.matches("^a day\nlunation: RuntimeError: nothing is left to wait for", err)
    assert.equal(0, code)
  end)

  it("are waited for under a virtual clock", function()
    assert.equal("line\n", good("(sleep 0.1; echo line) | $L --virtual-time $S", "print(stdin:read())"))
  end)

  it("leave no descriptor behind", function()
    assert.equal("5\n", good("echo | $L $S | cat", [[
      local function count()
        os.execute "ls /proc/$PPID/fd > $D/list"
        local list <close> = io.open(os.getenv "D" .. "/list")
        return select(2, list:read "a":gsub("\n", "\n"))
      end
      collectgarbage()
      local n = count()
      stdin:close() stdout:close() stderr:close()
      async.sleep(0)
      print(n - count()) -- two for each pipe, one for the file
    ]]))
  end)

  it("check their arguments as all streams do", function()
    assert.equal("nil\n", good("$L $S < /dev/null", [[
      assert(not pcall(stdout.write, stdout, {}))
      assert(not pcall(stdin.read, stdin, "x"))
      print(rawget(async, "stdin"))
    ]]))
  end)
end)

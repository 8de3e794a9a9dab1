-- Children one by one: starting them with all options, their streams, signals, waiting, and what is left when the
-- object goes. Every test ends with the children it began with.
local async = require "lunation"
local process = async.process
local core = require "lunation.process.core"
local children = require "spec.support.children"
local command = require "spec.support.command"
local helper = require "spec.helper"

local refuses = helper.refuses
local started, begin, finish = children.guard()
before_each(begin)
after_each(finish)

-- A child that does what the shell's text says, with pipes unless opts says otherwise.
local function shell(text, opts)
  local all = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }
  for name, value in pairs(opts or {}) do all[name] = value end
  return process.spawn("sh", { "-c", text }, all)
end

-- What it prints.
local function output(text, opts)
  local p <close> = shell(text, opts)
  return (p:communicate())
end

describe("spawn", function()
  it("passes arguments as they are", function()
    local p <close> = process.spawn("printf", { "<%s>", "a b", "", "$HOME;'\"*", 12, "\n" }, { stdout = "pipe" })
    assert.equal("<a b><><$HOME;'\"*><12><\n>", p:communicate())
  end)

  it("gives pid and streams", function()
    local p <close> = shell("echo $$; cat >&2")
    assert.equal(p.pid, p.stdout:read("n"))
    p.stdin:write("to stderr"):shutdown()
    assert.equal("to stderr", p.stderr:read("a"))
    assert.same({ 0, nil }, { p:wait() })
  end)

  it("leaves the streams alone that are not asked for", function()
    local p <close> = process.spawn("true")
    assert.same({}, { p.stdin, p.stdout, p.stderr })
    assert.equal(0, p:wait())
  end)

  it("inherits by default", function()
    local out = helper.command [[
      local p <close> = require("lunation.process").spawn("sh", { "-c", "echo inherited; echo error >&2" })
      print(p:wait())
    ]]
    assert.equal("inherited\n0\tnil\n", out)
    out = helper.command [[
      io.write("before, ")
      require("lunation.process").run("printf", { "child, " }, { stdout = "inherit" })
      io.write("after")
    ]]
    assert.equal("before, child, after", out)
  end)

  it("works where our stdin is closed, also in the stock interpreter", function()
    local program = [[
      local process = require "lunation.process"
      print(async.run(function() return process.run("cat", {}, { input = "x" }).stdout end))
      local function spawned() return process.spawn("cat", {}, { stderr = "null" }):wait() end
      print(async.run(spawned))
    ]]
    local closed = { prefix = { "sh", "-c", 'exec "$0" "$@" <&-' } }
    assert.equal("x\n1\tnil\n", helper.plain(program, closed))
  end)

  it("hears of ends though our parent has blocked the signal", function()
    local out = helper.command([[print(require("lunation.process").run("true", {}, { timeout = 10 }).code)]],
      { prefix = { "env", "--block-signal=CHLD", "--ignore-signal=CHLD" } })
    assert.equal("0\n", out)
  end)

  it("knows null, and stderr in stdout", function()
    assert.equal("ab", output("cat; printf a; printf b >&2", { stdin = "null", stderr = "stdout" }))
    assert.is_nil(output("echo x; echo y >&2", { stdout = "null", stderr = "null" }))
  end)

  it("takes descriptors and open files", function()
    local file = assert(io.tmpfile())
    local _ <close> = file
    file:write("first\n")
    local p <close> = process.spawn("sh", { "-c", "echo second; echo third >&2" }, { stdout = file, stderr = file })
    assert.equal(0, p:wait())
    file:seek("set")
    assert.equal("first\nsecond\nthird\n", file:read("a"))
    local input <close> = async.fs.open("/etc/hostname")
    local q <close> = process.spawn("cat", {}, { stdin = input, stdout = "pipe" })
    assert.equal(command.slurp("/etc/hostname"), q:communicate())
    local e = refuses("OSError", { "spawn", "stdout", "closed" }, process.spawn, "true", {}, { stdout = 987 })
    assert.equal("EBADF", e.code)
  end)

  it("shares the position of a File with the child, there and back", function()
    local temp <close> = async.fs.mkstemp()
    local file = temp.file
    file:write("1\n2\n3\n4\n"):seek("set")
    assert.equal("1", file:read("l"))
    assert.equal("2\n", process.run("sh", { "-c", "read x; echo $x" }, { stdin = file }).stdout)
    assert.equal("3", file:read("l"))
    assert.equal("4\n", process.run("cat", {}, { stdin = file }).stdout)
    assert.is_nil(file:read("l"))
    file:seek("set")
    file:write("header\n")
    for i = 1, 2 do
      process.run("echo", { "child", i }, { stdout = file })
      assert.equal(7 + 16 * i - 8, file:seek())
      file:write("parent\n", i)
    end
    assert.equal("header\nchild 1\nparent\n1child 2\nparent\n2", async.fs.read_file(temp.path))
    local writing = started(file.write, file, "more")
    refuses("RuntimeError", "in use", process.spawn, "true", {}, { stdout = file })
    async.await(writing)
  end)

  it("gives streams away: one child's output into the next, a socket into both", function()
    local a <close> = process.spawn("printf", { "b\na\n" }, { stdout = "pipe" })
    local b <close> = process.spawn("sort", {}, { stdin = a.stdout, stdout = "pipe" })
    assert.equal("EBADF", refuses("OSError", "closed", a.stdout.read, a.stdout).code)
    assert.equal("a\nb\n", b:communicate())
    local ours, theirs = process.socketpair()
    local _ <close> = ours
    local c <close> = process.spawn("sh", { "-c", "read x; echo got $x" }, { stdin = theirs, stdout = theirs })
    ours:write("it\n")
    assert.equal("got it\n", ours:read("a"))
    assert.equal(0, c:wait())
  end)

  it("does not give away what is in use, and leaves it in order when it fails", function()
    local r, w = process.pipe()
    local _ <close> = r
    local _ <close> = w
    local reader = started(r.read, r, "l")
    refuses("RuntimeError", { "stdin", "another task" }, process.spawn, "cat", {}, { stdin = r })
    w:write("a\nb")
    assert.equal("a", async.await(reader))
    refuses("RuntimeError", { "stdin", "read ahead 1 bytes" }, process.spawn, "cat", {}, { stdin = r })
    assert.equal("b", r:read(1))
    local nonblocking = children.nonblocking()
    refuses("OSError", "ENOENT", process.spawn, "/nosuch", {}, { stdin = r, stdout = w })
    assert.equal(nonblocking, children.nonblocking())
    local waits = started(r.read, r, 1)
    assert.is_false(waits:done())
    w:write("c")
    assert.equal("c", async.await(waits))
    local memory, other = require("lunation.memory").pair()
    local _ <close> = memory
    local _ <close> = other
    refuses("ValueError", { "stdin", "no descriptor" }, process.spawn, "cat", {}, { stdin = memory })
    w:close()
    refuses("OSError", { "stdout", "closed" }, process.spawn, "cat", {}, { stdout = w })
  end)

  it("obeys cwd, env, extend_env", function()
    assert.equal("/\n", output("pwd", { cwd = "/" }))
    local dir <close> = async.fs.mkdtemp()
    assert.equal(dir.path .. "\n", process.run("pwd", {}, { cwd = dir }).stdout)
    assert.equal(dir.path .. "\n", process.run("ls", { "-d", dir }).stdout)
    local p <close> = process.spawn("/usr/bin/env", {}, { env = { A = "1", B = 2 }, stdout = "pipe" })
    assert.equal("A=1\nB=2\n", p:communicate())
    assert.equal("", output('printf "$HOME"', { env = { PATH = os.getenv("PATH") } }))
    assert.equal(os.getenv("PATH") .. "x", output('printf "%s" "$PATH$NEW$GONE"',
      { extend_env = { NEW = "x", GONE = false } }))
    assert.equal(os.getenv("PATH"), process.environ().PATH)
  end)

  it("looks for the program in the child's PATH", function()
    local dir = command.temp_dir()
    local _ <close> = async.defer(function() command.remove_dir(dir) end)
    command.write_file(dir .. "/hello", "#!/bin/sh\necho from there\n")
    os.execute("chmod +x " .. command.quote(dir .. "/hello"))
    local p <close> = process.spawn("hello", {}, { env = { PATH = dir }, stdout = "pipe" })
    assert.equal("from there\n", p:communicate())
    refuses("OSError", "spawn sh: ENOENT", process.spawn, "sh", {}, { env = { PATH = dir } })
  end)

  it("says what cannot be started, and leaves nothing", function()
    local descriptors = children.descriptors()
    for file, code in pairs { ["no-such-program"] = "ENOENT", ["/nosuch/x"] = "ENOENT", ["/"] = "EACCES" } do
      local e = refuses("OSError", ("spawn %s: %s"):format(file, code), process.spawn, file, {},
        { stdin = "pipe", stdout = "pipe" })
      assert.same({ code, file, "spawn" }, { e.code, e.path, e.syscall })
    end
    local e = refuses("OSError", "chdir /nosuch: ENOENT", process.spawn, "true", {}, { cwd = "/nosuch" })
    assert.equal("/nosuch", e.path)
    refuses("OSError", "chdir /bin/true: ENOTDIR", process.spawn, "true", {}, { cwd = "/bin/true" })
    assert.equal(descriptors, children.descriptors())
  end)

  it("checks its arguments before anything is opened", function()
    local spawn = process.spawn
    refuses("TypeError", { "#1", "spawn", "string" }, spawn)
    refuses("ValueError", { "#1", "empty" }, spawn, "")
    refuses("ValueError", { "#1", "NUL" }, spawn, "a\0b")
    refuses("TypeError", { "#2", "list" }, spawn, "true", "x")
    refuses("TypeError", { "#2", "list", "cwd" }, spawn, "true", { cwd = "/" })
    refuses("TypeError", { "#2", "element 2" }, spawn, "true", { "x", true })
    refuses("ValueError", { "#2", "element 1", "NUL" }, spawn, "true", { "x\0" })
    refuses("TypeError", { "#3", "table" }, spawn, "true", {}, 1)
    for field, value in pairs { cwd = 1, env = "x", extend_env = 1, detached = 1, group = "x", uid = "root", gid = {},
      limit = "x", stdin = true, stderr = {} } do
      refuses("TypeError", { "#3", field }, spawn, "true", {}, { [field] = value })
    end
    for field, value in pairs { cwd = "a\0", uid = -1, limit = 0, stdin = "pip", stdout = "stdout" } do
      refuses("ValueError", { "#3", field }, spawn, "true", {}, { [field] = value })
    end
    for _, field in ipairs { "uid", "gid", "limit" } do
      refuses("ValueError", { "#3", field }, spawn, "true", {}, { [field] = math.maxinteger })
    end
    refuses("ValueError", { "env.A=B" }, spawn, "true", {}, { env = { ["A=B"] = "x" } })
    refuses("ValueError", { "env.1" }, spawn, "true", {}, { env = { "A=B" } })
    refuses("TypeError", { "extend_env.A" }, spawn, "true", {}, { extend_env = { A = true } })
    refuses("TypeError", { "bad self" }, process.Process.wait, {})
    refuses("TypeError", { "stdin", "boolean" }, core.spawn, "true", "true\0", nil, nil, true)
  end)

  it("runs as somebody else, if it may", function()
    local opts = { uid = 65534, gid = 65533, stdout = "pipe" }
    local function id() return process.spawn("sh", { "-c", "id -u; id -g; id -G" }, opts) end
    if children.uid() == 0 then
      local p <close> = id()
      assert.equal("65534\n65533\n65533\n", p:communicate())
    else
      refuses("OSError", "spawn sh: EPERM", id)
    end
  end)

  it("limits lines as told", function()
    local p <close> = shell("echo 123456789", { limit = 5 })
    refuses("LimitOverrunError", "5", p.stdout.read, p.stdout, "l")
  end)
end)

describe("a child", function()
  it("gets none of our descriptors, whatever they are of", function()
    local net, fs = async.net, async.fs
    local n = children.inheritable()
    local dir <close> = fs.mkdtemp()
    local server <close> = net.listen("127.0.0.1", 0)
    local _ <close> = net.connect("127.0.0.1", server:address().port)
    local _ <close> = server:accept()
    local _ <close> = net.listen_unix(dir .. "/socket")
    local _ <close> = net.connect_unix(dir .. "/socket")
    local _ <close> = net.udp { host = "127.0.0.1" }
    local _ <close> = fs.open(dir .. "/file", "w")
    local _ <close> = fs.mkstemp()
    local _ <close> = fs.watch(dir.path)
    local _ <close> = async.signal.listen("USR1")
    local _ <close> = shell("read x")
    local _ = async.stderr
    for _, make in ipairs { process.pipe, process.socketpair } do
      local a, b = make()
      local _ <close> = a
      local _ <close> = b
      assert.equal(n, children.inheritable())
    end
  end)

  it("has pipes that can be opened anew, and that block", function()
    assert.equal("again", output("printf again > /dev/stdout"))
    local p <close> = shell("exec cat /proc/self/fdinfo/0 /proc/self/fdinfo/1")
    p.stdin:close()
    for flags in p:communicate():gmatch("flags:%s*(%d+)") do
      assert.equal(0, tonumber(flags, 8) & tonumber("4000", 8), "O_NONBLOCK")
    end
  end)

  it("has default signals, though we ignore SIGPIPE", function()
    local p <close> = shell("yes | true; exec cat /proc/self/status")
    local status = p:communicate()
    for _, set in ipairs { "SigIgn", "SigBlk" } do
      -- The first 31: those behind them are the C library's own affair.
      assert.equal(0, tonumber(status:match(set .. ":%s*(%x+)"), 16) & 0x7fffffff, set)
    end
  end)

  it("that ends of a signal says which", function()
    for _, signal in ipairs { "SIGTERM", "SIGKILL", "SIGUSR1" } do
      local p <close> = shell("kill -" .. signal:sub(4) .. " $$")
      assert.same({ n = 2, nil, signal }, table.pack(p:wait()))
      assert.equal(("<Process %d %s sh>"):format(p.pid, signal), tostring(p))
    end
  end)

  it("gets signals by name and number, until it has ended", function()
    local traps = 'trap "echo usr1" USR1; trap "echo usr2; exit 7" USR2; '
    local p <close> = shell(traps .. "echo ready; while :; do sleep 0.01; done")
    assert.equal("ready", p.stdout:read("l"))
    assert.equal(("<Process %d running sh>"):format(p.pid), tostring(p))
    assert.is_true(p:kill(0))
    assert.is_true(p:kill("SIGUSR1"))
    assert.equal("usr1", p.stdout:read("l"))
    assert.is_true(p:kill(12))
    assert.equal("usr2", p.stdout:read("l"))
    assert.equal(7, p:wait())
    assert.equal(("<Process %d exited 7 sh>"):format(p.pid), tostring(p))
    for _, signal in ipairs { 0, "TERM", 9 } do assert.is_false(p:kill(signal)) end
    refuses("ValueError", { "kill", "SIGNOSUCH" }, p.kill, p, "SIGNOSUCH")
    refuses("TypeError", "kill", p.kill, p, {})
    refuses("ValueError", "kill", p.kill, p, 65)
  end)

  it("leads a group, which gets the signals; or not", function()
    local p <close> = shell("sleep 100 & echo $!; wait")
    local grandchild = p.stdout:read("n")
    assert.is_true(p:kill("TERM"))
    assert.same({ n = 2, nil, "SIGTERM" }, table.pack(p:wait()))
    assert.is_true(children.eventually_gone(grandchild))
    local q <close> = shell("ps -o pgid= -p $$; exec sleep 100", { group = false })
    assert.not_equal(q.pid, q.stdout:read("n"))
    q:kill()
    assert.same({ n = 2, nil, "SIGTERM" }, table.pack(q:wait()))
  end)

  it("shares our group if it reads our terminal, which others would not let it #real", function()
    local program = [[
      local process = require "lunation.process"
      local function group(opts)
        opts.stdout = "pipe"
        local p <close> = process.spawn("sh", { "-c", "ps -o pgid= -p $$ $PPID | tr -d ' ' | tr '\\n' ' '" }, opts)
        local a, b = p:communicate():match("(%d+) (%d+)")
        return a == b and "ours" or "its own"
      end
      print(group {}, group { stdin = "null" }, group { group = true }, group { group = false, stdin = "null" })
      local p <close> = process.spawn("head", { "-n", "1" }, { stdout = "pipe" })
      print("read " .. p:communicate())
    ]]
    local path = os.tmpname()
    local _ <close> = async.defer(function() os.remove(path) end)
    command.write_file(path, program)
    local line = command.quote(command.lunation) .. " " .. command.quote(path)
    local out = process.run("sh", { "-c", 'echo typed | script -qec "$0" /dev/null', line }, { timeout = 20 }).stdout
    assert.truthy(out:find("ours\tits own\tits own\tours", 1, true), out)
    assert.truthy(out:find("read typed", 1, true), out)
  end)

  it("can be stopped and goes on", function()
    local p <close> = shell("echo a; read x; echo b")
    assert.equal("a", p.stdout:read("l"))
    p:kill("STOP")
    assert.is_true(helper.eventually(function() return children.state(p.pid) == "T" end))
    p:kill("CONT")
    p.stdin:write("\n")
    assert.equal("b", p.stdout:read("l"))
    assert.equal(0, p:wait())
  end)
end)

describe("wait", function()
  it("serves several tasks, also after the end, and a cancelled one disturbs nobody", function()
    local p <close> = shell("read x; exit 5")
    local all = { started(p.wait, p), started(p.wait, p), started(p.wait, p) }
    all[2]:cancel()
    refuses("CancelledError", {}, async.await, all[2])
    p.stdin:write("go\n")
    assert.equal(5, async.await(all[1]))
    assert.equal(5, async.await(all[3]))
    assert.equal(5, p:wait())
    for _ = 1, 300 do p:wait() end
  end)

  it("does not wait for the outputs", function()
    local p <close> = shell("sleep 2 & exit 3", { stdin = "null" })
    assert.equal(3, p:wait())
  end)

  it("hangs with a full pipe until somebody reads #real", function()
    local p <close> = shell("head -c 200000 /dev/zero")
    refuses("TimeoutError", {}, async.wait_for, function() p:wait() end, 0.05)
    assert.equal(200000, #p:communicate())
    assert.equal(0, p:wait())
  end)

  it("is not for outside of tasks nor for another loop", function()
    local p <close> = shell("exit 0")
    local done = async.Future()
    async.get_running_loop():call_soon(function() done:set_result(select(2, pcall(p.wait, p))) end)
    assert.equal("RuntimeError", async.await(done).name)
    p:wait()
    local out = helper.plain [[
      local process = require "lunation.process"
      local p
      local loop = async.new_event_loop()
      loop:run_until_complete(function() p = process.spawn("sleep", { 100 }) end)
      refuses("RuntimeError", "another event loop", async.run, function() p:wait() end)
      loop:close()
      eq(false, p:kill())
      print(async.run(function() return p:wait() end))
      async.run(function() p = process.spawn("sleep", { 100 }, { detached = true }) end)
      os.execute("kill -KILL " .. p.pid)
      print(refuses("OSError", "wait", async.run, function() p:wait() end).code)
    ]]
    assert.equal("nil\tSIGKILL\nECANCELED\n", out)
  end)
end)

describe("communicate", function()
  it("writes a lot and reads a lot on both pipes at once", function()
    local size = helper.scaled(1000000, 200000)
    local p <close> = shell(("head -c %d /dev/zero & head -c %d /dev/zero >&2 & wait; exec wc -c"):format(size, size))
    local out, err = p:communicate(("x"):rep(size))
    assert.equal(size + #(size .. "\n"), #out)
    assert.equal(size .. "\n", out:sub(size + 1))
    assert.equal(size, #err)
    assert.equal(0, p:wait())
  end)

  it("does not mind a child that does not want its input", function()
    for _, text in ipairs { "exec <&-; sleep 0.01; echo done", "head -c 1 >/dev/null; echo done", "echo done" } do
      local p <close> = shell(text)
      assert.equal("done\n", (p:communicate(("x"):rep(300000))))
      assert.equal(0, p:wait())
    end
  end)

  it("closes stdin without an input, and gives nil for what is no pipe", function()
    local p <close> = shell("cat; echo end", { stderr = "null" })
    assert.same({ n = 2, "end\n", nil }, table.pack(p:communicate()))
  end)

  it("can be called again, and loses nothing when it is cancelled", function()
    local p <close> = shell("cat; echo err >&2; read x; echo out")
    local input = ("0123456789"):rep(30000)
    for at = 1, 3 do
      local talk = started(p.communicate, p, at == 1 and input or nil)
      helper.turns(at * 3)
      talk:cancel()
      pcall(async.await, talk)
    end
    local out, err = p:communicate()
    assert.is_true(out == input .. "out\n")
    assert.equal("err\n", err)
    assert.same({ n = 2, out, err }, table.pack(p:communicate()))
  end)

  it("is for one task at a time", function()
    local p <close> = shell("read x; echo $x")
    local first = started(p.communicate, p)
    refuses("RuntimeError", "another task", p.communicate, p)
    async.await(first)
  end)

  it("goes with reading before, and with streams that are closed", function()
    local p <close> = shell("echo a; echo b; echo c >&2")
    assert.equal("a", p.stdout:read("l"))
    p.stderr:close()
    local out, err = p:communicate()
    assert.is_true(out == "b\n" or out == "")
    assert.equal("", err)
  end)

  it("checks its input", function()
    local p <close> = shell("exit 0", { stdin = "null" })
    refuses("TypeError", { "#1", "communicate" }, p.communicate, p, 12)
    refuses("ValueError", "no pipe", p.communicate, p, "x")
  end)
end)

describe("a process that is let go", function()
  it("is killed with its group at the end of the block", function()
    local pid, grandchild
    do
      local p <close> = shell("sleep 100 & echo $!; trap '' TERM; wait")
      pid, grandchild = p.pid, p.stdout:read("n")
    end
    assert.is_true(children.eventually_gone(grandchild))
    assert.is_true(helper.eventually(function() return children.state(pid) == nil end))
  end)

  it("tells its end after close, also to those who waited before", function()
    local p = shell("sleep 100")
    local waiting = started(p.wait, p)
    p:close()
    p:close()
    assert.same({ n = 2, nil, "SIGKILL" }, table.pack(async.await(waiting)))
    assert.same({ n = 2, nil, "SIGKILL" }, table.pack(p:wait()))
    refuses("OSError", "closed", p.stdout.read, p.stdout)
  end)

  it("lives as long as somebody has one of its streams", function()
    local function stream_of(name, ...) return shell(...)[name] end
    local stream <close> = helper.without_sites(function() return stream_of("stdout", "read x; echo $x", { stdin = "null" }) end)
    local fed <close> = helper.without_sites(function() return stream_of("stdin", "read x; exec sleep 9", { stdout = "null" }) end)
    local n = #children.list()
    for _ = 1, 3 do
      collectgarbage()
      helper.turns(2)
    end
    assert.equal("\n", stream:read("a"))
    fed:write("on\n")
    assert.is_true(#children.list() >= n - 1)
  end)

  it("is killed by the collector", function()
    local pid = helper.without_sites(function() return shell("sleep 100").pid end)
    for _ = 1, 2 do
      collectgarbage()
      helper.turns(2)
    end
    assert.is_true(helper.eventually(function() return children.state(pid) == nil end))
  end)

  it("is reported when it was dropped and sites are remembered", function()
    local none = { stdin = "null", stdout = "null", stderr = "null" }
    local reports = helper.reports(function() shell("sleep 100", none) end)
    assert.equal(1, #reports)
    assert.equal("Handle was never closed", reports[1].message)
    assert.truthy(tostring(reports[1].object):find("^<Child %d+>$"))
  end)

  it("goes on if it is detached #nosweep", function()
    local p = shell("sleep 100", { detached = true, stdin = "null", stdout = "null", stderr = "null" })
    p:close()
    assert.equal("S", (helper.eventually(function() return children.state(p.pid) == "S" end) and "S"))
    assert.is_true(p:kill("KILL"))
    assert.same({ n = 2, nil, "SIGKILL" }, table.pack(p:wait()))
  end)

  it("goes with its loop, all its group and whoever it started; a detached one stays", function()
    local out = helper.plain [[
      local process = require "lunation.process"
      local list = {}
      async.run(function()
        for i = 1, 5 do
          list[i] = process.spawn("sh", { "-c", "trap '' TERM INT HUP; sleep 100 & echo $!; wait" }, { stdout = "pipe" })
          print(list[i].stdout:read("n"))
        end
        list[6] = process.spawn("sleep", { 100 }, { detached = true, stdout = "null", stderr = "null" })
        print(list[6].pid)
      end)
      for i = 1, 5 do eq(nil, io.open("/proc/" .. list[i].pid .. "/stat")) end
      local children = assert(io.open("/proc/thread-self/children")):read("a")
      eq(tostring(list[6].pid), (children:gsub("%s+$", "")))
    ]]
    local pids = {}
    for pid in out:gmatch("%d+") do pids[#pids + 1] = tonumber(pid) end
    assert.equal(6, #pids)
    for i = 1, 5 do assert.is_true(children.eventually_gone(pids[i])) end
    assert.is_false(children.gone(pids[6]))
    os.execute("kill -KILL " .. pids[6])
  end)

  it("closed by force, as a test's leftovers are, is killed and reaped on the spot", function()
    local probe = require "lunation.probe"
    local p <close> = shell("trap '' TERM; echo up; while :; do sleep 0.01; done", { stdin = "null", stderr = "null" })
    p.stdout:read("l")
    local waiting = started(p.wait, p)
    for _, row in ipairs(probe.live()) do
      if row.text == "process" then probe.close(row.id) end
    end
    assert.is_nil(children.state(p.pid))
    assert.equal("ECANCELED", refuses("OSError", "wait " .. p.pid, async.await, waiting).code)
    assert.is_false(p:kill())
  end)

  it("leaves children alone that others made #nosweep", function()
    local pipe = io.popen("exit 3")
    local p <close> = shell("exit 0")
    p:wait()
    async.sleep(0.01)
    assert.same({ nil, "exit", 3 }, { pipe:close() })
  end)
end)

-- The modules of io/ as a library of the stock interpreter, where the module is loaded late, SIGPIPE does what it does
-- and libuv's pool has four threads: the main calls once, two runs in one state, a state that closes over everything
-- that is open, and the fields of one error of each kind of call.
local helper = require "spec.helper"

local plain, execute = helper.plain, helper.execute

-- What the programs begin with: something open of every kind.
local OPEN = [[
local net, fs, process, signal, memory = async.net, async.fs, async.process, async.signal, require "lunation.memory"
local function everything(dir)
  local all = {}
  local function keep(...) for _, object in ipairs { ... } do all[#all + 1] = object end return ... end
  local server = keep(net.listen("127.0.0.1", 0))
  keep(net.connect("127.0.0.1", server:address().port))
  keep(server:accept())
  keep(net.listen_unix(dir .. "/socket"))
  keep(net.connect_unix(dir .. "/socket"))
  keep(net.udp { host = "127.0.0.1" })
  keep(memory.pair())
  keep(process.pipe())
  keep(process.socketpair())
  keep(fs.open(dir .. "/file", "w+"))
  keep(fs.watch(dir))
  keep(signal.listen("USR1"))
  keep(process.spawn("sleep", { 1000 }, { stdin = "pipe", stdout = "pipe" }))
  return all
end
]]

describe("under the stock interpreter #nosweep", function()
  it("each module does its main calls", function()
    assert.equal("ok\n", plain(OPEN .. [[
async.run(function()
  local dir <close> = fs.mkdtemp()
  local server <close> = net.listen("127.0.0.1", 0)
  local function echo(s) for line in s:lines() do s:write(line, "\n") end end
  local serving = async.create_task(server.serve, server, echo)
  local s <close> = net.connect("127.0.0.1", server:address().port)
  s:write("hello\n")
  eq("hello", s:read())
  local u <close> = net.udp { host = "127.0.0.1" }
  u:send("datagram", "127.0.0.1", u:address().port)
  eq("datagram", (u:recv()))
  eq("127.0.0.1", net.getaddrinfo("127.0.0.1", 80)[1].host)
  fs.write_file(dir .. "/f", "text")
  eq("text", fs.read_file(dir .. "/f"))
  eq(4, fs.stat(dir .. "/f").size)
  eq("in", process.run("cat", {}, { input = "in" }).stdout)
  local l <close> = signal.listen("USR1")
  signal.raise("USR1")
  eq("SIGUSR1", l:next())
  server:close()
  s:close()
  async.await(serving)
  async.stdout:write("ok\n")
end)
]]))
  end)

  it("a write to a peer that is gone is an error, not SIGPIPE", function()
    assert.equal("EPIPE\tEPIPE\n", plain [[
async.run(function()
  local codes = {}
  for i, make in ipairs { async.process.pipe, async.process.socketpair } do
    local a, b = make()
    if i == 1 then a, b = b, a end
    b:close()
    codes[i] = refuses("OSError", "write", function() a:write("x") a:write("x") end).code
    a:close()
  end
  print(table.unpack(codes))
end)
]])
  end)

  it("two runs in one state each have their own, and objects of the first are closed in the second", function()
    assert.equal("15\t15\n", plain(OPEN .. [[
local dir = os.tmpname()
os.remove(dir)
os.execute("mkdir " .. dir .. " " .. dir .. "/1 " .. dir .. "/2")
local first = async.run(everything, dir .. "/1")
local second = async.run(function()
  for i, object in ipairs(first) do
    -- A watcher that is closed ends, a child tells how it ended.
    local method = object.read or object.recv or object.accept or object.next or object.wait
    local ok, e = async.pcall(method, object)
    local text = tostring(e)
    if not (ok and (e == nil or object.pid)) and e.name ~= "OSError" then error(i .. ": " .. text) end
    object:close()
    assert(tostring(object))
  end
  return everything(dir .. "/2")
end)
os.execute("rm -r " .. dir)
print(#first - 1, #second - 1)
]]))
  end)

  it("a state closes over everything that is open, with its loop still there", function()
    for _, ending in ipairs { "os.exit(3, true)", "error('x')" } do
      local stdout, stderr, code = execute(OPEN .. ([[
local dir = os.tmpname()
os.remove(dir)
os.execute("mkdir " .. dir)
all = setmetatable({}, { __gc = function(self)
  for _, object in ipairs(self) do pcall(object.close, object) pcall(tostring, object) end
  os.execute("rm -r " .. dir)
  io.stdout:write("closed\n")
end })
async.run(function()
  for i, object in ipairs(everything(dir)) do all[i] = object end
  for _, object in ipairs(all) do
    local method = object.read or object.recv or object.accept or object.next or object.wait
    async.create_task(pcall, method, object)
  end
  async.sleep(0)
  %s
end)
]]):format(ending))
      assert.equal(ending:find "exit" and 3 or 1, code, stderr)
      assert.equal("closed\n", stdout)
      assert.is_nil(stderr:find("Segmentation", 1, true))
    end
  end)

  it("runs that end in the middle of a storm leave no descriptor, and the next one nothing of theirs #real", function()
    assert.equal("ok\n", plain(([[
local storm, command = require "spec.support.storm", require "spec.support.command"
local certs, dir = require("spec.support.certificates").make(), command.temp_dir()
worlds = {} -- whose objects the state closes
local function descriptors()
  local n = 0
  for fd = 0, 999 do
    local file <close> = io.open("/proc/self/fdinfo/" .. fd)
    if file then n = n + 1 end
  end
  return n
end
local before
for seed = 1, %d do
  worlds[seed] = storm.abandon { seed = seed, tasks = 20, steps = 1000, dir = dir, certificates = certs }
  before = before or descriptors()
end
eq(before, descriptors())
command.remove_dir(dir)
certs:remove()
print "ok"
]]):format(helper.scaled(10, 4)), { limit = 100 }))
  end)

  it("nothing works outside of a task, and everything says so", function()
    assert.equal("ok\n", plain [[
local net, fs, process, signal = async.net, async.fs, async.process, async.signal
for _, case in ipairs {
  { net.connect, "127.0.0.1", 1 }, { net.listen, "127.0.0.1", 0 },
  { net.connect_unix, "/x" }, { net.listen_unix, "/tmp/x" },
  { net.udp }, { net.getaddrinfo, "localhost" }, { net.getnameinfo, { host = "127.0.0.1", port = 1 } },
  { fs.open, "/dev/null" }, { fs.stat, "/" }, { fs.read_file, "/dev/null" }, { fs.mkdir, "/x/y" }, { fs.watch, "/" },
  { fs.scandir, "/" }, { fs.mkdtemp }, { fs.copy, "/x", "/y" },
  { process.spawn, "true" }, { process.run, "true" }, { process.pipe }, { process.socketpair },
  { signal.wait, "USR1" }, { signal.listen, "USR1" }, { require("lunation.memory").pair },
} do
  refuses("RuntimeError", "", table.unpack(case))
end
print "ok"
]])
  end)

  it("every failure names the call and the object", function()
    assert.equal("ok\n", plain [[
local net, fs, process, signal = async.net, async.fs, async.process, async.signal
local function fails(code, text, fields, fn, ...)
  local e = refuses("OSError", text, fn, ...)
  eq(code, e.code, text)
  assert(math.type(e.errno) == "integer", text)
  for name, value in pairs(fields) do eq(value, e[name], text .. ": " .. name) end
end
async.run(function()
  local port
  do
    local server <close> = net.listen("127.0.0.1", 0)
    port = server:address().port
    fails("EADDRINUSE", "bind 127.0.0.1:" .. port, { syscall = "bind" }, net.listen, "127.0.0.1", port)
  end
  local at = "127.0.0.1:" .. port
  fails("ECONNREFUSED", "connect " .. at, { syscall = "connect", address = at }, net.connect, "127.0.0.1", port)
  fails("ENOENT", "connect_unix /no/such", { syscall = "connect_unix" }, net.connect_unix, "/no/such")
  fails("ENOENT", "/no/such", {}, net.listen_unix, "/no/such/socket")
  fails("ENOENT", "open /no/such", { syscall = "open", path = "/no/such" }, fs.open, "/no/such")
  for _, name in ipairs { "stat", "lstat", "scandir", "unlink", "rmdir", "realpath", "readlink" } do
    fails("ENOENT", name .. " /no/such", { syscall = name, path = "/no/such" }, fs[name], "/no/such")
  end
  fails("ENOENT", "watch /no/such", { path = "/no/such" }, fs.watch, "/no/such")
  fails("ENOENT", "rename /no/such", { path = "/no/such", dest = "/no/where" }, fs.rename, "/no/such", "/no/where")
  fails("ENOENT", "spawn /no/such", { path = "/no/such" }, process.spawn, "/no/such")
  fails("ENOENT", "chdir /no/such", { path = "/no/such" }, process.spawn, "true", {}, { cwd = "/no/such" })
  fails("ESRCH", "kill 4194303", { syscall = "kill" }, signal.kill, 4194303, 0)
  local a, b = process.pipe()
  a:close()
  fails("EBADF", "the stream is closed", { syscall = "read" }, a.read, a)
  b:close()
end)
print "ok"
]])
  end)

  it("bad numbers and strings with zeros are refused before anything is done", function()
    assert.equal("ok\n", plain [[
local net, fs, process, signal = async.net, async.fs, async.process, async.signal
local function bad(fn, ...)
  local ok, e = pcall(fn, ...)
  if ok then error("taken: " .. tostring((select(2, ...))), 2) end
  if e.name ~= "TypeError" and e.name ~= "ValueError" then error(tostring(e), 2) end
end
local NUMBERS = { -1, 0.5, 0/0, 1/0, -1/0, math.mininteger, math.maxinteger, 2^53, 2^31, "x", {}, true }
async.run(function()
  local function each(fn) for _, n in ipairs(NUMBERS) do bad(fn, n) end end
  each(function(n) return net.listen("127.0.0.1", n) end)
  each(function(n) return net.connect("127.0.0.1", n) end)
  each(function(n) return net.udp { host = "127.0.0.1", port = n } end)
  each(function(n) return net.udp { ttl = n } end)
  for _, n in ipairs { 0/0, "x", {}, true } do
    bad(net.connect, "127.0.0.1", 1, { timeout = n })
    bad(process.run, "true", {}, { timeout = n })
    bad(process.run, "true", {}, { grace = n })
  end
  for _, n in ipairs { -1, 0, 0.5, 0/0, 1/0, math.mininteger, "x", {}, true } do
    bad(net.connect, "127.0.0.1", 1, { limit = n })
    bad(net.listen, "127.0.0.1", 0, { limit = n })
    bad(process.run, "true", {}, { limit = n })
  end
  for _, n in ipairs { -1, 0.5, 0/0, 1/0, math.mininteger, "x", {}, true } do
    bad(net.listen, "127.0.0.1", 0, { backlog = n })
    bad(process.run, "true", {}, { max_output = n })
    bad(fs.mkdir, "/no/such", { mode = n })
    bad(fs.open, "/no/such", "w", { mode = n })
  end
  local a, b = process.pipe()
  for _, n in ipairs { -1, 0.5, 0/0, 1/0, math.mininteger, {}, true } do
    bad(a.read, a, n)
    bad(a.read_some, a, n)
    bad(a.peek, a, n)
    bad(a.read_until, a, "x", n)
  end
  a:close()
  b:close()
  for _, name in ipairs { "open", "stat", "lstat", "scandir", "unlink", "rmdir", "mkdir", "realpath", "readlink",
    "read_file", "exists", "access", "watch", "rmtree", "chmod", "truncate", "makedirs" } do
    bad(fs[name], "/tmp\0x", 0)
  end
  bad(fs.rename, "/tmp", "a\0b")
  bad(fs.copy, "a\0b", "/tmp/x")
  bad(fs.write_file, "a\0b", "x")
  bad(net.connect, "127.0.0.1\0.org", 80)
  bad(net.listen, "127.0.0.1\0", 0)
  bad(net.getaddrinfo, "a\0b")
  bad(net.getaddrinfo, "a", "b\0c")
  bad(net.connect_unix, "/tmp/a\0b")
  bad(process.spawn, "true\0", {})
  bad(process.spawn, "true", { "a\0b" })
  bad(process.spawn, "true", {}, { cwd = "/\0" })
  bad(process.spawn, "true", {}, { env = { ["A\0"] = "x" } })
  bad(process.spawn, "true", {}, { env = { ["A=B"] = "x" } })
  bad(process.spawn, "true", {}, { extend_env = { A = "x\0" } })
  bad(signal.listen, "USR1\0")
  bad(signal.kill, 1, "USR1\0")
  for _, n in ipairs { 0.5, 0/0, 1/0, 2^40, "x", {}, true } do bad(signal.kill, n, 0) end
end)
print "ok"
]])
  end)

  it("bad numbers are refused by files, children, datagrams and memory, too", function()
    assert.equal("ok\n", plain [[
local net, fs, process, signal, memory = async.net, async.fs, async.process, async.signal, require "lunation.memory"
local tls = require "lunation.tls"
local function bad(fn, ...)
  local ok, e = pcall(fn, ...)
  if ok then error("taken", 2) end
  if e.name ~= "TypeError" and e.name ~= "ValueError" then error(tostring(e), 2) end
end
async.run(function()
  local path = os.tmpname()
  local f <close> = fs.open(path, "r+")
  f:write("text")
  local u <close> = net.udp { host = "127.0.0.1" }
  local a <close>, b = memory.pair()
  for _, n in ipairs { 0.5, 0/0, 1/0, -1/0, "x", {}, true } do
    bad(f.seek, f, "set", n)
    bad(f.truncate, f, n)
    bad(f.read, f, n)
    bad(f.read_some, f, n)
    bad(fs.truncate, path, n)
    bad(fs.chmod, path, n)
    bad(fs.chown, path, n, -1)
    bad(u.recv, u, n)
    bad(u.send, u, "x", "127.0.0.1", n)
    bad(a.copy_to, a, b, { max = n })
    bad(memory.pair, { capacity = n })
    bad(memory.pair, { max_read = n })
    bad(process.spawn, "true", {}, { uid = n })
    bad(process.spawn, "true", {}, { stdin = n })
    bad(signal.listen, n)
    bad(signal.wait, n)
  end
  for _, n in ipairs { -1, math.mininteger } do
    bad(f.truncate, f, n)
    bad(f.read, f, n)
    bad(f.read_some, f, n)
    bad(fs.truncate, path, n)
    bad(fs.chmod, path, n)
    bad(fs.chown, path, n - 1, -1)
    bad(u.recv, u, n)
    bad(u.send, u, "x", "127.0.0.1", n)
    bad(a.copy_to, a, b, { max = n })
    bad(memory.pair, { capacity = n })
    bad(memory.pair, { max_read = n })
    bad(process.spawn, "true", {}, { gid = n })
    bad(process.spawn, "true", {}, { limit = n })
    bad(signal.listen, n)
  end
  for _, n in ipairs { 0/0, -1, "x", {}, true } do
    bad(memory.pair, { delay = n })
    bad(tls.context, { handshake_timeout = n })
  end
  for _, n in ipairs { 0/0, 1/0, -1/0, "x", {}, true } do
    bad(fs.utime, path, n, 0)
    bad(fs.utime, path, 0, n)
  end
  for _, n in ipairs { math.maxinteger, 2^31, 2^53 } do
    bad(fs.chmod, path, n)
    bad(fs.chown, path, math.maxinteger, -1)
    bad(u.send, u, "x", "127.0.0.1", n)
    bad(net.udp, { multicast_ttl = n })
    bad(process.spawn, "true", {}, { uid = math.maxinteger })
    bad(signal.listen, n)
  end
  -- Whole floats are numbers of bytes like any other.
  f:seek("set", 0.0)
  assert(f:read(4.0) == "text" and f:truncate(2.0) and fs.stat(path).size == 2)
  f:seek("set", math.maxinteger)
  refuses("OSError", "EINVAL", f.seek, f, "cur", 1)
  b:write "x"
  eq("x", a:read_some(math.maxinteger))
  os.remove(path)
  b:close()
end)
print "ok"
]])
  end)
end)

-- What a storm (storm.lua) does: the objects that its tasks share, and the calls that they draw.
--
-- Law: whatever a call makes is put where others find it, or lost on purpose, for the collector.
local async = require "lunation"
local fs, net, process, signal = async.fs, async.net, async.process, async.signal
local memory = require "lunation.memory"
local probe = require "lunation.probe"

local World = {}
World.__index = World

local KINDS = { "stream", "server", "udp", "file", "watcher", "listener", "process" }
local short = false -- whether the sockets take little in one go
local MOST = 12 -- objects of a kind; the oldest makes room, closed or lost

-- An object of the kind, or nil.
function World:any(kind, random)
  local list = self[kind]
  if #list == 0 then return nil end
  return list[random(#list)]
end

-- Objects for others to use.
function World:add(kind, object, random)
  if self.over then return object:close() end
  local list = self[kind]
  if #list >= MOST then
    local old = table.remove(list, random(#list))
    if random(3) > 1 then old:close() end
  end
  list[#list + 1] = object
end

-- Takes an object of the kind out of everybody's reach.
function World:take(kind, random)
  local list = self[kind]
  if #list == 0 then return nil end
  return table.remove(list, random(#list))
end

-- Everything is closed.
function World:close()
  self.over = true
  for _, kind in ipairs(KINDS) do
    for _, object in ipairs(self[kind]) do object:close() end
    self[kind] = {}
  end
  self.guard:close()
  short = false
end

function World:path(random) return ("%s/%s"):format(self.dir, ({ "a", "b", "c", "d/e", "d/f", "g" })[random(6)]) end

-- With short I/O little, since each piece is a request of its own.
local function bytes(random)
  return ("x\n12 "):rep(({ 0, 1, 30, 2000, 16000, 70000 })[random(short and 3 or 6)])
end

local FORMATS = { "l", "L", "a", "n", 0, 1, 100, 70000 }

-- ---- what is drawn: name, weight, call ----

local ops = {}
local function op(name, weight, fn) ops[#ops + 1] = { name = name, weight = weight, fn = fn } end

-- A call of any object of the kind.
local function on(kind, name, weight, fn)
  op(kind .. ":" .. name, weight, function(world, random)
    local object = world:any(kind, random)
    if object then return fn(object, world, random) end
  end)
end

-- ---- streams ----

op("pair", 6, function(w, r)
  local options = { { delay = 0.0005 }, { lockstep = true }, {} }
  local a, b = memory.pair(options[r(#options)])
  w:add("stream", a, r)
  w:add("stream", b, r)
end)
op("pipe", 6, function(w, r)
  local a, b = process[r(2) == 1 and "pipe" or "socketpair"]()
  w:add("stream", a, r)
  w:add("stream", b, r)
end)
op("connect", 12, function(w, r)
  local server = w:any("server", r)
  local to = server and server:address()
  if not to then return end
  local tls = r(3) == 1 and { context = w.client, server_name = "localhost" } or nil
  if to.path then return w:add("stream", net.connect_unix(to.path, { timeout = 0.01 }), r) end
  w:add("stream", net.connect(r(2) == 1 and "127.0.0.1" or { "127.0.0.1", "127.0.0.2" }, to.port, { tls = tls }), r)
end)
on("stream", "read", 20, function(s, _, r)
  if r(3) == 1 then return s:read() end
  return s:read(FORMATS[r(#FORMATS)], FORMATS[r(#FORMATS)])
end)
on("stream", "read_some", 10, function(s, _, r) return s:read_some(r(3) == 1 and r(100) or nil) end)
on("stream", "read_until", 4, function(s, _, r) return s:read_until("2 ", r(3) == 1 and 10 or nil) end)
on("stream", "peek", 3, function(s) return s:peek(10) end)
on("stream", "lines", 4, function(s, _, r)
  for _ in s:lines(FORMATS[r(4)]) do
    if r(4) == 1 then break end
  end
end)
on("stream", "write", 30, function(s, _, r) s:write(bytes(r), 12, bytes(r)) end)
on("stream", "shutdown", 2, function(s) s:shutdown() end)
on("stream", "names", 2, function(s)
  local _ = tostring(s)
  s:sock()
  s:peer()
end)
on("stream", "copy_to", 6, function(s, w, r)
  local to = w:any("stream", r)
  if to ~= s then s:copy_to(to, { shutdown = r(2) == 1, max = r(2) == 1 and r(1000) or nil }) end
end)
on("stream", "tls", 2, function(s)
  s:tls()
  s:peer_certificate()
  s:handshake()
end)
on("stream", "start_tls", 3, function(s, w, r)
  if r(2) == 1 then return s:start_tls { server = true, context = w.context } end
  s:start_tls { context = w.client, server_name = "localhost" }
end)
op("tls pair", 4, function(w, r)
  local a, b = memory.pair()
  w:add("stream", a, r)
  w:add("stream", b, r)
  local other = async.create_task(b.start_tls, b, { server = true, context = w.context })
  w.background[#w.background + 1] = other
  a:start_tls { context = w.client, server_name = "localhost" }
end)

-- ---- servers ----

op("listen", 5, function(w, r)
  local tls = r(3) == 1 and w.context or nil
  w:add("server", net.listen("127.0.0.1", 0, { tls = tls, backlog = r(3) }), r)
end)
op("listen_unix", 3, function(w, r)
  local path = ("%s/s%d"):format(w.dir, r(4))
  w:add("server", net.listen_unix(r(2) == 1 and "\0" .. path or path, { unlink = r(2) == 1 }), r)
end)
on("server", "accept", 10, function(s, w, r) w:add("stream", s:accept(), r) end)
on("server", "serve", 6, function(s, w, r)
  s:serve(function(stream)
    local what = r(4)
    if what == 1 then error "an error of the storm" end
    if what == 2 then return w:add("stream", stream, r) end
    if what == 3 then return stream:write(bytes(r)) end
    for line in stream:lines() do stream:write(line) end
  end)
end)
on("server", "stats", 1, function(s)
  s:stats()
  return s:address(), tostring(s)
end)
on("server", "reload", 1, function(s, w)
  local ok, e = pcall(s.reload, s, w.context)
  if not ok and not tostring(e):find "TLS" then error(e, 0) end
end)

-- ---- datagrams, names ----

op("udp", 3, function(w, r)
  local to = w:any("udp", r)
  local address = to and r(2) == 1 and to:address()
  w:add("udp", net.udp(address and { connect = { "127.0.0.1", address.port } } or { host = "127.0.0.1" }), r)
end)
on("udp", "send", 8, function(s, w, r)
  if s:peer() then return s:send(bytes(r):sub(1, 1000)) end
  s:send(bytes(r):sub(1, 60000), r(4) == 1 and "localhost" or "127.0.0.1", w:any("udp", r):address().port)
end)
on("udp", "recv", 8, function(s, _, r) return s:recv(r(3) == 1 and 1 or nil) end)
on("udp", "packets", 3, function(s)
  for _ in s:packets() do async.sleep(0) end
end)
op("getaddrinfo", 2, function() return net.getaddrinfo("localhost", "80") end)
op("getnameinfo", 1, function() return net.getnameinfo({ host = "127.0.0.1", port = 80 }) end)

-- ---- files ----

op("open", 8, function(w, r)
  w:add("file", fs.open(w:path(r), ({ "r", "w", "a", "r+", "w+", "a+", "x+" })[r(7)]), r)
end)
on("file", "read", 8, function(f, _, r) return f:read(FORMATS[r(#FORMATS)], FORMATS[r(#FORMATS)]) end)
on("file", "lines", 3, function(f, _, r)
  for _ in f:lines(FORMATS[r(4)]) do
    if r(30) == 1 then break end
  end
end)
on("file", "write", 8, function(f, _, r) f:write(bytes(r), 7) end)
on("file", "seek", 5, function(f, _, r) return f:seek(({ "set", "cur", "end" })[r(3)], r(2) == 1 and 5 or nil) end)
on("file", "rest", 3, function(f, _, r)
  f:sync()
  f:truncate(r(1000))
  return f:stat(), tostring(f)
end)
op("whole", 6, function(w, r)
  if r(2) == 1 then return fs.read_file(w:path(r)) end
  fs.write_file(w:path(r), bytes(r), { sync = false, append = r(3) == 1 or nil, atomic = r(2) == 1 or nil })
end)
op("names", 6, function(w, r)
  local call = ({ "stat", "unlink", "exists", "realpath", "scandir", "rmdir", "access", "makedirs" })[r(8)]
  return fs[call](w:path(r))
end)
op("rename", 3, function(w, r) fs.rename(w:path(r), w:path(r)) end)
op("copy", 3, function(w, r) fs.copy(w:path(r), w:path(r), { overwrite = true }) end)
op("tree", 3, function(w, r)
  for path in fs.walk(w.dir) do
    if r(4) == 1 then fs.rmtree(path, { missing_ok = true }) end
  end
end)
op("temp", 4, function(_, r)
  local temp <close> = fs[r(2) == 1 and "mkdtemp" or "mkstemp"]()
  if r(2) == 1 then async.sleep(0) end
  return temp.path
end)
op("watch", 4, function(w, r) w:add("watcher", fs.watch(w.dir), r) end)
on("watcher", "next", 5, function(x) return x:next() end)

-- ---- processes, signals ----

local STDIO = { "pipe", "null", "pipe" }
local PROGRAMS = { { "cat" }, { "sleep", "1000" }, { "true" }, { "sh", "-c", "cat; echo x" }, { "/no/such" } }

op("spawn", 2, function(w, r)
  local words = PROGRAMS[r(#PROGRAMS)]
  local options = { stdin = STDIO[r(3)], stdout = STDIO[r(3)], stderr = STDIO[r(3)] }
  if r(3) == 1 then options.stdout = w:take("stream", r) end
  if r(3) == 1 then options.stdin = w:any("file", r) end
  local p = process.spawn(words[1], { table.unpack(words, 2) }, options)
  w:add("process", p, r)
  if options.stdin == "pipe" and r(2) == 1 then w:add("stream", p.stdin, r) end
  if options.stdout == "pipe" and r(2) == 1 then w:add("stream", p.stdout, r) end
end)
on("process", "wait", 3, function(p) return p:wait() end)
on("process", "kill", 3, function(p, _, r) return p:kill(({ "TERM", "KILL", 0 })[r(3)]), tostring(p) end)
on("process", "communicate", 3, function(p, _, r) return p:communicate(p.stdin and r(2) == 1 and bytes(r) or nil) end)
op("run", 1, function(_, r)
  return process.run("cat", {}, { input = bytes(r), timeout = r(2) == 1 and 0.001 or nil, grace = 0.01 })
end)
op("pipeline", 1, function(_, r)
  return process.pipeline({ { "cat" }, { "sh", "-c", "exec cat" } }, { input = bytes(r), grace = 0.01 })
end)
op("listener", 2, function(w, r) w:add("listener", signal.listen("USR1", r(2) == 1 and "USR2" or "USR1"), r) end)
on("listener", "next", 3, function(l) return l:next() end)
on("listener", "iter", 2, function(l)
  for _ in l:iter() do async.sleep(0) end
end)
op("raise", 3, function(_, r) signal.raise(r(2) == 1 and "USR1" or "USR2") end)
op("wait for a signal", 2, function() return signal.wait("USR1", "USR2") end)

-- ---- bad weather ----

-- Whoever waits in it is told.
op("close", 16, function(w, r)
  local kind = KINDS[r(#KINDS)]
  local object = r(2) == 1 and w:take(kind, r) or w:any(kind, r)
  if object then object:close() end
end)
op("lose", 10, function(w, r) w:take(KINDS[r(#KINDS)], r) end)
-- Calls fn() when the collector comes by for the nth time, in the middle of anything.
local function after_cycles(n, fn)
  setmetatable({}, {
    __gc = function()
      if n > 1 then return after_cycles(n - 1, fn) end
      fn()
    end,
  })
end
op("close in a finaliser", 12, function(w, r)
  local object = w:any(KINDS[r(#KINDS)], r)
  if object then after_cycles(r(r(2) == 1 and 3 or 60), function() object:close() end) end
end)
op("collect", 4, function(_, r)
  if r(3) == 1 then collectgarbage() else collectgarbage("step", r(50)) end
end)
op("cancel", 20, function(w, r)
  local n = #w.running
  if n > 0 then w.running[r(n)]:cancel() end
end)
op("sleep", 5, function(_, r) async.sleep(r(3) * 0.001) end)
op("timer", 3, function(w, r)
  local object = w:any(KINDS[r(#KINDS)], r)
  async.get_running_loop():call_later(r(3) * 0.001, function()
    if object then object:close() end
  end)
end)
op("short", 2, function(_, r)
  local most = ({ 1, 3, 100 })[r(4)]
  short = most ~= nil
  probe.short_io(most)
end)

local total = 0
for _, each in ipairs(ops) do total = total + each.weight end

-- A call: its name and its function.
function World.draw(_, random)
  local n = random(total)
  for _, each in ipairs(ops) do
    n = n - each.weight
    if n <= 0 then return each.name, each.fn end
  end
end

local operations = { World = World }

-- A world without objects. options: dir, and certificates, which certificates.make made.
function operations.world(options)
  local world = setmetatable({ dir = options.dir, running = {}, background = {}, calls = {} }, World)
  for _, kind in ipairs(KINDS) do world[kind] = {} end
  local tls = require "lunation.tls"
  -- Two servers wait for each other as long as a handshake may take.
  local shown = options.certificates:pair "server"
  shown.handshake_timeout = 0.5
  world.client = tls.context { ca = options.certificates:path "ca.pem", handshake_timeout = 0.5 }
  world.context = tls.context(shown)
  world.guard = signal.listen("USR1", "USR2")
  return world
end

-- All names, for who wants to see that each was drawn.
function operations.names()
  local list = {}
  for i, each in ipairs(ops) do list[i] = each.name end
  return list
end

return operations

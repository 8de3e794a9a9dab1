-- Calls of all kinds, with a finaliser that closes the object in the collector's kth cycle, for every k, while each
-- allocation inside the call makes a cycle: whatever the call has in hand then, it must find the object closed or be
-- done with it. Run in a small process of its own, as a cycle takes as long as the heap is large.
--
-- Law: a call ends, with results or with an error object. That it does not crash is the point; the sanitizers see more.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local command = require "spec.support.command"
local helper = require "spec.helper"
local fs, net, process, signal = async.fs, async.net, async.process, async.signal
local memory = require "lunation.memory"
local tls = require "lunation.tls"

local MOST = 60 -- cycles; a call that needs more waits for something
local LONG = 0.02 * math.min(helper.slow, 15) -- seconds after which a call that waits is cut; many do

local function after_cycles(n, fn)
  setmetatable({}, {
    __gc = function()
      if n > 1 then return after_cycles(n - 1, fn) end
      fn()
    end,
  })
end

local certs = certificates.make()
local client, server = tls.context { ca = certs:path "ca.pem" }, tls.context(certs:pair "server")
local dir = command.temp_dir()

local function filled(a, b)
  b:write("12 line\nmore\n")
  return a, b
end

local function over(a, b)
  b:shutdown()
  return a, b
end

-- How the object of each kind is made; a second one is closed after the call.
local make = {
  memory = function() return over(filled(memory.pair())) end,
  pipe = function() return over(filled(process.socketpair())) end,
  tls = function()
    local a, b = memory.pair()
    local other = async.create_task(b.start_tls, b, { server = true, context = server })
    a:start_tls { context = client, server_name = "localhost" }
    async.await(other)
    return filled(a, b)
  end,
  file = function()
    local f = fs.open(dir .. "/f", "w+")
    f:write "12 line\nmore\n"
    f:seek("set", 0)
    return f
  end,
  server = function() return net.listen("127.0.0.1", 0) end,
  tls_server = function() return net.listen("127.0.0.1", 0, { tls = server }) end,
  unix = function() return net.listen_unix(dir .. "/s", { unlink = true }) end,
  udp = function() return net.udp { host = "127.0.0.1" } end,
  connected = function()
    local s = net.udp { host = "127.0.0.1" }
    return net.udp { connect = { "127.0.0.1", s:address().port } }, s
  end,
  watcher = function() return fs.watch(dir) end,
  listener = function() return signal.listen("USR1", "USR2") end,
  process = function() return process.spawn("cat", {}, { stdin = "pipe", stdout = "pipe" }) end,
}

local function lines(object, ...)
  for _ in object:lines(...) do end
end

local function by_method(write)
  return function(s) s:copy_to({ write = write }, { max = 5 }) end
end

local big = ("x"):rep(300000)

-- Calls: a method with its arguments, or a function of the object.
local stream = {
  { "read" }, { "read", "n", "l", 2, "a" }, { "read_some", 5 }, { "peek" }, { "read_until", "\n" },
  { "write", 1, 2, 3.5, "x" }, { "write", big, 17 }, { "shutdown" }, { "peer" }, { "sock" }, { "close" }, { "tls" },
  { "peer_certificate" }, { "handshake" }, { tostring }, { lines }, { lines, "n", "L" },
  { "start_tls", { context = client, server_name = "localhost" } },
  { "start_tls", { server = true, context = server } },
  { by_method(function() async.sleep(0) end) }, { by_method(function(_, s) return "" .. #s end) },
  {
    function(s)
      local to <close>, other = memory.pair()
      local _ <close> = other
      s:copy_to(to, { shutdown = true })
    end,
  },
}

local function connected(s)
  local to = s:address()
  local c <close> = to.path and net.connect_unix(to.path) or net.connect("127.0.0.1", to.port)
  local d <close> = s:accept()
  c:peer()
  d:sock()
end

local function served(s)
  local port = s:address().port
  local task = async.create_task(s.serve, s, function(x)
    x:write("a", 1)
    x:read "l"
  end)
  local _ <close> = async.defer(function()
    s:close()
    async.wait { task }
    pcall(task.exception, task)
  end)
  local c <close> = net.connect("127.0.0.1", port)
  c:write "x\n"
  c:read "a"
end

local function encrypted(s)
  local port = s:address().port
  local task = async.create_task(function()
    local d <close> = s:accept()
    d:read()
  end)
  local _ <close> = async.defer(function()
    task:cancel()
    async.wait { task }
    pcall(task.exception, task)
  end)
  local c <close> = net.connect("localhost", port, { family = "inet", tls = { context = client } })
  c:write("x", 5)
  c:shutdown()
end

local function spawned(name)
  return function(s)
    local p <close> = process.spawn("true", {}, { [name] = s })
    p:wait()
  end
end

stream[#stream + 1] = { spawned "stdin" }

local calls = {
  memory = stream, pipe = stream, tls = stream,
  file = {
    { "read" }, { "read", "n", "l", 2, "a" }, { "read_some" }, { "write", 1, 2, 3.5, "x" }, { "seek" },
    { "seek", "end" }, { "truncate", 3 }, { "sync" }, { "flush" }, { "stat" }, { "fileno" }, { "close" },
    { tostring }, { lines },
    { lines, "n", "L", 3 }, { spawned "stdout" },
  },
  server = { { "address" }, { "stats" }, { tostring }, { connected }, { served }, { "close" } },
  tls_server = { { encrypted }, { "reload", server }, { "reload", certs:pair "server" } },
  unix = { { "address" }, { tostring }, { connected } },
  udp = {
    { "address" }, { "peer" }, { tostring },
    {
      function(s)
        local to = s:address()
        s:send("x", "127.0.0.1", to.port)
        s:send("y", to)
        s:recv()
      end,
    },
    {
      function(s)
        s:send("x", "localhost", s:address().port)
        s:packets()()
      end,
    },
    { "leave", "224.0.0.251" },
  },
  connected = { { "peer" }, { "send", "x" } },
  watcher = {
    { tostring },
    {
      function(w)
        fs.write_file(dir .. "/x", "12")
        w:iter()()
      end,
    },
  },
  listener = {
    { tostring },
    {
      function(l)
        signal.raise "USR1"
        signal.raise "USR2"
        for name in l:iter() do
          if name == "SIGUSR2" then break end
        end
      end,
    },
  },
  process = { { "communicate", "xx" }, { "kill" }, { tostring } },
}

-- One call with one k: whether the finaliser has run in it, and what it threw.
local function once(kind, call, k)
  local object, other = make[kind]()
  local fired = false
  collectgarbage()
  collectgarbage "stop"
  after_cycles(k, function()
    fired = true
    object:close()
  end)
  local fn = type(call[1]) == "string" and object[call[1]] or call[1]
  local task = async.create_task(function()
    local _ <close> = async.timeout(LONG)
    return fn(object, table.unpack(call, 2))
  end)
  collectgarbage "restart"
  collectgarbage("incremental", 1, 400, 30) -- each allocation a whole cycle
  async.wait { task }
  collectgarbage("incremental", 200, 100, 13)
  object:close()
  if other then other:close() end
  local _, e = pcall(task.exception, task)
  return fired, e
end

local closers = {}

-- closers.kinds() -> the list of all kinds of objects.
function closers.kinds()
  local list = {}
  for kind in pairs(calls) do list[#list + 1] = kind end
  table.sort(list)
  return list
end

-- closers.run(kinds) -> how many runs there were. Throws what is no error object.
function closers.run(kinds)
  local guard <close> = signal.listen("USR1", "USR2")
  local runs = 0
  async.get_running_loop():set_exception_handler(function() end)
  for _, kind in ipairs(kinds) do
    for _, call in ipairs(calls[kind]) do
      for k = 1, MOST do
        local fired, e = once(kind, call, k)
        runs = runs + 1
        if e ~= nil and type(e) ~= "table" then error(("%s, %s: %s"):format(kind, call[1], e), 0) end
        if not fired then break end
      end
    end
  end
  certs:remove()
  command.remove_dir(dir)
  assert(guard)
  return runs
end

return closers

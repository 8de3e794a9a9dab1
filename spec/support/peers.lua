-- Programs to talk to: servers that run beside a spec, and clients that are run to their end while the loop of the spec
-- goes on and serves them. All listen on free ports of 127.0.0.1. They are children that die with whoever holds them.
local async = require "lunation"
local command = require "spec.support.command"
local helper = require "spec.helper"
local process = require "lunation.process"
local fs = async.fs

local peers = {}

local LIFE = 600 -- seconds that a peer lives if whoever holds it is killed

local Peer = {}
Peer.__index = Peer

-- Waits, while the loop goes on, until get() gives something; that.
local function get_soon(get, seconds)
  local value
  helper.eventually(function()
    value = get()
    return value
  end, seconds)
  return value
end

-- peers.start{program, arguments..., env = } -> a peer: `process`, `dir`, a folder of its own, which "DIR" among the
-- words stands for, `log()`, what it has printed so far, `stop()`; closable
function peers.start(words)
  local self = setmetatable({ dir = command.temp_dir() }, Peer)
  local list = { "--kill-after=5", LIFE }
  for i = 1, #words do list[#list + 1] = tostring(words[i]):gsub("%f[%w]DIR%f[%W]", self.dir) end
  local log <close> = assert(io.open(self.dir .. "/log", "w"))
  self.process = process.spawn("timeout", list, {
    stdin = "null", stdout = log, stderr = "stdout", extend_env = words.env,
  })
  return self
end

function Peer:log() return command.slurp(self.dir .. "/log") or "" end

function Peer:is_running() return self.process:kill(0) end

-- Without an await, so that it can be done on the way out of anything.
function Peer:stop()
  if not self.dir then return end
  self.process:close()
  command.remove_dir(self.dir)
  self.dir = nil
end
Peer.__close = Peer.stop

-- Waits for what get(peer) gives, and makes that the field `name` of the peer; an error if the peer ends before.
local function await_field(self, name, get)
  self[name] = get_soon(function() return get(self) or not self:is_running() and "" end, 10)
  if not self[name] or self[name] == "" then
    local log = self:log()
    self:stop()
    error("the peer does not start: " .. log, 2)
  end
  return self
end

local function written_port(self)
  return math.tointeger(tonumber((command.slurp(self.dir .. "/port") or ""):match("^(%d+)\n")))
end

-- peers.python(name, arguments...): spec/support/python/NAME.py, which writes the port that it has chosen to DIR/port.
function peers.python(name, ...)
  return await_field(peers.start { "python3", "spec/support/python/" .. name .. ".py", "DIR", ... }, "port", written_port)
end

-- peers.socat(from, to, options...): `from` listens on port 0; the peer has `port`, or `path` for a Unix socket.
function peers.socat(from, to, ...)
  local words = { "socat", "-d", "-d", ... }
  words[#words + 1], words[#words + 2] = from, to
  local peer = peers.start(words)
  return await_field(peer, from:find("UNIX") and "path" or "port", function()
    local log = peer:log()
    local path = log:match('listening on AF=1 "([^"]*)"')
    return path or math.tointeger(tonumber(log:match("listening on [^\n]*AF=%d+ [^\n]-:(%d+)\n")))
  end)
end

-- peers.run{program, arguments..., input = text, timeout = 20} -> stdout, stderr, exit code
function peers.run(words)
  local result = process.run(words[1], { table.unpack(words, 2) }, {
    input = words.input, timeout = (words.timeout or 20) * helper.slow,
  })
  return result.stdout, result.stderr, result.code or result.signal
end

-- A folder of its own; closable.
function peers.folder()
  local path = command.temp_dir()
  return setmetatable({ path = path }, {
    __concat = function(_, text) return path .. text end,
    __close = function() command.remove_dir(path) end,
  })
end

-- How many descriptors this process has. Suspends.
function peers.descriptors() return #fs.scandir("/proc/self/fd") - 1 end

-- The memory of this process that is in use, in KiB; 0 in slow builds, whose checkers keep what was freed.
function peers.resident()
  if helper.slow > 1 then return 0 end
  return math.tointeger(tonumber(command.slurp("/proc/self/statm"):match("^%d+ (%d+)"))) * 4
end

-- Some descriptors are made once, by whatever needs them first.
local function warm_up()
  local server <close> = async.net.listen("127.0.0.1", 0)
  async.net.connect("127.0.0.1", server:address().port):close()
  server:accept():close()
  async.sleep(0.005)
end

-- fn(...) must end with as many descriptors as it began with; what a peer has to hear of first may take a moment.
function peers.keeps_descriptors(fn, ...)
  warm_up()
  local before = peers.descriptors()
  fn(...)
  local after
  helper.eventually(function()
    collectgarbage()
    after = peers.descriptors()
    return after <= before
  end, 2)
  if after > before then error(("%d descriptors before, %d after"):format(before, after), 2) end
end

-- peers.serving(handler, fn, options): fn(port, server) while handler serves; the server is closed afterwards and its
-- connections are cancelled.
function peers.serving(handler, fn, options)
  local server <close> = async.net.listen("127.0.0.1", 0, options)
  local task = async.create_task(server.serve, server, handler)
  local _ <close> = async.defer(function()
    task:cancel()
    async.wait { task }
  end)
  return fn(server:address().port, server)
end

-- Bytes in which any piece that is missing, doubled or in the wrong place is seen.
function peers.bytes(n)
  local parts, size, i = {}, 0, 0
  while size < n do
    i = i + 1
    parts[i] = ("%d:"):format(i * 7919)
    size = size + #parts[i]
  end
  return table.concat(parts):sub(1, n)
end

return peers

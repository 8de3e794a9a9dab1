-- An exchange of a client and a server of ours, and the proxy between them that breaks it at any byte:
-- spec/support/python/fault_proxy.py.
local async = require "lunation"
local peers = require "spec.support.peers"
local net = require "lunation.net"

local faults = {}

-- What the client does; the server does the opposite.
local DIALOGUE = {
  { "client", "GET word\n" },
  { "server", "200 11\n" },
  { "server", "hello world" },
  { "client", "THANKS\n" },
  { "server", "BYE\n" },
}

-- All that a side says.
function faults.said_by(side)
  local parts = {}
  for _, line in ipairs(DIALOGUE) do
    if line[1] == side then parts[#parts + 1] = line[2] end
  end
  return table.concat(parts)
end

-- Reads the next `n` bytes into result.received; false at the end or an error.
local function hear(stream, n, result)
  while n > 0 do
    local ok, data = async.pcall(stream.read_some, stream, n)
    if not ok then
      result.read_error = data
      return false
    end
    if not data then
      result.ended = true
      return false
    end
    result.received[#result.received + 1] = data
    n = n - #data
  end
  return true
end

-- Takes the part of `side` and closes the stream -> {received = text, ended =, read_error =, write_error =}. A write
-- that fails does not keep it from reading: what had arrived is there.
function faults.play(stream, side)
  local result, talking = { received = {} }, true
  for _, line in ipairs(DIALOGUE) do
    if line[1] ~= side then
      if not hear(stream, #line[2], result) then break end
    elseif talking then
      local ok, e = async.pcall(stream.write, stream, line[2])
      if not ok then result.write_error, talking = e, false end
    end
  end
  if not result.ended and not result.read_error then
    async.pcall(stream.shutdown, stream)
    hear(stream, 1000000, result)
  end
  stream:close()
  result.received = table.concat(result.received)
  return result
end

local Setup = {}
Setup.__index = Setup

-- A proxy, for any number of tests; `stop()`.
function faults.proxy() return peers.python "fault_proxy" end

-- What a test needs behind the proxy, over "tcp" or "unix" sockets; `close()`. prepare(stream, side), if there is one, is
-- called for each end of each connection first.
function faults.setup(proxy, family, prepare)
  local control = net.connect("127.0.0.1", proxy.port)
  local port, path = control:read("n", "l")
  local self = setmetatable({ control = control, family = family, prepare = prepare, lock = async.Lock() }, Setup)
  if family == "tcp" then
    self.server = net.listen("127.0.0.1", 0)
    self.target = self.server:address().port
    self.connect = function() return net.connect("127.0.0.1", port) end
  else
    self.target = path:sub(2) .. ".server"
    self.server = net.listen_unix(self.target)
    self.connect = function() return net.connect_unix(path:sub(2)) end
  end
  return self
end

function Setup:close()
  self.server:close()
  self.control:close()
end

-- -> client, server: a connection through the proxy; in the place of the client the error of connecting, when the fault
-- was faster
function Setup:pair(kind, side, n)
  local _ <close> = self.lock:guard()
  self.control:write(("%s %s %d %s %s\n"):format(kind, side, n, self.family, self.target))
  local _, client = async.pcall(self.connect)
  local server = self.server:accept()
  assert(self.control:read("l") == "ok")
  return client, server
end

-- One end of it: what it saw.
function Setup:play(stream, side)
  if self.prepare then
    local ok, e = async.pcall(self.prepare, stream, side)
    if not ok then
      stream:close()
      return { received = "", read_error = e }
    end
  end
  return faults.play(stream, side)
end

-- -> what the client and what the server saw, nil for one that still waited after so many seconds
function Setup:exchange(kind, side, n, seconds)
  local client, server = self:pair(kind, side, n)
  local _ <close> = server
  local results = {}
  if async.isinstance(client, async.OSError) then
    results.client, client = { received = "", read_error = client }, nil
  end
  local _ <close> = client
  pcall(async.wait_for, function()
    async.gather {
      function() results.client = client and self:play(client, "client") or results.client end,
      function() results.server = self:play(server, "server") end,
    }
  end, seconds)
  return results.client, results.server
end

local BROKEN = { ECONNRESET = true, EPIPE = true, ECONNABORTED = true, ENOTCONN = true }

-- Such errors, or none, are what a broken connection may end in.
function faults.is_sound(e)
  return e == nil or async.isinstance(e, async.OSError) and BROKEN[e.code] or false
end

return faults

-- Starts and stops odd_server.py, the server that misbehaves in every way that a client has to survive.
local command = require "spec.support.command"

local Server = {}
Server.__index = Server

-- start() -> a running server; `url(path)`, `file(name)` for the files that it writes, `stop()`; closable
local function start()
  local dir = command.temp_dir()
  local self = setmetatable({ dir = dir }, Server)
  self.pid = command.start { "python3", "spec/support/odd_server.py", dir, log = dir .. "/output.log" }
  command.wait_until("[ -s " .. command.quote(dir .. "/port") .. " ] || " .. command.ended(self.pid))
  self.port = tonumber(command.slurp(dir .. "/port"))
  if self.port then return self end
  local log = command.slurp(dir .. "/output.log") or ""
  self:stop()
  error("odd_server.py does not start: " .. log)
end

function Server:url(path)
  return ("http://127.0.0.1:%d%s"):format(self.port, path)
end

function Server:file(name)
  return self.dir .. "/" .. name
end

function Server:stop()
  if not self.dir then return end
  command.stop(self.pid)
  command.remove_dir(self.dir)
  self.dir = nil
end
Server.__close = Server.stop

return { start = start }

-- A real nginx for specs: unprivileged, in a temporary folder, on a free port of the loopback interface.
local command = require "spec.support.command"

local CONFIG = [[
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;
  default_type text/plain;
  %s
  server {
    listen 127.0.0.1:%d;
    root files;
    location = /moved { return 301 /small.txt; }
    # With server side includes the length is not known before the end, so the answer comes in chunks.
    location /chunked/ { alias %s/files/; ssi on; ssi_types text/plain; }
    %s
  }
}
]]

local Nginx = {}
Nginx.__index = Nginx

-- start({["name"] = "content", ...}, more) -> a server that has these files; `url(path)`, `port`, `stop()`; closable.
-- more: directives for the block of the `server`, and for that of `http` around it.
local function start(files, more)
  local dir = command.temp_dir()
  local self = setmetatable({ dir = dir }, Nginx)
  assert(os.execute("mkdir " .. command.quote(dir .. "/files") .. " " .. command.quote(dir .. "/tmp")))
  local http, server = more and more.http or "", more and more.server or ""
  for name, content in pairs(files or {}) do command.write_file(dir .. "/files/" .. name, content) end

  -- Somebody else may take the port between the choice and the start: then another one is tried.
  for _ = 1, 3 do
    self.port = command.free_port()
    command.write_file(dir .. "/nginx.conf", CONFIG:format(http, self.port, dir, server))
    self.pid = command.start {
      "nginx", "-p", dir, "-e", dir .. "/error.log", "-c", dir .. "/nginx.conf", log = dir .. "/output.log",
    }
    -- The file with the process id is written after the sockets were opened.
    local pid_file = command.quote(dir .. "/nginx.pid")
    command.wait_until("[ -s " .. pid_file .. " ] || " .. command.ended(self.pid))
    if command.slurp(dir .. "/nginx.pid") then return self end
    command.stop(self.pid)
  end
  local log = command.slurp(dir .. "/error.log") or command.slurp(dir .. "/output.log") or ""
  self:stop()
  error("nginx does not start: " .. log)
end

function Nginx:url(path)
  return ("http://127.0.0.1:%d%s"):format(self.port, path)
end

function Nginx:stop()
  if not self.dir then return end
  command.stop(self.pid)
  command.remove_dir(self.dir)
  self.dir = nil
end
Nginx.__close = Nginx.stop

return { start = start }

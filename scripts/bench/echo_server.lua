-- Lunation's server for scripts/bench/echo.lua. Its argument is echo, sink or source.
local async = require "lunation"
local net = async.net

local CHUNK = ("x"):rep(65536)

local serves = {}

function serves.echo(stream)
  while true do
    local data = stream:read_some()
    if not data then return end
    stream:write(data)
  end
end

function serves.sink(stream)
  while stream:read_some() do end
end

function serves.source(stream)
  while true do stream:write(CHUNK) end
end

local server <close> = net.listen("127.0.0.1", 0, { backlog = 1024 })
async.get_running_loop():set_exception_handler(function() end) -- peers that are cut off
print(server:address().port)
io.stdout:flush()
server:serve(serves[arg[1]])

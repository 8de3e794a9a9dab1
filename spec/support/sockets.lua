-- What the specs of io/ need besides the runtime: connected pairs of streams, and descriptors that are not the
-- runtime's own.
local async = require "lunation"
local net = async.net
local command = require "spec.support.command"

local sockets = {}

-- -> client, peer, server: a connected pair and the server that accepted it. `options` are those of listen and connect.
function sockets.pair(options)
  local server <close> = net.listen("127.0.0.1", 0, options)
  local client = net.connect("127.0.0.1", server:address().port, options)
  local _ <close> = async.defer(function(e) if e ~= nil then client:close() end end)
  return client, server:accept()
end

-- with_pair(fn, options): fn(client, peer), both closed afterwards whatever happens.
function sockets.with_pair(fn, options)
  local client, peer = sockets.pair(options)
  local _ <close> = client
  local _ <close> = peer
  return fn(client, peer)
end

-- A port on which nobody listens.
function sockets.dead_port()
  local server <close> = net.listen("127.0.0.1", 0)
  return server:address().port
end

-- The number of this process's descriptor for the file at `path`.
function sockets.descriptor(path)
  local pipe <close> = assert(io.popen("for f in /proc/$PPID/fd/*; do echo $f $(readlink $f); done"))
  local found
  for line in pipe:lines() do -- to the end, or the shell complains of a broken pipe
    local fd, target = line:match("/fd/(%d+) (.*)$")
    if target == path then found = found or math.tointeger(tonumber(fd)) end
  end
  return found or error("no descriptor for " .. path)
end

-- A named pipe that is open for reading and writing: `fd`, `file` (unbuffered), closable.
function sockets.fifo()
  local dir = command.temp_dir()
  local path = dir .. "/pipe"
  os.execute("mkfifo " .. command.quote(path))
  local file = assert(io.open(path, "r+"))
  file:setvbuf("no")
  return setmetatable({ file = file, fd = sockets.descriptor(path) }, {
    __close = function()
      file:close()
      command.remove_dir(dir)
    end,
  })
end

-- A regular file that is open: `fd`, `file`, closable.
function sockets.regular_file()
  local path = os.tmpname()
  local file = assert(io.open(path, "w+"))
  return setmetatable({ file = file, fd = sockets.descriptor(path) }, {
    __close = function()
      file:close()
      os.remove(path)
    end,
  })
end

return sockets

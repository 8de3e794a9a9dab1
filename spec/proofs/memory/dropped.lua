-- Objects that are dropped unclosed, in rounds, each on a loop of its own or one that goes on: Lua forgets a finaliser that
-- it has no memory to call, and then nothing in C may point at the object.
local async = require "lunation"
local fs = require "lunation.fs.core"
local memory = require "lunation.memory"
local net = require "lunation.net"
local process = require "lunation.process.core"
local runner <close> = async.Runner { debug = sweep.debug }

local function drop_pairs()
  for _ = 1, 3 do memory.pair() end
end

local function drop_sockets()
  for _ = 1, 2 do net.udp { host = "127.0.0.1" } end
  process.socketpair()
end

-- A client and what the server has for it; the server itself.
local function drop_connection()
  local server = net.listen("127.0.0.1", 0)
  net.connect("127.0.0.1", server:address().port)
  server:accept()
end

-- Its handler has dropped the stream, and the server was dropped by all but its task.
local function drop_served()
  local server = net.listen("127.0.0.1", 0)
  local serving = async.create_task(server.serve, server, function() async.sleep(0) end)
  net.connect("127.0.0.1", server:address().port):close()
  async.sleep(0)
  serving:cancel()
  async.wait { serving }
end

local function drop_child()
  process.spawn("/bin/sleep", "sleep\0" .. "100\0", nil, nil)
end

local function drop_watcher()
  fs.watch("/", true)
end

local function drop_requests()
  local lookup = async.create_task(net.getaddrinfo, "127.0.0.1", 1, { numeric_host = true })
  async.sleep(0)
  lookup:cancel()
end

for _, round in ipairs { drop_pairs, drop_sockets, drop_connection, drop_served, drop_child, drop_watcher, drop_requests } do
  for _ = 1, 2 do
    runner:run(function()
      local _ <close> = async.timeout(sweep.patience)
      round()
      async.sleep(0)
    end)
    collectgarbage("step", 20)
  end
end

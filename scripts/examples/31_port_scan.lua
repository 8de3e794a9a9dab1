-- A port scanner for the loopback device: many attempts, so many at a time, each with its time limit.
local async = require "lunation"
local net = async.net

local host = "127.7.7.7"

-- Something to be found: three servers on free ports.
local servers <close> = setmetatable({}, { __close = function(self)
  for _, server in ipairs(self) do server:close() end
end })
for i = 1, 3 do servers[i] = net.listen(host, 0) end

-- The ports around them.
local ports, known = {}, {}
for _, server in ipairs(servers) do
  local there = server:address().port
  for port = math.max(there - 40, 1), math.min(there + 40, 65535) do
    if not known[port] then ports[#ports + 1] = port end
    known[port] = true
  end
end

-- -> "open", or why not.
local function probe(port)
  local ok, stream = async.pcall(net.connect, host, port, { timeout = 2 })
  if not ok then return stream.code or stream.name end
  stream:close()
  return "open"
end

local results = async.map(ports, probe, { limit = 32 })

local state = {}
for i, port in ipairs(ports) do state[port] = results[i] end
for i, server in ipairs(servers) do print("server " .. i, state[server:address().port]) end
local refused = 0
for _, result in pairs(state) do
  if result == "ECONNREFUSED" then refused = refused + 1 end
end
print(refused > 0 and "others refuse" or "nobody refuses")

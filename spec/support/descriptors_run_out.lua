-- Run by net_spec.lua with few descriptors: more clients than there are descriptors for, in a server that goes on.
local async = require "lunation"
local net = async.net

local reports, first = 0, nil
async.get_running_loop():set_exception_handler(function(_, context)
  reports = reports + 1
  first = first or context
end)

local server = net.listen("127.0.0.1", 0)
local port = server:address().port
local held = 0
local serving = async.create_task(function()
  server:serve(function(stream)
    held = held + 1
    stream:write(stream:read("l"), "\n")
    held = held - 1
  end)
end)

-- Both ends are ours, so the server meets the limit, or else the client does and tries again.
local function client(i)
  while true do
    local ok, stream = pcall(net.connect, "127.0.0.1", port)
    if ok then
      local _ <close> = stream
      async.sleep(0.05)
      stream:write(i, "\n")
      return assert(stream:read("n") == i)
    end
    assert(stream.code == "EMFILE", tostring(stream))
    async.sleep(0.01)
  end
end

local started = os.clock()
local list = {}
for i = 1, 60 do list[i] = i end
async.map(list, client)
server:close()
async.await(serving)
assert(first, "the limit was never met")
print("reported", first.kind, first.message, first.exception.code)
print("all served")
print("reports are rare", reports <= 5 and os.clock() - started < 2)

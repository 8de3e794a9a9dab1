-- A fault: the server is closed at the end of the function, which is not reached if the wait is cut short.
local async = require "lunation"
local net = require "lunation.net"

local function announce()
  local server = net.listen("127.0.0.1", 0) -- MADE
  local port = server:address().port
  async.sleep(0.001) -- HERE
  server:close()
  return port
end

describe("announcement", function()
  it("has a port", function() assert.is_true(announce() > 0) end)
end)

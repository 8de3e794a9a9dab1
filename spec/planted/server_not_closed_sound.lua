-- The block closes the server.
local async = require "lunation"
local net = require "lunation.net"

local function announce()
  local server <close> = net.listen("127.0.0.1", 0)
  local port = server:address().port
  async.sleep(0.001)
  return port
end

describe("announcement", function()
  it("has a port", function() assert.is_true(announce() > 0) end)
end)

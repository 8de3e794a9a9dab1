-- A fault: the server goes on listening when the test is over.
local net = require "lunation.net"

describe("server", function()
  local server

  it("has an address", function()
    server = net.listen("127.0.0.1", 0) -- HERE
    assert.is_true(server:address().port > 0)
  end)
end)

-- A hook closes the server.
local net = require "lunation.net"

describe("server", function()
  local server

  after_each(function() server:close() end)

  it("has an address", function()
    server = net.listen("127.0.0.1", 0)
    assert.is_true(server:address().port > 0)
  end)
end)

-- The client closes its end.
local async = require "lunation"
local net = require "lunation.net"

describe("client", function()
  it("asks", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local answering = async.create_task(function()
      local stream <close> = server:accept()
      stream:write(stream:read "l", "\n")
    end)
    local client <close> = net.connect("127.0.0.1", server:address().port)
    client:write "hello\n"
    assert.equal("hello", client:read "l")
    async.await(answering)
  end)
end)

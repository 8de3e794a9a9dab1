-- Gives way in the loop.
local async = require "lunation"

describe("looking", function()
  it("ends", function()
    local done = false
    async.create_task(function() done = true end)
    while not done do async.sleep(0) end
  end)
end)

-- The clock is closed with the block.
local async = require "lunation"
local testing = require "lunation.testing"

describe("a day", function()
  it("passes", function()
    local clock <close> = testing.clock()
    async.sleep(86400)
    assert.is_true(clock:now() >= 86400)
  end)
end)

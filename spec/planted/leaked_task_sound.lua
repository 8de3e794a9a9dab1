-- The task is cancelled and awaited when the block ends.
local async = require "lunation"

describe("poller", function()
  it("polls", function()
    local polls = 0
    local task = async.create_task(function()
      while true do
        polls = polls + 1
        async.sleep(0.001)
      end
    end)
    local _ <close> = async.defer(function() task:cancel() end)
    async.sleep(0.01)
    assert.is_true(polls > 0)
  end)
end)

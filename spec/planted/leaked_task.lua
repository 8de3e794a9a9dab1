-- A fault: the test starts a task that polls for ever, and forgets it.
local async = require "lunation"

describe("poller", function()
  it("polls", function()
    local polls = 0
    async.create_task(function() -- HERE
      while true do
        polls = polls + 1
        async.sleep(0.001)
      end
    end)
    async.sleep(0.01)
    assert.is_true(polls > 0)
  end)

  it("is not disturbed by the test before", function() assert.equal(0, async.sleep(0, 0)) end)
end)

-- A fault: waits for a task by looking, without giving it a turn.
local async = require "lunation"

describe("looking", function()
  it("never ends", function()
    local done = false
    async.create_task(function() done = true end)
    while not done do -- HERE
    end
  end)

  it("does not keep the next test from running", function() assert.is_nil(async.sleep(0)) end)
end)

-- A fault: what setup started, teardown does not end.
local async = require "lunation"

describe("service", function()
  local beats = 0

  setup(function()
    async.create_task(function() -- HERE
      while true do
        beats = beats + 1
        async.sleep(0.001)
      end
    end)
  end)

  it("beats", function()
    async.sleep(0.005)
    assert.is_true(beats > 0)
  end)
end)

-- Teardown ends what setup started.
local async = require "lunation"

describe("service", function()
  local beats, service = 0, nil

  setup(function()
    service = async.create_task(function()
      while true do
        beats = beats + 1
        async.sleep(0.001)
      end
    end)
  end)

  teardown(function() service:cancel() end)

  it("beats", function()
    async.sleep(0.005)
    assert.is_true(beats > 0)
  end)
end)

-- The block cancels the child.
local async = require "lunation"

local function with_heartbeat(work)
  local heart = async.create_task(function()
    while true do async.sleep(1) end
  end)
  local _ <close> = async.defer(function() heart:cancel() end)
  return work()
end

describe("heartbeat", function()
  it("goes along with work", function()
    assert.equal("done", with_heartbeat(function()
      async.sleep(0.001)
      return async.sleep(0.001, "done")
    end))
  end)
end)

-- A fault: the child is cancelled at the end of the function, which an error thrown in between never reaches.
local async = require "lunation"

local function with_heartbeat(work)
  local heart = async.create_task(function() -- MADE
    while true do async.sleep(1) end
  end)
  local result = work()
  heart:cancel()
  return result
end

describe("heartbeat", function()
  it("goes along with work", function()
    assert.equal("done", with_heartbeat(function()
      async.sleep(0.001)
      return async.sleep(0.001, "done") -- HERE
    end))
  end)
end)

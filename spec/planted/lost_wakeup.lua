-- A fault: a bell of the project's own. Whoever waits looks, then gives way, then waits: a ring in between is lost.
local async = require "lunation"

local Bell = {}
Bell.__index = Bell

function Bell:ring()
  self.rung = true
  if self.waiter then self.waiter:set_result() end
end

function Bell:wait()
  if self.rung then return end
  async.sleep(0) -- let others go first
  self.waiter = async.Future()
  async.await(self.waiter) -- HERE
end

describe("bell", function()
  it("wakes who waits", function()
    local bell = setmetatable({}, Bell)
    async.gather { function() bell:wait() end, function() bell:ring() end }
  end)

  it("is not heard by the test after it", function() assert.is_nil(async.sleep(0)) end)
end)

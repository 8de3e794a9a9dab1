-- The bell looks once more before it waits.
local async = require "lunation"

local Bell = {}
Bell.__index = Bell

function Bell:ring()
  self.rung = true
  if self.waiter then self.waiter:set_result() end
end

function Bell:wait()
  async.sleep(0)
  if self.rung then return end
  self.waiter = async.Future()
  async.await(self.waiter)
end

describe("bell", function()
  it("wakes who waits", function()
    local bell = setmetatable({}, Bell)
    async.gather { function() bell:wait() end, function() bell:ring() end }
  end)
end)

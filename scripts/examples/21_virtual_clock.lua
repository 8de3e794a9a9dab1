#!/usr/bin/env lua5.4
-- A Runner with a virtual clock, under the stock interpreter: time jumps to the next deadline, a day takes no time.
local async = require "lunation"

local runner <close> = async.Runner { clock = "virtual" }

local function backup()
  local loop = async.get_running_loop()
  local start = loop:time()
  local function hours() return math.floor((loop:time() - start) / 3600 + 0.5) end

  local ticker = async.create_task(function()
    while true do
      async.sleep(6 * 3600)
      print("hour " .. hours(), "still running")
    end
  end)
  async.sleep(20 * 3600)
  ticker:cancel()
  print("hour " .. hours(), "backup done")
  return hours()
end

local before = os.time()
print("returned", runner:run(backup))

-- The same loop again: time limits are tested without waiting for them.
print("returned", runner:run(function()
  local ok, e = async.pcall(async.wait_for, function() async.sleep(7 * 24 * 3600) end, 24 * 3600)
  return ok, e.name
end))
print("took no time", os.time() - before < 5)

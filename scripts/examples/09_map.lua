-- map: one function for every item of a list, at most so many at a time; the results keep the order of the list.
local async = require "lunation"

local running, most = 0, 0
local function resize(name, index)
  running = running + 1
  most = math.max(most, running)
  local _ <close> = async.defer(function() running = running - 1 end)
  async.sleep(0.01 * index)
  return name:upper()
end

local names = { "ant", "bee", "cat", "dog", "elk", "fox" }
print(table.concat(async.map(names, resize), " "))
print("at once: " .. most)

most = 0
print(table.concat(async.map(names, resize, { limit = 2 }), " "))
print("at once: " .. most)

-- The first error cancels the rest, waits for them, and is thrown.
local started = 0
local ok, e = async.pcall(async.map, names, function(name)
  started = started + 1
  async.sleep(name == "bee" and 0.02 or 60)
  error(async.ValueError("no picture of a " .. name))
end, { limit = 3 })
print(ok, e)
print("started: " .. started, "still running: " .. #async.all_tasks() - 1)

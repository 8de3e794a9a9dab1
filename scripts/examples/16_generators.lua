-- Generators that await: a coroutine may sleep between two values, while other tasks go on.
local async = require "lunation"
local coroutine = async.coroutine -- the command's global `coroutine` is this table already; here it is said

local function ticks(n, seconds)
  return coroutine.wrap(function()
    for i = 1, n do
      async.sleep(seconds) -- suspends the task around the generator
      coroutine.yield(i, i * i) -- goes to the `for` loop
    end
  end)
end

local others = 0
local background = async.create_task(function()
  while true do
    async.sleep(0.01)
    others = others + 1
  end
end)
for i, square in ticks(3, 0.04) do print(i, square) end
background:cancel()
print("others went on: " .. tostring(others >= 4))

-- Generators of generators: nothing has to be marked on the way.
local function even(source)
  return coroutine.wrap(function()
    for i, square in source do
      if i % 2 == 0 then coroutine.yield(i, square) end
    end
  end)
end
for i, square in even(ticks(4, 0.01)) do print("even", i, square) end

-- Two tasks, each with a generator of its own.
local function sum(n)
  return function()
    local total = 0
    for i in ticks(n, 0.01) do total = total + i end
    return total
  end
end
print("sums", table.unpack(async.gather { sum(4), sum(6) }))

-- A time limit reaches into a generator.
local ok, e = async.pcall(function()
  local _ <close> = async.timeout(0.1)
  for i in ticks(3, 0.07) do print("tick", i) end
end)
print(ok, e.name)

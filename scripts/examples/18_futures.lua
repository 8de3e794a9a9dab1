-- Futures: a result that somebody else will supply; and values that know how to be awaited.
local async = require "lunation"

local loop = async.get_running_loop()

-- Many may wait for one future, and all get what it was settled with.
local weather = loop:create_future()
local function reader(name)
  return function()
    local text, degrees = async.await(weather)
    return name .. " reads: " .. text .. ", " .. degrees
  end
end
loop:call_later(0.02, function() weather:set_result("fair", 21) end)
for _, line in ipairs(async.gather { reader("Ann"), reader("Bob") }) do print(line) end
print(weather:done(), weather:result())

-- It is settled once.
print(select(2, async.pcall(weather.set_result, weather, "foul")).name)

-- With an error it throws; done callbacks are told of the end in any case.
local broken = async.Future()
broken:add_done_callback(function(future) print("told of", future:exception()) end)
broken:set_exception(async.OSError("the barometer fell", { code = "EIO" }))
print(async.pcall(async.await, broken))

-- Anything with __await can be awaited, gathered, timed out.
local Parcel = {}
Parcel.__index = Parcel
function Parcel:__await()
  async.sleep(self.days / 100)
  return self.contents
end
local function parcel(contents, days) return setmetatable({ contents = contents, days = days }, Parcel) end

print(async.await(parcel("a book", 2)))
print(table.unpack(async.gather { parcel("a lamp", 4), parcel("a clock", 2) }))
print(select(2, async.pcall(async.wait_for, parcel("a piano", 6000), 0.02)).name)

-- race: the first one to end decides; the others are cancelled, and have ended when race returns.
local async = require "lunation"

local function mirror(name, seconds, problem)
  return function()
    local _ <close> = async.defer(function(err)
      if async.isinstance(err, async.CancelledError) then print(name .. " gave up") end
    end)
    async.sleep(seconds)
    if problem then error(async.OSError(problem, { code = "ECONNRESET" })) end
    return "from " .. name, seconds
  end
end

print(async.race { mirror("Oslo", 60), mirror("Lima", 0.02) })

-- The first to end decides also when it ends badly.
local ok, e = async.pcall(async.race, { mirror("Oslo", 60), mirror("Quito", 0.02, "connection reset") })
print(ok, e)

-- A race against the clock, with something to fall back on.
print(async.race {
  mirror("Oslo", 60),
  function() return async.sleep(0.02, "from the cache") end,
})

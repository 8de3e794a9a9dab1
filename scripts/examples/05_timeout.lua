-- Time limits: wait_for for one thing, a timeout scope for a block; both wait until what they cut off has really ended.
local async = require "lunation"

local function answer(seconds)
  local _ <close> = async.defer(function(err)
    if err then print("  the answer was cut off by " .. err.name) end
  end)
  async.sleep(seconds)
  return 42
end

print("in time", async.wait_for(function() return answer(0.02) end, 5))
local ok, e = async.pcall(async.wait_for, function() return answer(60) end, 0.02)
print("too late", ok, e.name)

-- A scope limits all that is awaited until the end of its block.
ok, e = async.pcall(function()
  local _ <close> = async.timeout(0.1)
  for step = 1, 100 do
    async.sleep(0.07)
    print("step " .. step)
  end
end)
print("block", ok, e.name)

-- The limit can be moved while the block runs.
local loop = async.get_running_loop()
do
  local limit <close> = async.timeout(0.03)
  limit:reschedule(loop:time() + 5)
  async.sleep(0.06)
  print("extended", limit:expired())
end

-- Scopes nest; each one throws its own TimeoutError, to its own block.
ok, e = async.pcall(function()
  local _ <close> = async.timeout(5)
  local inner_ok, inner = async.pcall(function()
    local _ <close> = async.timeout(0.02)
    async.sleep(60)
  end)
  print("inner", inner_ok, inner.name)
  async.sleep(0.02)
  return "the outer block goes on"
end)
print("outer", ok, e)

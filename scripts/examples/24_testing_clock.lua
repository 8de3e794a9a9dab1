-- testing.clock: the time of a test stands still, and moves by as much as the test says.
local async = require "lunation"
local testing = require "lunation.testing"

-- What is to be tested: tries again after 1, 2, 4, ... seconds.
local function retry(times, fn)
  for i = 1, times do
    local ok, result = async.pcall(fn)
    if ok then return result end
    async.sleep(2 ^ (i - 1))
  end
  error(async.Error("gave up"))
end

local before = testing.leaks()
do
  local clock <close> = testing.clock { autojump = false }
  local start = clock:now()
  local task = async.create_task(retry, 4, function()
    print(("try at %g s"):format(math.floor(clock:now() - start + 0.5)))
    error(async.OSError("no luck"))
  end)
  local _ <close> = async.defer(function() task:cancel() end)
  for _ = 1, 3 do
    clock:advance(1) -- stops at each deadline, and comes back when everybody waits
    print(("%g s later"):format(math.floor(clock:now() - start + 0.5)))
  end
  clock:autojump(true) -- now it jumps to the next deadline whenever everybody waits
  print(select(2, async.pcall(async.await, task)))
end

-- The usual clock is back. What is left behind is told with the place where it was made.
local ticker = async.create_task(async.sleep, 60)
for _, leak in ipairs(testing.leaks(before)) do print(leak.kind, leak.where:match("[^/]*$")) end
ticker:cancel()
testing.wait_all_blocked()
print("leaks", #testing.leaks(before))

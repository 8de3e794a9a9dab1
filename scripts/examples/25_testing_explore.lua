-- testing.explore: the same function under many orders of ready tasks, and the seed of the one that fails.
local async = require "lunation"
local testing = require "lunation.testing"

-- Right as long as nobody else comes between reading and writing.
local function transfer(account, amount, lock)
  local _ <close> = lock and lock:guard()
  local balance = account.balance
  async.sleep(0.01)
  account.balance = balance + amount
end

local function payday(lock)
  local account = { balance = 0 }
  async.gather {
    function() transfer(account, 10, lock) end,
    function()
      async.sleep(0.01)
      transfer(account, 20, lock)
    end,
  }
  assert(account.balance == 30, "money is lost")
end

-- Usually it goes well: the second transfer begins when the first has ended.
payday()
local ok, e = async.pcall(testing.explore, payday, { seed = 1, runs = 1000 })
print(ok, tostring(e.cause):match("[^:]+$"))

-- The seed brings it back as often as one likes.
ok, e = async.pcall(testing.explore, payday, { seed = e.seed, runs = 1 })
print(ok, tostring(e.cause):match("[^:]+$"))

print(testing.explore(function() payday(async.Lock()) end), "runs with a lock")

-- Nobody fills this queue: that is a failure, too, and no hang.
ok, e = async.pcall(testing.explore, function() async.Queue():get() end)
print(ok, (e.cause.message:match("^[^.]*")))

-- A fault: what is thrown between acquire and release leaves the lock locked.
local async = require "lunation"

local account = { lock = async.Lock(), balance = 100 }

local function withdraw(amount)
  account.lock:acquire()
  local balance = account.balance
  async.sleep(0.001) -- HERE
  account.balance = balance - amount
  account.lock:release()
end

describe("account", function()
  it("is debited", function()
    account.balance = 100
    withdraw(30)
    assert.equal(70, account.balance)
  end)
end)

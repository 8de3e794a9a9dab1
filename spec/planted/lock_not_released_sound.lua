-- A guard releases it on every way out.
local async = require "lunation"

local account = { lock = async.Lock(), balance = 100 }

local function withdraw(amount)
  local _ <close> = account.lock:guard()
  local balance = account.balance
  async.sleep(0.001)
  account.balance = balance - amount
end

describe("account", function()
  it("is debited", function()
    account.balance = 100
    withdraw(30)
    assert.equal(70, account.balance)
  end)
end)

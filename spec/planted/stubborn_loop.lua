-- A fault: waits for a flag that nobody can set, and catches whatever is thrown at it.
local async = require "lunation"

describe("a flag", function()
  it("is waited for", function()
    local flag = false
    async.create_task(function() flag = true end)
    while not flag do -- HERE
      pcall(function() for _ = 1, 1000 do if flag then return end end end)
    end
  end)

  it("does not keep the next test from running", function() assert.is_nil(async.sleep(0)) end)
end)

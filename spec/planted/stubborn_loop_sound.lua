-- Gives way, and catches what may be caught.
local async = require "lunation"

describe("a flag", function()
  it("is waited for", function()
    local flag = false
    async.create_task(function() flag = true end)
    while not flag do
      async.pcall(async.sleep, 0)
    end
  end)
end)

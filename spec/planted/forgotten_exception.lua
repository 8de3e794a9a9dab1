-- A fault: the task that saves fails, and nobody asks how it went.
local async = require "lunation"

local function save(record)
  async.sleep(0.001)
  error(async.ValueError("cannot save " .. record)) -- THROWN
end

describe("records", function()
  it("are saved on the way", function()
    async.create_task(save, "one") -- HERE
    async.sleep(0.01)
    assert.is_true(true)
  end)
end)

-- The test asks how it went.
local async = require "lunation"

local function save(record)
  async.sleep(0.001)
  error(async.ValueError("cannot save " .. record))
end

describe("records", function()
  it("are saved on the way", function()
    local task = async.create_task(save, "one")
    async.sleep(0.01)
    assert.error_matches(function() async.await(task) end, "cannot save one")
  end)
end)

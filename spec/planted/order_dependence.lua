-- A fault: the second task counts on the first one's having run. First in, first out it always has.
local async = require "lunation"

describe("configuration", function()
  it("is loaded before it is used", function()
    local configuration
    local results = async.gather {
      function()
        async.sleep(0)
        configuration = { name = "ada" }
      end,
      function()
        async.sleep(0)
        return configuration and configuration.name or "nobody"
      end,
    }
    assert.equal("ada", results[2]) -- HERE
  end)
end)

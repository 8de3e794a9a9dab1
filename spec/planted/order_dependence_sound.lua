-- The second one waits for an event.
local async = require "lunation"

describe("configuration", function()
  it("is loaded before it is used", function()
    local configuration
    local loaded = async.Event()
    local results = async.gather {
      function()
        async.sleep(0)
        configuration = { name = "ada" }
        loaded:set()
      end,
      function()
        async.sleep(0)
        loaded:wait()
        return configuration and configuration.name or "nobody"
      end,
    }
    assert.equal("ada", results[2])
  end)
end)

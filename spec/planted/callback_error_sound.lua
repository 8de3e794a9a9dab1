-- There is something to count in.
local async = require "lunation"

describe("callback", function()
  it("counts", function()
    local counts = { n = 0 }
    async.get_running_loop():call_soon(function()
      counts.n = counts.n + 1
    end)
    async.sleep(0.001)
    assert.equal(1, counts.n)
  end)
end)

-- A fault: a callback throws, where no test can catch it.
local async = require "lunation"

describe("callback", function()
  it("counts", function()
    local counts
    async.get_running_loop():call_soon(function()
      counts.n = counts.n + 1 -- HERE
    end)
    async.sleep(0.001)
    assert.is_nil(counts)
  end)
end)

-- The watch is called off.
local async = require "lunation"

describe("watch", function()
  it("is set", function()
    local late = false
    local loop = async.get_running_loop()
    local answer = loop:create_future()
    loop:call_later(0.001, answer.set_result, answer, 42)
    local watch = loop:call_later(3600, function() late = true end)
    local _ <close> = async.defer(function() watch:cancel() end)
    assert.equal(42, async.await(answer))
    assert.is_false(late)
  end)
end)

-- async.timeout and async.timeout_at: scopes that limit the time of a block.
local async = require "lunation"
local support = require "spec.support.tasks"
local testing = require "lunation.testing"

local caught, class_in_message = support.caught, support.class_in_message

local loop = async.get_running_loop()
local me = async.current_task

-- A task that runs `f`; returns the outcome as pcall does, and the task.
local function in_task(f, ...)
  local t = async.create_task(f, ...)
  async.wait { t }
  return pcall(t.result, t)
end

-- Time stands until settle_late lets it go: nothing expires before that, however slow the machine is.
local function held() return testing.clock { autojump = false } end

-- Settles `fut`, then lets the time pass `scope`'s deadline before the waiting task can run. It is busy until then, and
-- on a virtual clock that would be for ever: tests that call it have the tag #real.
local function settle_late(clock, fut, scope, ...)
  local values = table.pack(...)
  loop:call_soon(function()
    fut:set_result(table.unpack(values, 1, values.n))
    clock:close()
    while loop:time() <= scope:when() do end
  end)
end

describe("a timeout that ends its task", function()
  it("tells where the time was up", function()
    local function slow() async.sleep(60) return true end
    local _, e = in_task(function()
      local _ <close> = async.timeout(0.001)
      return slow() and 1
    end)
    assert.equal("TimeoutError: timed out", tostring(e))
    assert.matches("timeout_spec.lua:%d+: in upvalue 'slow'", async.traceback(e.cause))
  end)
end)

describe("timeout", function()
  it("throws TimeoutError out of a block that takes too long", function()
    local scope
    local e = caught(function()
      local t <close> = async.timeout(0.005)
      scope = t
      assert.is_false(t:expired())
      async.sleep(30)
    end)
    assert.equal("TimeoutError", e.name)
    assert.is_true(async.isinstance(e, async.TimeoutError))
    assert.equal("CancelledError", e.cause.name)
    assert.is_true(scope:expired())
    assert.equal(0, me():cancelling())
    async.sleep(0)
  end)

  it("does nothing to a block that ends in time, also afterwards", function()
    local scope
    do
      local t <close> = async.timeout(0.003)
      scope = t
      async.sleep(0)
    end
    async.sleep(0.01)
    assert.is_false(scope:expired())
    assert.equal(0, me():cancelling())
  end)

  it("keeps the results of a block that returns", function()
    local function block()
      local _ <close> = async.timeout(1)
      return 1, nil, 3, nil
    end
    assert.same(table.pack(1, nil, 3, nil), table.pack(block()))
  end)

  it("has no deadline for nil", function()
    local t <close> = async.timeout(nil)
    assert.is_nil(t:when())
    local u <close> = async.timeout()
    assert.is_nil(u:when())
    local v <close> = async.timeout_at(nil)
    assert.is_nil(v:when())
    async.sleep(0)
    assert.is_false(t:expired())
  end)

  it("never expires at infinity", function()
    local t <close> = async.timeout(math.huge)
    assert.equal(math.huge, t:when())
    local u <close> = async.timeout_at(math.huge)
    assert.equal(math.huge, u:when())
    local far <close> = async.timeout(1e300)
    async.sleep(0)
    assert.is_false(far:expired())
  end)

  it("tells its deadline as a time of the loop", function()
    local before = loop:time()
    local t <close> = async.timeout(5)
    local after = loop:time()
    assert.is_true(t:when() >= before + 5 and t:when() <= after + 5.000001)
    local at = loop:time() + 7
    local u <close> = async.timeout_at(at)
    assert.equal(at, u:when())
  end)

  it("expires at the first suspension if the time is up at the beginning", function()
    for _, make in ipairs {
      function() return async.timeout(0) end,
      function() return async.timeout(-3) end,
      function() return async.timeout_at(loop:time() - 1) end,
      function() return async.timeout_at(-math.huge) end,
    } do
      local steps = 0
      local e = caught(function()
        local _ <close> = make()
        steps = 1
        async.sleep(0)
        steps = 2
        async.sleep(0)
        steps = 3
      end)
      assert.equal("TimeoutError", e.name)
      assert.is_true(steps == 1 or steps == 2)
      do
        local _ <close> = make() -- a block that does not await ends well
      end
      assert.equal(0, me():cancelling())
      async.sleep(0)
    end
  end)

  it("ends well if the block swallows the cancellation", function()
    local scope
    do
      local t <close> = async.timeout(0.002)
      scope = t
      assert.equal("CancelledError", caught(async.sleep, 30).name)
      assert.equal(1, me():cancelling())
      async.sleep(0)
    end
    assert.is_true(scope:expired())
    assert.equal(0, me():cancelling())
    async.sleep(0)
  end)

  it("lets other errors pass, before and after it expired", function()
    local e = caught(function()
      local _ <close> = async.timeout(5)
      error(async.ValueError("early"))
    end)
    assert.equal("ValueError: early", tostring(e))
    e = caught(function()
      local _ <close> = async.timeout(0.002)
      pcall(async.sleep, 30)
      error("late", 0)
    end)
    assert.equal("late", e)
    assert.equal(0, me():cancelling())
  end)

  it("does not take a CancelledError that is not its own", function()
    local child = async.create_task(async.sleep, 30)
    async.sleep(0)
    child:cancel("third party")
    local e = caught(function()
      local _ <close> = async.timeout(5)
      async.await(child)
    end)
    assert.equal("CancelledError", e.name)
    e = caught(function()
      local _ <close> = async.timeout(5)
      error(async.CancelledError("thrown"))
    end)
    assert.equal("CancelledError: thrown", tostring(e))
  end)

  it("drops its request if the block ends before it was delivered #real", function()
    local fut, scope = async.Future(), nil
    local clock <close> = held()
    do
      local t <close> = async.timeout(0.001)
      scope = t
      settle_late(clock, fut, t, "value")
      assert.equal("value", async.await(fut)) -- value first
      assert.is_true(t:expired())
    end
    assert.equal(0, me():cancelling())
    async.sleep(0) -- nothing is left to be thrown
  end)

  it("throws the request at the next await of the block, if there is one #real", function()
    local fut, got = async.Future(), nil
    local clock <close> = held()
    local e = caught(function()
      local t <close> = async.timeout(0.001)
      settle_late(clock, fut, t, "value")
      got = async.await(fut)
      async.sleep(0)
    end)
    assert.equal("value", got)
    assert.equal("TimeoutError", e.name)
    assert.equal(0, me():cancelling())
  end)

  it("drops an undelivered request beside an older, delivered one #real", function()
    local _, count = in_task(function()
      me():cancel()
      pcall(async.sleep, 30)
      assert.equal(1, me():cancelling())
      local fut = async.Future()
      local clock <close> = held()
      do
        local t <close> = async.timeout(0.001)
        settle_late(clock, fut, t)
        async.await(fut)
      end
      async.sleep(0)
      return me():cancelling()
    end)
    assert.equal(1, count)
  end)

  it("converts also during the cleanup after an earlier cancel", function()
    local ok, e, count = in_task(function()
      me():cancel()
      pcall(async.sleep, 30)
      local e = caught(function()
        local _ <close> = async.timeout(0.002)
        async.sleep(30)
      end)
      return e, me():cancelling()
    end)
    assert.is_true(ok)
    assert.equal("TimeoutError", e.name)
    assert.equal(1, count)
  end)

  it("lets closers inside of it await while the time is up", function()
    local log = {}
    local e = caught(function()
      local _ <close> = async.timeout(0.002)
      local _ <close> = async.defer(function(err)
        log[#log + 1] = err.name
        async.sleep(0.002)
        log[#log + 1] = "cleaned up"
      end)
      async.sleep(30)
    end)
    assert.equal("TimeoutError", e.name)
    assert.same({ "CancelledError", "cleaned up" }, log)
  end)

  it("gives a block the value that the awaited task returned instead of stopping", function()
    local t = async.create_task(function()
      pcall(async.sleep, 30)
      return "stubborn"
    end)
    local scope, got
    do
      local s <close> = async.timeout(0.002)
      scope, got = s, async.await(t)
    end
    assert.equal("stubborn", got)
    assert.is_true(scope:expired())
    assert.equal(0, me():cancelling())
  end)

  describe("and a cancel from outside:", function()
    it("the cancel passes", function()
      local scope
      local t = async.create_task(function()
        local s <close> = async.timeout(5)
        scope = s
        async.sleep(30)
      end)
      async.sleep(0)
      t:cancel("outside")
      local e = caught(async.await, t)
      assert.equal("CancelledError: outside", tostring(e))
      assert.is_false(scope:expired())
      assert.equal(1, t:cancelling())
    end)

    it("the cancel wins if both come at once, in either order", function()
      for _, first in ipairs { "cancel", "timeout" } do
        local t, scope
        t = async.create_task(function()
          local s <close> = async.timeout(0.002)
          scope = s
          if first == "timeout" then
            local _ <close> = async.defer(function() t:cancel() end)
            async.sleep(30)
          else
            pcall(async.sleep, 30)
            pcall(async.sleep, 30)
            error(async.CancelledError())
          end
        end)
        async.sleep(0)
        if first == "cancel" then t:cancel() end
        assert.equal("CancelledError", caught(async.await, t).name)
        assert.is_true(scope:expired())
        assert.equal(1, t:cancelling())
      end
    end)
  end)

  describe("nested", function()
    local function nested(outer_at, inner_at)
      local inner_error, outer_scope, inner_scope
      local ok, outer_error = pcall(function()
        local o <close> = async.timeout_at(outer_at)
        outer_scope = o
        local _, e = pcall(function()
          local i <close> = async.timeout_at(inner_at)
          inner_scope = i
          async.sleep(30)
        end)
        inner_error = e
        if async.isinstance(e, async.CancelledError) then error(e) end
        async.sleep(0)
      end)
      assert.equal(0, me():cancelling())
      async.sleep(0)
      return inner_error.name, ok or outer_error.name, inner_scope:expired(), outer_scope:expired()
    end

    it("the inner one throws in the inner block", function()
      local now = loop:time()
      assert.same({ "TimeoutError", true, true, false }, { nested(now + 5, now + 0.002) })
    end)

    it("the outer one throws out of the outer block", function()
      local now = loop:time()
      assert.same({ "CancelledError", "TimeoutError", false, true },
        { nested(now + 0.002, now + 5) })
    end)

    it("at the same instant the outer one wins", function()
      local at = loop:time() + 0.002
      assert.same({ "CancelledError", "TimeoutError", true, true }, { nested(at, at) })
    end)

    it("at nearly the same instant, too, whichever fires first", function()
      local past = loop:time() - 1
      assert.same({ "CancelledError", "TimeoutError", true, true },
        { nested(past + 0.001, past) })
      assert.same({ "CancelledError", "TimeoutError", true, true },
        { nested(past, past + 0.001) })
    end)

    it("leave no request behind that was never delivered #real", function()
      local ok, count = in_task(function()
        me():cancel()
        pcall(async.sleep, 30)
        local fut = async.Future()
        local clock <close> = held()
        do
          local _ <close> = async.timeout(0.001)
          do
            local t <close> = async.timeout(0.001)
            settle_late(clock, fut, t)
            async.await(fut)
          end
        end
        async.sleep(0)
        return me():cancelling()
      end)
      assert.is_true(ok)
      assert.equal(1, count)
    end)

    it("count exactly, whatever happens (random nestings)", function()
      local seed = 42
      local function random(n)
        seed = (seed * 1103515245 + 12345) % 2147483648
        return seed // 65536 % n
      end
      local function nest(depth)
        local ok, e = pcall(function()
          local _ <close> = async.timeout_at(loop:time() + (random(4) - 2) * 0.0005)
          if depth > 0 and random(4) > 0 then nest(depth - 1) end
          if random(3) == 0 then pcall(async.sleep, 0) end
          if random(3) == 0 then error(async.ValueError("own")) end
          async.sleep(random(2) * 0.0002)
        end)
        if not ok and (e.name == "CancelledError" or random(3) == 0) then error(e) end
      end
      for _ = 1, 200 do
        local ok, e = pcall(nest, 5)
        assert.is_true(ok or e.name ~= "CancelledError")
        assert.equal(0, me():cancelling())
        async.sleep(0)
      end
    end)
  end)

  describe("reschedule", function()
    it("moves the deadline later", function()
      local t <close> = async.timeout(0.002)
      t:reschedule(loop:time() + 5)
      async.sleep(0.006)
      assert.is_false(t:expired())
    end)

    it("moves it earlier, and into the past", function()
      for _, offset in ipairs { 0.002, -1 } do
        local e = caught(function()
          local t <close> = async.timeout(5)
          t:reschedule(loop:time() + offset)
          async.sleep(1)
        end)
        assert.equal("TimeoutError", e.name)
      end
    end)

    it("sets one where there was none, and switches off", function()
      local e = caught(function()
        local t <close> = async.timeout(nil)
        t:reschedule(loop:time() + 0.002)
        async.sleep(1)
      end)
      assert.equal("TimeoutError", e.name)
      local t <close> = async.timeout(0.002)
      t:reschedule(nil)
      assert.is_nil(t:when())
      async.sleep(0.005)
      t:reschedule(math.huge)
      assert.equal(math.huge, t:when())
      async.sleep(0)
      assert.is_false(t:expired())
    end)

    it("is too late after the end and once it has expired", function()
      local scope
      pcall(function()
        local t <close> = async.timeout(0.002)
        scope = t
        pcall(async.sleep, 30)
        class_in_message(caught(t.reschedule, t, loop:time() + 1), async.RuntimeError, "expired")
      end)
      class_in_message(caught(scope.reschedule, scope, nil), async.RuntimeError, "ended")
      do
        local t <close> = async.timeout(1)
        scope = t
      end
      class_in_message(caught(scope.reschedule, scope, 1), async.RuntimeError, "ended")
    end)
  end)

  it("ends once, however often it is closed", function()
    local e = caught(function()
      local t <close> = async.timeout(0.002)
      local _ <close> = t
      async.sleep(30)
    end)
    assert.equal("TimeoutError", e.name)
    assert.equal(0, me():cancelling())
  end)

  it("is ended by the task that made it only", function()
    local t <close> = async.timeout(5)
    local ok, e = in_task(function()
      local _ <close> = t
    end)
    assert.is_false(ok)
    class_in_message(e, async.RuntimeError, "another task")
    assert.is_false(t:expired())
    t:reschedule(loop:time() + 6)
  end)

  it("needs a task", function()
    local errors = {}
    for _, make in ipairs { async.timeout, async.timeout_at } do
      loop:call_soon(function() errors[#errors + 1] = select(2, pcall(make, 1)) end)
    end
    async.sleep(0)
    async.sleep(0)
    class_in_message(errors[1], async.RuntimeError, "task")
    class_in_message(errors[2], async.RuntimeError, "task")
  end)

  it("lies quiet when nobody closes it and nobody has it", function()
    async.timeout(0.001)
    collectgarbage()
    collectgarbage()
    async.sleep(0.004)
    assert.equal(0, me():cancelling())
  end)

  it("may outlive its task", function()
    local scope
    in_task(function() scope = async.timeout(0.001) end)
    async.sleep(0.004)
    assert.is_true(scope:expired())
    collectgarbage()
  end)

  it("stops the whole way down to what is awaited", function()
    local t = async.create_task(async.sleep, 30)
    local e = caught(function()
      local _ <close> = async.timeout(0.002)
      async.await(t)
    end)
    assert.equal("TimeoutError", e.name)
    assert.is_true(t:cancelled())
  end)

  it("names function and argument of bad input", function()
    for name, make in pairs { timeout = async.timeout, timeout_at = async.timeout_at } do
      for _, bad in ipairs { "1", true, {}, print, 0 / 0 } do
        class_in_message(caught(make, bad), async.TypeError, name, "#1", "number expected")
      end
    end
    local t <close> = async.timeout(5)
    for _, bad in ipairs { "1", true, {}, 0 / 0 } do
      class_in_message(caught(function() t:reschedule(bad) end), async.TypeError,
        "reschedule", "#1", "number expected")
    end
    for _, name in ipairs { "when", "reschedule", "expired" } do
      for _, bad in ipairs { 1, "x", {}, io.stdout, async.Future() } do
        class_in_message(caught(t[name], bad), async.TypeError, name, "Timeout expected")
      end
      class_in_message(caught(t[name]), async.TypeError, name, "Timeout expected")
    end
    assert.is_false(t:expired())
  end)
end)

-- gather: its caller is cancelled, or is among those it waits for.
local async = require "lunation"
local support = require "spec.support.gathering"
local turns, slow_to_end, reported = support.turns, support.slow_to_end, support.reported

describe("gather whose caller is cancelled", function()
  local modes = { default = {}, return_exceptions = { return_exceptions = true }, cancel_on_error = { cancel_on_error = true } }

  for name, opts in pairs(modes) do
    it("cancels all children: " .. name, function()
      local log = {}
      local a, b, fut = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8), async.Future()
      local other = async.create_task(function() return pcall(async.await, a) end)
      local g = async.create_task(async.gather, { a, b, fut }, opts)
      turns()
      assert.is_true(g:cancel("from outside"))
      local ok, e = pcall(async.await, g)
      assert.equal("CancelledError: from outside", tostring(e))
      assert.is_true(g:cancelled())
      async.wait { a, b, fut }
      assert.is_true(a:cancelled() and b:cancelled() and fut:cancelled())
      assert.equal(1, a:cancelling())
      assert.equal("CancelledError", select(2, async.await(other)).name)
    end)

    -- The contract says "waits for all of them, in every mode"; the conformance case gather_cancelled_caller has
    -- asyncio's way, the first child, in the default mode. They exclude each other; the engine follows the case.
    local waits = name == "default" and pending or it
    waits("and waits for all of them: " .. name, function()
      local log = {}
      local a, b = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8)
      local g = async.create_task(async.gather, { a, b }, opts)
      turns()
      g:cancel()
      pcall(async.await, g)
      assert.same({ "a", "b" }, log)
    end)

    it("throws also if every child swallows it: " .. name, function()
      local g = async.create_task(async.gather, {
        function() pcall(async.sleep, 60) return "stubborn" end, function() pcall(async.sleep, 60) turns(3) end }, opts)
      turns()
      g:cancel()
      assert.equal("CancelledError", select(2, pcall(async.await, g)).name)
      assert.is_true(g:cancelled())
    end)
  end

  it("does not suspend any more once it has gone through", function()
    local after = {}
    local g = async.create_task(function()
      after.ok, after.e = pcall(async.gather, { function() async.sleep(60) end })
      async.sleep(0)
      after.slept = true
      return "went on"
    end)
    turns()
    g:cancel()
    assert.equal("went on", async.await(g))
    assert.is_false(after.ok)
    assert.is_true(after.slept)
    assert.equal(1, g:cancelling())
  end)

  it("throws once for several requests, and passes each on", function()
    local seen = 0
    local child = async.create_task(function()
      for _ = 1, 2 do
        local ok = pcall(async.sleep, 60)
        if not ok then seen = seen + 1 end
      end
    end)
    local g = async.create_task(function()
      local ok, e = pcall(async.gather, { child })
      assert(not ok)
      async.sleep(0)
      async.sleep(0)
      return e
    end)
    turns()
    g:cancel("one")
    turns()
    g:cancel("two")
    local e = async.await(g)
    assert.equal("CancelledError: two", tostring(e))
    assert.equal(2, seen)
    assert.equal(2, g:cancelling())
  end)

  it("has one throw for a request that comes when the children have ended by an earlier one", function()
    local fut = async.Future()
    local g
    g = async.create_task(function()
      local ok, e = pcall(async.gather, { fut })
      assert(not ok)
      async.sleep(0)
      async.sleep(0)
      return e
    end)
    turns()
    g:cancel("one") -- settles fut, so the join as well
    g:cancel("two")
    assert.equal("CancelledError", async.await(g).name)
  end)

  it("gives a result that was there before, and the request at the next await", function()
    local fut = async.Future()
    local g = async.create_task(function()
      local r = async.gather { fut }
      local ok, e = pcall(async.sleep, 60)
      return r[1], ok, e.name
    end)
    turns()
    fut:set_result("value")
    g:cancel()
    local v, ok, name = async.await(g)
    assert.equal("value", v)
    assert.is_false(ok)
    assert.equal("CancelledError", name)
  end)

  it("gives an error that was there before", function()
    local fut, other = async.Future(), async.Future()
    local g = async.create_task(async.gather, { fut, other })
    turns()
    fut:set_exception("failed")
    g:cancel()
    assert.equal("failed", select(2, pcall(async.await, g)))
    assert.is_false(other:done())
  end)

  it("before it suspends cancels the children that it has just made", function()
    local started = false
    local g
    g = async.create_task(function()
      g:cancel("myself")
      return async.gather { function() started = true end }
    end)
    assert.equal("CancelledError: myself", tostring(select(2, pcall(async.await, g))))
    assert.is_false(started)
  end)

  it("still gets the results of what is all done", function()
    local fut = async.Future()
    fut:set_result(7)
    local g
    g = async.create_task(function()
      g:cancel()
      return async.gather { fut }
    end)
    assert.same({ 7, n = 1 }, async.await(g))
  end)

  it("reports the errors of its children, but not their cancellations", function()
    local list = reported(function()
      local g = async.create_task(async.gather, {
        function() pcall(async.sleep, 60) error("in cleanup", 0) end, function() async.sleep(60) end })
      turns()
      g:cancel()
      pcall(async.await, g)
    end)
    assert.equal(1, #list)
    assert.equal("in cleanup", list[1].exception)
  end)

  it("cancels a tree of gathers", function()
    local ended = 0
    local function leaf()
      local _ <close> = async.defer(function() ended = ended + 1 end)
      async.sleep(60)
    end
    local function tree(depth)
      if depth == 0 then return leaf() end
      return async.gather { function() tree(depth - 1) end, function() tree(depth - 1) end }
    end
    local g = async.create_task(tree, 6)
    turns(12)
    g:cancel()
    assert.equal("CancelledError", select(2, pcall(async.await, g)).name)
    assert.equal(64, ended)
  end)

  it("may sit in a chain of 500 gathers", function()
    local task = async.create_task(async.sleep, 60)
    for _ = 1, 500 do
      local inner = task
      task = async.create_task(function() return async.gather { inner } end)
    end
    turns()
    task:cancel()
    assert.equal("CancelledError", select(2, pcall(async.await, task)).name)
  end)
end)

describe("gather that would wait for its caller", function()
  it("throws RuntimeError", function()
    local ok, e = pcall(async.gather, { async.current_task() })
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
  end)

  it("also over other tasks", function()
    local me, child
    me = async.create_task(function()
      turns(2)
      return pcall(async.gather, { function() turns(3) end, child })
    end)
    child = async.create_task(function() return async.await(me) end)
    local ok, e = async.await(child)
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
    turns()
  end)

  it("and an await that closes a cycle through a gather throws, too", function()
    local me, child
    me = async.create_task(function() return async.gather { child } end)
    child = async.create_task(function()
      turns(2)
      local ok, e = pcall(async.await, me)
      return e.name
    end)
    assert.equal("RuntimeError", async.await(me)[1])
  end)
end)

-- Cancellation and a value that is there already: value first, the request later; and the count of requests.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns

-- A task in fn, suspended in it.
local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns(2)
  return task
end

describe("value first", function()
  -- Everything that can be awaited and settled in the turn of the request.
  local function cases()
    local f, g = async.Future(), async.Future()
    return {
      { "future", function() return async.await(f) end, function() f:set_result("value") end },
      {
        "task", function() return async.await(async.create_task(function() return async.await(g) end)) end,
        function() g:set_result("value") turns(1) end,
      },
    }
  end

  it("a value that has arrived is delivered, the request thrown at the next await", function()
    for _, case in ipairs(cases()) do
      local name, fn, finish = table.unpack(case)
      local got, e
      local task = started(function()
        got = fn()
        e = thrown(async.sleep, 60)
        error(e)
      end)
      turns(2)
      finish()
      if not task:done() and got == nil then
        assert.is_true(task:cancel("late"), name)
        assert.equal("late", thrown(async.await, task).message, name)
        assert.equal("value", got, name)
        assert.equal("late", e.message, name)
        assert.equal(1, task:cancelling(), name)
      else
        task:cancel()
        async.wait { task }
        assert.equal("value", got, name)
      end
    end
  end)

  it("an error that has arrived is delivered", function()
    local f = async.Future()
    local e = async.ValueError("arrived")
    local task = started(async.await, f)
    f:set_exception(e)
    assert.is_true(task:cancel())
    assert.equal(e, thrown(async.await, task))
    assert.is_false(task:cancelled())
    assert.equal(1, task:cancelling())
  end)

  it("with no further await the task ends with its result", function()
    local f = async.Future()
    local task = started(function() return async.await(f), "kept" end)
    f:set_result("value")
    assert.is_true(task:cancel())
    local value, kept = async.await(task)
    assert.equal("value", value)
    assert.equal("kept", kept)
    assert.is_false(task:cancelled())
    assert.equal(1, task:cancelling())
  end)

  -- The request goes to the innermost task; one that ends by itself in that turn has nothing to throw it at.
  it("a task that ends in the same turn hands the request back to who passed it on", function()
    for _, ending in ipairs { "value", "error" } do
      local gate = async.Event()
      local inner = started(function()
        gate:wait()
        if ending == "error" then error("inner error", 0) end
        return "value"
      end)
      local got, e
      local outer = started(function()
        got = select(2, pcall(async.await, inner))
        e = thrown(async.sleep, 60)
        error(e)
      end)
      local top = started(function() return async.await(outer) end)
      gate:set()
      assert.is_true(top:cancel("enough"))
      assert.equal("enough", thrown(async.await, top).message)
      assert.equal(ending == "error" and "inner error" or "value", got)
      assert.equal("enough", e.message)
      assert.is_false(inner:cancelled())
      assert.is_true(outer:cancelled() and top:cancelled())
      assert.same({ 1, 1, 1 }, { inner:cancelling(), outer:cancelling(), top:cancelling() })
    end
  end)

  it("a request that was thrown at the inner task does not come back, though a second one there is dropped", function()
    local gate = async.Event()
    local inner = started(function()
      thrown(async.sleep, 60)
      gate:wait()
      return "value"
    end)
    local outer = started(function()
      local value = async.await(inner)
      async.sleep(0)
      return value
    end)
    outer:cancel()
    turns(2)
    gate:set()
    inner:cancel()
    assert.equal("value", async.await(outer))
  end)

  it("request before result: the future is cancelled, and cannot have a result", function()
    local f = async.Future()
    local task = started(async.await, f)
    task:cancel()
    refuses("InvalidStateError", {}, f.set_result, f, 1)
    refuses("CancelledError", {}, async.await, task)
  end)

  it("a pending request passes awaits that find their result there", function()
    local f = async.Future()
    f:set_result("there")
    local done = async.create_task(function() return "done" end)
    async.await(done)
    local task = async.create_task(function()
      async.current_task():cancel("pending")
      local list = {}
      for _ = 1, 10 do
        list[#list + 1] = async.await(f)
        list[#list + 1] = async.await(done)
        async.gather { f, done }
      end
      return #list, thrown(async.sleep, 0).message
    end)
    local n, message = async.await(task)
    assert.equal(20, n)
    assert.equal("pending", message)
  end)

  it("at the latest at the turn that is given every 128 awaits", function()
    local f = async.Future()
    f:set_result("there")
    local task = async.create_task(function()
      async.current_task():cancel("forced")
      for i = 1, 1000 do
        local ok, e = pcall(async.await, f)
        if not ok then return i, e.message end
      end
    end)
    local i, message = async.await(task)
    assert.equal("forced", message)
    assert.is_true(i <= 129)
  end)

  it("with a sleep whose time has come, the request wins or the sleep does, once", function()
    -- cancelled in the callback that runs just before the sleeper's turn
    local loop = async.get_running_loop()
    for _ = 1, 5 do
      local log = {}
      local task = started(function()
        local ok, e = pcall(async.sleep, 0.002)
        log[#log + 1] = ok and "slept" or e.name
        ok, e = pcall(async.sleep, 0.05) -- long, so that a slow machine does not sleep through it first
        log[#log + 1] = ok and "slept" or e.name
        return async.current_task():cancelling()
      end)
      loop:call_later(0.002, function() task:cancel() end)
      assert.equal(1, async.await(task))
      table.sort(log)
      assert.same({ "CancelledError", "slept" }, log)
    end
  end)

  it("no order of settling, cancelling and uncancelling loses or doubles anything", function()
    -- every sequence of three out of: result, error, cancel, uncancel, in one turn
    local e = async.ValueError("e")
    local acts = {
      function(f) pcall(f.set_result, f, "value") end,
      function(f) pcall(f.set_exception, f, e) end,
      function(_, task) task:cancel("c") end,
      function(_, task) task:uncancel() end,
    }
    for a = 1, 4 do
      for b = 1, 4 do
        for c = 1, 4 do
          local name = a .. b .. c
          local f, got = async.Future(), {}
          local task = started(function()
            local ok, r = pcall(async.await, f)
            got[1] = ok and r or r.name
            local ok2, r2 = pcall(async.sleep, 0)
            got[2] = ok2 or r2.name
          end)
          -- a model of it
          local settled, requests, pending = nil, 0, false
          for _, act in ipairs { a, b, c } do
            acts[act](f, task)
            if act == 1 then settled = settled or "value"
            elseif act == 2 then settled = settled or "ValueError"
            elseif act == 3 then
              requests = requests + 1
              if settled then pending = settled ~= "CancelledError" else settled = "CancelledError" end
            elseif act == 4 then
              requests = math.max(0, requests - 1)
              if requests == 0 then pending = false end
            end
          end
          assert.equal(requests, task:cancelling(), name)
          if not settled then f:set_result("value") settled = "value" end
          async.await(task)
          assert.equal(settled, got[1], name)
          assert.equal(pending and "CancelledError" or true, got[2], name)
          if f:done() and not f:cancelled() then f:exception() end
        end
      end
    end
  end)
end)

describe("cancelling and uncancel", function()
  it("count, never below zero", function()
    local task = started(function()
      for _ = 1, 3 do pcall(async.sleep, 60) end
    end)
    assert.equal(0, task:cancelling())
    assert.equal(0, task:uncancel())
    for i = 1, 3 do
      task:cancel()
      assert.equal(i, task:cancelling())
      turns(2)
    end
    assert.is_true(task:done())
    assert.equal(2, task:uncancel())
    assert.equal(1, task:uncancel())
    assert.equal(0, task:uncancel())
    assert.equal(0, task:uncancel())
    assert.equal(0, task:cancelling())
  end)

  it("at zero an undelivered request is dropped", function()
    local task = async.create_task(function()
      local me = async.current_task()
      me:cancel()
      me:cancel()
      assert.equal(1, me:uncancel())
      assert.equal(0, me:uncancel())
      async.sleep(0)
      async.sleep(0.001)
      return "undisturbed"
    end)
    assert.equal("undisturbed", async.await(task))
  end)

  it("not at zero it is not", function()
    local task = async.create_task(function()
      local me = async.current_task()
      me:cancel("one")
      me:cancel("two")
      me:uncancel()
      return thrown(async.sleep, 0).message, me:cancelling()
    end)
    local message, n = async.await(task)
    assert.equal("two", message)
    assert.equal(1, n)
  end)

  it("after 1,000 nestings of groups and timeouts the count is zero", function()
    local function nest(depth)
      if depth == 0 then return async.sleep(0) end
      if depth % 2 == 0 then
        local tg <close> = async.TaskGroup()
        tg:create_task(async.sleep, 0)
        nest(depth - 1)
      else
        local t <close> = async.timeout(60)
        nest(depth - 1)
      end
    end
    local task = async.create_task(function()
      for i = 1, helper.scaled(1000, 50) do
        nest(i % 7)
        pcall(async.wait_for, async.Future(), 0)
      end
      return async.current_task():cancelling()
    end)
    assert.equal(0, async.await(task))
  end)
end)

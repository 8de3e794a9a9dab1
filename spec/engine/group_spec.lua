-- async.TaskGroup: a block that ends when all its tasks have.
local async = require "lunation"
local support = require "spec.support.tasks"

local caught, class_in_message, turns, fail, patient, texts, reports =
  support.caught, support.class_in_message, support.turns, support.fail, support.patient, support.texts,
  support.reports

local loop = async.get_running_loop()
local me = async.current_task

describe("TaskGroup", function()
  it("waits for all its tasks", function()
    local a, b
    do
      local tg <close> = async.TaskGroup()
      a = tg:create_task(function() async.sleep(0.003) return "a" end)
      b = tg:create_task(function(x, y) async.sleep(0.001) return y, x end, 1, 2)
    end
    assert.equal("a", a:result())
    assert.same({ 2, 1 }, { b:result() })
    assert.equal(0, me():cancelling())
  end)

  it("may be empty, and may have tasks that ended before the block", function()
    do
      local _ <close> = async.TaskGroup()
    end
    do
      local tg <close> = async.TaskGroup()
      async.await(tg:create_task(function() end))
      async.await(tg:create_task(function() end))
      turns(2)
    end
  end)

  it("starts its tasks in order, on the next turn", function()
    local log = {}
    do
      local tg <close> = async.TaskGroup()
      for i = 1, 3 do tg:create_task(function() log[#log + 1] = i end) end
      log[#log + 1] = "block"
    end
    assert.same({ "block", 1, 2, 3 }, log)
  end)

  it("takes tasks made by its tasks, also while the block waits", function()
    local log = {}
    do
      local tg <close> = async.TaskGroup()
      tg:create_task(function()
        async.sleep(0.001)
        tg:create_task(function()
          async.sleep(0.001)
          tg:create_task(function() log[#log + 1] = "grandchild" end)
        end)
      end)
    end
    assert.same({ "grandchild" }, log)
  end)

  it("keeps the results of a block that returns", function()
    local function block()
      local tg <close> = async.TaskGroup()
      tg:create_task(async.sleep, 0.001)
      return 1, nil, 3, nil
    end
    assert.same(table.pack(1, nil, 3, nil), table.pack(block()))
  end)

  describe("when a task fails", function()
    it("throws an ExceptionGroup, even for one error", function()
      local boom = async.ValueError("boom")
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(fail, boom)
      end)
      assert.equal("ExceptionGroup", e.name)
      assert.equal(1, #e.errors)
      assert.equal(boom, e.errors[1])
      assert.equal("unhandled errors in a TaskGroup", e.message)
    end)

    it("cancels the block and the other tasks, in order, and waits for them", function()
      local log = {}
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", nil, 0.002)
        tg:create_task(fail, async.ValueError("boom"), 0.001)
        tg:create_task(patient, log, "b")
        patient(log, "block")
      end)
      assert.same({ "a CancelledError", "b CancelledError", "block CancelledError" }, log)
      assert.same({ "ValueError: boom" }, texts(e))
      assert.equal(0, me():cancelling())
      turns(1)
    end)

    it("does not ask a block that is at its end already", function()
      local log, t = {}, me()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(fail, async.ValueError("boom"), 0.001)
        tg:create_task(function()
          pcall(async.sleep, 30)
          log[#log + 1] = t:cancelling()
        end)
      end)
      assert.same({ 0 }, log)
      assert.same({ "ValueError: boom" }, texts(e))
    end)

    it("throws though the block swallowed the cancellation", function()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(fail, async.ValueError("boom"))
        pcall(async.sleep, 30)
        async.sleep(0)
      end)
      assert.same({ "ValueError: boom" }, texts(e))
      assert.equal(0, me():cancelling())
    end)

    it("takes its request back if it was never delivered", function()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(function() error(async.ValueError("boom")) end)
        local fut = async.Future()
        tg:create_task(function() fut:set_result() end)
        async.await(fut)
      end)
      assert.same({ "ValueError: boom" }, texts(e))
      assert.equal(0, me():cancelling())
      turns(1)
    end)

    it("collects all errors in the order of their coming, the block's last", function()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, {}, "slow", async.TypeError("third"), 0.003)
        tg:create_task(fail, async.ValueError("first"))
        tg:create_task(patient, {}, "quick", "second")
        tg:create_task(patient, {}, "well", "return")
        pcall(async.sleep, 30)
        error(async.RuntimeError("block"))
      end)
      assert.same({ "ValueError: first", "second", "TypeError: third", "RuntimeError: block" },
        texts(e))
    end)

    it("counts an error once that the block awaited and let pass", function()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        async.await(tg:create_task(fail, async.ValueError("once")))
      end)
      assert.same({ "ValueError: once" }, texts(e))
    end)

    it("reports nothing that it has thrown", function()
      assert.same({}, reports(function()
        caught(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(fail, async.ValueError("one"))
          tg:create_task(patient, {}, "x", async.ValueError("two"))
        end)
      end))
    end)

    it("takes any value as an error", function()
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(fail, false)
        tg:create_task(patient, {}, "x", "text")
        tg:create_task(function() pcall(async.sleep, 30) error(nil) end)
      end)
      assert.is_false(e.errors[1])
      assert.equal("text", e.errors[2])
      assert.equal("Error: nil", tostring(e.errors[3]))
    end)

    it("holds when two fail in one turn", function()
      local log = {}
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(function() error(async.ValueError("1")) end)
        tg:create_task(function() error(async.ValueError("2")) end)
        tg:create_task(patient, log, "c")
        async.sleep(30)
      end)
      assert.same({ "ValueError: 1", "ValueError: 2" }, texts(e))
      assert.equal(0, me():cancelling())
    end)

    it("is told apart when groups nest", function()
      local inner
      local e = caught(function()
        local outer <close> = async.TaskGroup()
        outer:create_task(fail, async.ValueError("outer"), 0.001)
        local ok, err = pcall(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(async.sleep, 30)
          async.sleep(30)
        end)
        inner = err
        error(err)
      end)
      assert.equal("CancelledError", inner.name)
      assert.same({ "ValueError: outer" }, texts(e))
      e = caught(function()
        local outer <close> = async.TaskGroup()
        local t = outer:create_task(async.sleep, 30)
        local err = caught(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(fail, async.ValueError("inner"), 0.001)
          async.sleep(30)
        end)
        assert.same({ "ValueError: inner" }, texts(err))
        assert.is_false(t:done())
        error(err)
      end)
      assert.equal("ExceptionGroup", e.errors[1].name)
      assert.equal(0, me():cancelling())
    end)
  end)

  describe("when the block fails", function()
    it("cancels the tasks and wraps the error", function()
      local log = {}
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", nil, 0.001)
        async.sleep(0)
        error(async.ValueError("block"))
      end)
      assert.same({ "a CancelledError" }, log)
      assert.same({ "ValueError: block" }, texts(e))
      e = caught(function()
        local _ <close> = async.TaskGroup()
        error("alone", 0)
      end)
      assert.same({ "alone" }, texts(e))
    end)

    it("never starts what had not started", function()
      local started = false
      caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(function() started = true end)
        error("x")
      end)
      assert.is_false(started)
    end)
  end)

  describe("create_task", function()
    it("is refused when the group has ended or is cancelling", function()
      local group, refused
      do
        local tg <close> = async.TaskGroup()
        group = tg
      end
      class_in_message(caught(group.create_task, group, print), async.RuntimeError, "finished")
      caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(fail, async.ValueError("x"))
        tg:create_task(function()
          pcall(async.sleep, 30)
          refused = caught(tg.create_task, tg, print)
        end)
      end)
      class_in_message(refused, async.RuntimeError, "shutting down")
    end)

    it("is refused in another loop", function()
      require("spec.helper").plain [[
        local one, two = async.new_event_loop { exception_handler = function() end }, async.new_event_loop()
        local tg
        one:create_task(function()
          local group <close> = async.TaskGroup()
          tg = group
          group:create_task(async.sleep, 3600)
          one:stop()
        end)
        one:run_forever()
        two:run_until_complete(function()
          refuses("RuntimeError", "another event loop", tg.create_task, tg, print)
        end)
        two:close()
        one:close()
      ]]
    end)

    it("returns the task", function()
      local tg <close> = async.TaskGroup()
      local t = tg:create_task(function() return 5 end)
      assert.equal(5, async.await(t:set_name("mine")))
      assert.equal("mine", t:get_name())
    end)

    it("works from callbacks", function()
      local ran = false
      do
        local tg <close> = async.TaskGroup()
        tg:create_task(async.sleep, 0.002)
        loop:call_soon(function() tg:create_task(function() ran = true end) end)
      end
      assert.is_true(ran)
    end)

    it("keeps the memory of those that are running only", function()
      local tg <close> = async.TaskGroup()
      local function burst(n)
        for i = 1, n do
          tg:create_task(function() return ("x"):rep(100) end)
          if i % 10 == 0 then async.sleep(0) end
        end
        turns(3)
        collectgarbage()
        collectgarbage()
      end
      local stay = tg:create_task(async.sleep, 30)
      burst(2000)
      local before = collectgarbage("count")
      burst(20000)
      assert.is_true(collectgarbage("count") - before < 100)
      stay:cancel()
    end)

    it("keeps its tasks, though nobody else does", function()
      local log = {}
      do
        local tg <close> = async.TaskGroup()
        for i = 1, 50 do
          tg:create_task(function()
            async.sleep(0.001)
            collectgarbage()
            log[#log + 1] = i
          end)
        end
        collectgarbage()
      end
      assert.equal(50, #log)
    end)
  end)

  describe("KeyboardInterrupt", function()
    it("of the block is thrown bare, after all have ended", function()
      local log = {}
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", nil, 0.001)
        async.sleep(0)
        error(async.KeyboardInterrupt("bare"))
      end)
      assert.equal("KeyboardInterrupt: bare", tostring(e))
      assert.same({ "a CancelledError" }, log)
    end)

    it("of a task is thrown bare, in the block and out of the run", function()
      require("spec.helper").plain [[
        local inside, reported = nil, {}
        local e = thrown(async.run, function()
          async.get_running_loop():set_exception_handler(function(_, c) reported[#reported + 1] = tostring(c.exception) end)
          inside = thrown(function()
            local tg <close> = async.TaskGroup()
            tg:create_task(error, async.ValueError("other"))
            tg:create_task(error, async.KeyboardInterrupt("stop"))
            tg:create_task(async.sleep, 3600)
          end)
          error(inside)
        end)
        eq("KeyboardInterrupt: stop", tostring(inside))
        eq(inside, e)
        eq("ValueError: other", table.concat(reported, ", "))
      ]]
    end)

    it("leaves other errors to the exception handler", function()
      local list = reports(function()
        caught(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(patient, {}, "a", async.ValueError("other"))
          async.sleep(0)
          error(async.KeyboardInterrupt())
        end)
      end, 1)
      assert.equal(1, #list)
      assert.equal("ValueError: other", tostring(list[1].exception))
    end)
  end)

  it("is ended by the task that made it only", function()
    local tg <close> = async.TaskGroup()
    tg:create_task(async.sleep, 0.001)
    local t = async.create_task(function()
      local _ <close> = tg
    end)
    async.wait { t }
    class_in_message(caught(t.result, t), async.RuntimeError, "another task")
  end)

  it("ends once, however often it is closed", function()
    local e = caught(function()
      local tg <close> = async.TaskGroup()
      local _ <close> = tg
      tg:create_task(fail, async.ValueError("x"))
    end)
    assert.same({ "ValueError: x" }, texts(e))
  end)

  it("needs a task", function()
    local e
    loop:call_soon(function() e = select(2, pcall(async.TaskGroup)) end)
    turns(2)
    class_in_message(e, async.RuntimeError, "task")
  end)

  it("whose block cannot wait cancels its tasks and says so", function()
    local t
    local e = caught(table.sort, { 2, 1 }, function()
      local tg <close> = async.TaskGroup()
      t = tg:create_task(async.sleep, 30)
    end)
    class_in_message(e, async.RuntimeError, "yield")
    async.wait { t }
    assert.is_true(t:cancelled())
    assert.equal(0, me():cancelling())
  end)

  it("nobody closed lets go of itself when its tasks have ended", function()
    local function burst(n)
      for _ = 1, n do
        local tg = async.TaskGroup()
        tg:create_task(function() end)
        async.sleep(0)
      end
      turns(3)
      collectgarbage()
      collectgarbage()
    end
    burst(200)
    local before = collectgarbage("count")
    burst(2000)
    assert.is_true(collectgarbage("count") - before < 100)
  end)

  it("names function and argument of bad input", function()
    local tg <close> = async.TaskGroup()
    for _, bad in ipairs { 1, "x", true, {}, io.stdout } do
      class_in_message(caught(function() tg:create_task(bad) end), async.TypeError,
        "create_task", "#1", "function expected")
      class_in_message(caught(tg.create_task, bad, print), async.TypeError,
        "create_task", "TaskGroup expected")
    end
    class_in_message(caught(function() tg:create_task() end), async.TypeError, "create_task", "#1")
    class_in_message(caught(tg.create_task), async.TypeError, "create_task", "TaskGroup expected")
  end)
end)

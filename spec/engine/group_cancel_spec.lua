-- async.TaskGroup and requests to stop: from outside, from timeouts, of single tasks, in circles.
local async = require "lunation"
local support = require "spec.support.tasks"

local caught, class_in_message, turns, fail, patient, texts =
  support.caught, support.class_in_message, support.turns, support.fail, support.patient, support.texts

local loop = async.get_running_loop()
local me = async.current_task

describe("TaskGroup", function()
  describe("and cancellation:", function()
    it("a task cancelled alone is no failure", function()
      local one, two
      do
        local tg <close> = async.TaskGroup()
        one = tg:create_task(async.sleep, 30)
        two = tg:create_task(function() async.sleep(0.001) one:cancel() async.sleep(0.001) return 2 end)
      end
      assert.is_true(one:cancelled())
      assert.equal(2, two:result())
    end)

    it("a block that awaits it leaves with CancelledError and cancels the rest", function()
      local log = {}
      local e = caught(function()
        local tg <close> = async.TaskGroup()
        local one = tg:create_task(async.sleep, 30)
        tg:create_task(patient, log, "rest")
        async.sleep(0)
        one:cancel("alone")
        async.await(one)
      end)
      assert.equal("CancelledError: alone", tostring(e))
      assert.same({ "rest CancelledError" }, log)
      assert.equal(0, me():cancelling())
    end)

    it("from outside it reaches block and tasks, and all are awaited", function()
      for _, where in ipairs { "block", "end" } do
        local log = {}
        local t = async.create_task(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(patient, log, "a", nil, 0.001)
          tg:create_task(patient, log, "b", nil, 0.002)
          if where == "block" then async.sleep(30) end
        end)
        turns(2)
        t:cancel("outside")
        assert.equal("CancelledError: outside", tostring(caught(async.await, t)))
        assert.same({ "a CancelledError", "b CancelledError" }, log)
        assert.equal(1, t:cancelling())
      end
    end)

    it("it is thrown though all tasks swallowed it", function()
      local log = {}
      local t = async.create_task(function()
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", "return")
      end)
      turns(2)
      t:cancel()
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.same({ "a CancelledError" }, log)
    end)

    it("repeated, it abandons no task", function()
      local ended = 0
      local t = async.create_task(function()
        local tg <close> = async.TaskGroup()
        for _ = 1, 3 do
          tg:create_task(function()
            for _ = 1, 4 do pcall(async.sleep, 0.002) end
            ended = ended + 1
          end)
        end
      end)
      turns(2)
      for _ = 1, 3 do
        t:cancel()
        turns(2)
      end
      assert.is_false(t:done())
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.equal(3, ended)
      assert.equal(3, t:cancelling())
    end)

    it("a task that fails meanwhile is thrown; the request comes at the next await", function()
      for _, where in ipairs { "block", "end" } do
        local group, after
        local t = async.create_task(function()
          group = caught(function()
            local tg <close> = async.TaskGroup()
            tg:create_task(patient, {}, "a", async.ValueError("in cleanup"))
            if where == "block" then async.sleep(30) end
          end)
          after = caught(async.sleep, 0)
          async.sleep(0)
          return me():cancelling()
        end)
        turns(2)
        t:cancel()
        assert.equal(1, async.await(t))
        assert.same({ "ValueError: in cleanup" }, texts(group))
        assert.equal("CancelledError", after.name)
      end
    end)

    it("one from before does not count as one from outside", function()
      local t = async.create_task(function()
        me():cancel()
        pcall(async.sleep, 30)
        local e = caught(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(fail, async.ValueError("boom"))
          async.sleep(30)
        end)
        async.sleep(0)
        return e, me():cancelling()
      end)
      local e, count = async.await(t)
      assert.same({ "ValueError: boom" }, texts(e))
      assert.equal(1, count)
    end)

    it("that came when all had ended is thrown at the next await", function()
      local passed = false
      local t
      t = async.create_task(function()
        do
          local tg <close> = async.TaskGroup()
          tg:create_task(function() async.sleep(0) loop:call_soon(function() t:cancel() end) end)
        end
        passed = true
        async.sleep(0)
        return "too far"
      end)
      async.wait { t }
      assert.is_true(t:cancelled())
      assert.is_boolean(passed)
    end)

    it("a timeout around it cancels and awaits the tasks", function()
      local log = {}
      local e = caught(function()
        local _ <close> = async.timeout(0.002)
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", nil, 0.001)
      end)
      assert.equal("TimeoutError", e.name)
      assert.same({ "a CancelledError" }, log)
      e = caught(function()
        local _ <close> = async.timeout(0.002)
        local tg <close> = async.TaskGroup()
        tg:create_task(patient, log, "a", async.ValueError("in cleanup"))
      end)
      assert.same({ "ValueError: in cleanup" }, texts(e))
      assert.equal(0, me():cancelling())
      turns(1)
    end)

    it("spares a task that somebody outside awaits", function()
      local t
      do
        local tg <close> = async.TaskGroup()
        t = tg:create_task(function() async.sleep(0.003) return "kept" end)
        local other = async.create_task(async.await, t)
        turns(2)
        other:cancel()
        assert.equal("CancelledError", caught(async.await, other).name)
      end
      assert.equal("kept", t:result())
    end)
  end)

  it("refuses to wait for a task that waits for it", function()
    local inside
    local t
    t = async.create_task(function()
      local tg <close> = async.TaskGroup()
      tg:create_task(function() inside = select(2, pcall(async.await, t)) end)
    end)
    async.await(t)
    class_in_message(inside, async.RuntimeError, "cycle")
    local kid
    t = async.create_task(function()
      local tg <close> = async.TaskGroup()
      kid = tg:create_task(function() inside = select(2, pcall(async.await, t)) end)
      turns(2)
    end)
    local e = caught(async.await, t)
    class_in_message(e, async.RuntimeError, "waits")
    async.wait { kid }
    assert.equal(0, t:cancelling())
  end)

  it("counts requests exactly over random nestings with timeouts", function()
    local seed = 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed // 65536 % n
    end
    local function nest(depth)
      local ok, e = pcall(function()
        local _ <close> = async.timeout(random(3) * 0.0004)
        local tg <close> = async.TaskGroup()
        for _ = 1, random(3) do
          tg:create_task(function()
            if random(3) == 0 then pcall(async.sleep, 0.0005) else async.sleep(random(3) * 0.0002) end
            if random(4) == 0 then error(async.ValueError("task")) end
          end)
        end
        if depth > 0 then nest(depth - 1) end
        if random(5) == 0 then error(async.ValueError("block")) end
        async.sleep(random(2) * 0.0003)
      end)
      if not ok and (e.name == "CancelledError" or random(2) == 0) then error(e) end
    end
    for _ = 1, 150 do
      local ok, e = pcall(nest, 4)
      assert.is_true(ok or e.name ~= "CancelledError")
      assert.equal(0, me():cancelling())
      async.sleep(0)
    end
  end)
end)

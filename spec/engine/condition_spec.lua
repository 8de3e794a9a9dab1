-- Condition: waiting without the lock, leaving with it, and where a notification goes when its waiter is cancelled.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, started, thrown = support.turns, support.started, support.thrown

-- A task that waits for a notification; what it saw is in log.
local function waiter(cond, log, name)
  return started(function()
    local _ <close> = cond:guard()
    local ok, e = pcall(cond.wait, cond)
    log[#log + 1] = name .. (ok and " notified" or " " .. e.name) .. (cond:locked() and "" or " without the lock")
    if not ok then error(e) end
  end)
end

-- Takes the lock. The test gives it back; one that is cut before does so on its way out.
local function holding(cond)
  cond:acquire()
  return async.defer(function() pcall(cond.release, cond) end)
end

local function notify(cond, n)
  local _ <close> = cond:guard()
  cond:notify(n)
end

describe("Condition", function()
  it("releases the lock while it waits and has it again afterwards", function()
    local cond, log = async.Condition(), {}
    local task = waiter(cond, log, "a")
    assert.is_false(cond:locked())
    local _ <close> = holding(cond)
    assert.is_true(cond:locked())
    cond:notify()
    turns()
    assert.same({}, log)
    assert.is_false(task:done())
    cond:release()
    async.await(task)
    assert.same({ "a notified" }, log)
    assert.is_false(cond:locked())
  end)

  it("notifies in order, as many as asked for", function()
    local cond, log, tasks = async.Condition(), {}, {}
    for i = 1, 6 do tasks[i] = waiter(cond, log, "w" .. i) end
    notify(cond)
    turns(8)
    assert.same({ "w1 notified" }, log)
    notify(cond, 0)
    notify(cond, 2)
    turns(8)
    table.sort(log)
    assert.same({ "w1 notified", "w2 notified", "w3 notified" }, log)
    local _ <close> = holding(cond)
    cond:notify_all()
    cond:release()
    async.gather(tasks)
    assert.equal(6, #log)
    notify(cond, 100)
  end)

  it("wakes only those that wait now", function()
    local cond, log = async.Condition(), {}
    notify(cond)
    local task = waiter(cond, log, "late")
    assert.same({}, log)
    notify(cond, math.maxinteger)
    async.await(task)
  end)

  it("shares a lock that it is given", function()
    local lock = async.Lock()
    local a, b, log = async.Condition(lock), async.Condition(lock), {}
    local wa, wb = waiter(a, log, "a"), waiter(b, log, "b")
    local _ <close> = holding(a)
    assert.is_true(a:locked() and b:locked())
    b:notify()
    lock:release()
    async.await(wb)
    assert.same({ "b notified" }, log)
    notify(a)
    async.await(wa)
    assert.is_false(lock:locked())
  end)

  it("keeps the lock it was given alive", function()
    local cond = async.Condition(async.Lock())
    collectgarbage()
    collectgarbage()
    local task = waiter(cond, {}, "a")
    notify(cond)
    async.await(task)
  end)

  it("demands the lock for wait, notify and notify_all", function()
    local cond = async.Condition()
    for _, name in ipairs { "wait", "notify", "notify_all" } do
      assert.matches("lock", thrown(async.RuntimeError, cond[name], cond).message)
    end
    thrown(async.RuntimeError, cond.wait_for, cond, function() return false end)
    thrown(async.RuntimeError, cond.release, cond)
    -- on its way to a waiter, nobody who runs has the lock
    local _ <close> = holding(cond)
    local task = started(function() cond:acquire() end)
    cond:release()
    thrown(async.RuntimeError, cond.notify, cond)
    async.await(task)
    cond:release()
  end)

  it("wait_for waits until the predicate is true and returns what it gave", function()
    local cond, items, calls = async.Condition(), 0, 0
    local task = started(function()
      local _ <close> = cond:guard()
      return cond:wait_for(function()
        calls = calls + 1
        assert.is_true(cond:locked())
        return items > 2 and "enough"
      end)
    end)
    for _ = 1, 4 do
      items = items + 1
      notify(cond)
      turns(8)
    end
    assert.equal("enough", async.await(task))
    assert.equal(4, calls)
    local _ <close> = cond:guard()
    assert.equal(7, cond:wait_for(function() return 7, 8 end))
  end)

  it("wait_for's predicate may await, and what it throws comes out with the lock held", function()
    local cond = async.Condition()
    local _ <close> = cond:guard()
    assert.is_true(cond:wait_for(function()
      async.sleep(0)
      return true
    end))
    assert.equal("no", select(2, pcall(cond.wait_for, cond, function() error("no", 0) end)))
    assert.is_true(cond:locked())
  end)

  it("wait_for gives way now and then if the predicate is always true", function()
    local cond, ran = async.Condition(), false
    local _ <close> = cond:guard()
    local task = async.create_task(function() ran = true end)
    for _ = 1, 400 do cond:wait_for(function() return true end) end
    assert.is_true(ran)
    async.await(task)
  end)

  it("a cancelled waiter takes the lock before it leaves", function()
    local cond, log = async.Condition(), {}
    local task = waiter(cond, log, "a")
    local _ <close> = holding(cond)
    task:cancel("stop")
    turns()
    assert.is_false(task:done())
    cond:release()
    assert.equal("stop", thrown(async.CancelledError, async.await, task).message)
    assert.same({ "a CancelledError" }, log)
    assert.is_false(cond:locked())
    assert.equal(1, task:cancelling())
  end)

  it("a cancelled waiter that queues for the lock is deaf to further requests and keeps its place", function()
    local cond, log = async.Condition(), {}
    local a = waiter(cond, log, "a")
    local _ <close> = holding(cond)
    a:cancel("first")
    turns()
    local b = started(function()
      local _ <close> = cond:guard()
      log[#log + 1] = "b"
    end)
    for i = 2, 4 do
      a:cancel("request " .. i)
      turns(2)
    end
    assert.is_false(a:done())
    cond:release()
    a:cancel("request 5") -- it is on its way to a: that stays so
    async.wait { a, b }
    assert.same({ "a CancelledError", "b" }, log)
    assert.equal(5, a:cancelling())
    assert.equal("request 5", thrown(async.CancelledError, async.await, a).message)
    assert.is_false(cond:locked())
  end)

  it("several requests before the lock is there are one throw", function()
    local cond, thrown_times = async.Condition(), 0
    local task = started(function()
      local _ <close> = cond:guard()
      local ok, e = pcall(cond.wait, cond)
      if not ok and e.name == "CancelledError" then thrown_times = thrown_times + 1 end
      async.sleep(0)
      async.sleep(0)
      return "went on"
    end)
    local _ <close> = holding(cond)
    task:cancel()
    turns()
    task:cancel()
    task:cancel()
    cond:release()
    assert.equal("went on", async.await(task))
    assert.equal(1, thrown_times)
  end)

  it("a request while a notified one queues for the lock is thrown, and the notification goes on", function()
    local cond, log = async.Condition(), {}
    local a, b = waiter(cond, log, "a"), waiter(cond, log, "b")
    local _ <close> = holding(cond)
    cond:notify()
    turns() -- a has its notification and queues for the lock
    a:cancel()
    turns()
    assert.is_false(a:done())
    cond:release()
    async.wait { a, b }
    assert.same({ "a CancelledError", "b notified" }, log)
    assert.is_true(a:cancelled())
    assert.is_false(cond:locked())
  end)

  it("uncancel takes a request back that was put off", function()
    local cond, log = async.Condition(), {}
    local a = waiter(cond, log, "a")
    local _ <close> = holding(cond)
    cond:notify()
    turns()
    a:cancel()
    assert.equal(0, a:uncancel())
    cond:release()
    async.await(a)
    assert.same({ "a notified" }, log)
  end)

  it("a notification that hits a cancelled waiter passes to the next", function()
    local cond, log = async.Condition(), {}
    local a, b, c = waiter(cond, log, "a"), waiter(cond, log, "b"), waiter(cond, log, "c")
    local _ <close> = holding(cond)
    cond:notify()
    a:cancel()
    cond:release()
    async.wait { a, b }
    turns()
    assert.is_true(a:cancelled())
    table.sort(log)
    assert.same({ "a CancelledError", "b notified" }, log)
    assert.is_false(c:done())
    b = waiter(cond, log, "b")
    notify(cond, 2)
    async.gather { b, c }
  end)

  it("a waiter cancelled before it was notified takes no notification along", function()
    local cond, log = async.Condition(), {}
    local a, b = waiter(cond, log, "a"), waiter(cond, log, "b")
    a:cancel()
    notify(cond)
    async.wait { a, b }
    table.sort(log)
    assert.same({ "a CancelledError", "b notified" }, log)
  end)

  it("keeps order with others that queue for the lock", function()
    local cond, log = async.Condition(), {}
    local a = waiter(cond, log, "a")
    local _ <close> = holding(cond)
    local first = started(function()
      local _ <close> = cond:guard()
      log[#log + 1] = "first"
    end)
    cond:notify()
    turns()
    local last = started(function()
      local _ <close> = cond:guard()
      log[#log + 1] = "last"
    end)
    cond:release()
    async.gather { a, first, last }
    assert.same({ "first", "a notified", "last" }, log)
  end)

  it("works under wait_for with a limit", function()
    local cond = async.Condition()
    thrown(async.TimeoutError, function()
      local _ <close> = cond:guard()
      local _ <close> = async.timeout(0.003)
      cond:wait()
    end)
    assert.is_false(cond:locked())
    thrown(async.TimeoutError, async.wait_for, function()
      local _ <close> = cond:guard()
      cond:wait_for(function() return false end)
    end, 0.003)
    assert.is_false(cond:locked())
  end)

  it("loses no notification in random storms", function()
    local cond, random = async.Condition(), 7
    local function draw(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return random // 65536 % n
    end
    for _ = 1, 50 do
      local tokens, taken, tasks = 0, 0, {}
      for i = 1, 6 do
        tasks[i] = async.create_task(function()
          local _ <close> = cond:guard()
          cond:wait_for(function() return tokens > 0 end)
          tokens = tokens - 1
          taken = taken + 1
        end)
      end
      turns(2)
      local cancelled = 0
      for i = 1, 6 do
        if draw(2) == 0 then
          tasks[i]:cancel()
          cancelled = cancelled + 1
        end
        if draw(2) == 0 then turns(draw(3)) end
        local _ <close> = cond:guard()
        tokens = tokens + 1
        cond:notify()
      end
      turns(8)
      for i = 1, 6 do assert.is_true(tasks[i]:done()) end
      assert.is_true(taken >= 6 - cancelled)
      assert.equal(6, taken + tokens)
      assert.is_false(cond:locked())
      async.wait(tasks)
    end
  end)

  it("cannot be waited for outside a task", function()
    local cond = async.Condition()
    local _ <close> = holding(cond)
    for _, name in ipairs { "wait", "wait_for", "acquire", "guard" } do
      local done = async.Future()
      async.get_running_loop():call_soon(function()
        done:set_result(pcall(cond[name], cond, function() return true end))
      end)
      local ok, e = async.await(done)
      assert.is_false(ok)
      assert.is_true(async.isinstance(e, async.RuntimeError), name)
    end
    cond:release()
  end)

  it("gives the lock up again when its loop is closed between the wake-up and the next step", function()
    require("spec.helper").plain [[
      local loop = async.new_event_loop { exception_handler = function() end }
      local lock, back = async.Lock(), false
      loop:run_until_complete(function()
        local cond = async.Condition(lock)
        async.create_task(function()
          lock:acquire()
          cond:wait()
          back = true
        end)
        turns(1)
        async.create_task(function()
          lock:acquire()
          cond:notify()
          turns(2) -- the other one waits for the lock now
          lock:release()
          loop:stop()
          async.sleep(3600)
        end)
        turns(1)
      end)
      loop:run_forever()
      eq(true, lock:locked())
      loop:close()
      eq(false, back)
      eq(false, lock:locked())
      eq(true, async.run(lock.acquire, lock))
    ]]
  end)

  it("names the function and the argument of bad input", function()
    local cond = async.Condition()
    for _, name in ipairs { "wait", "wait_for", "notify", "notify_all", "acquire", "release", "locked", "guard" } do
      for _, bad in ipairs { 42, "text", false, {}, async.Event() } do
        local e = thrown(async.TypeError, cond[name], bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
    end
    local _ <close> = cond:guard()
    for _, bad in ipairs { 42, "text", {}, false } do
      local e = thrown(async.TypeError, cond.wait_for, cond, bad)
      assert.matches("wait_for", e.message)
    end
    thrown(async.TypeError, cond.wait_for, cond)
    for _, bad in ipairs { "1", 1.5, {}, false } do
      assert.matches("notify", thrown(async.TypeError, cond.notify, cond, bad).message)
    end
    thrown(async.ValueError, cond.notify, cond, -1)
    for _, bad in ipairs { 1, "lock", {}, async.Semaphore(1), async.Condition(), false } do
      local e = thrown(async.TypeError, async.Condition, bad)
      assert.matches("Condition", e.message)
      assert.matches("Lock", e.message)
    end
  end)
end)

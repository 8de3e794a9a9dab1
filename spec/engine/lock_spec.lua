-- Lock, Semaphore, BoundedSemaphore: who gets in when, what a cancel does to a place and to a grant, and guards.
local async = require "lunation"
local command = require "spec.support.command"
local support = require "spec.support.tasks"

local turns, started, thrown, in_callback, each_order =
  support.turns, support.started, support.thrown, support.in_callback, support.each_order

-- A task that acquires `what` and notes it; whoever started it releases.
local function taker(what, log, name)
  return started(function()
    what:acquire()
    log[#log + 1] = name
  end)
end

local function cancel_all(...)
  for _, task in ipairs { ... } do
    task:cancel()
    pcall(async.await, task)
  end
end

-- Runs code in the stock interpreter, outside of any loop: what it printed. A module built with sanitizers needs
-- their libraries loaded first.
local function in_stock_lua(code)
  local dir, libraries = command.libdir, {}
  for path in command.run({ "ldd", command.lunation }):gmatch "(/[^%s]*/lib[au]b?s?an[^%s]*)" do
    libraries[#libraries + 1] = path
  end
  local out, err = command.run {
    "lua5.4", "-e", code,
    env = { LUA_CPATH = dir .. "/lua/?.so;" .. dir .. "/?.so", LD_PRELOAD = table.concat(libraries, " ") },
  }
  assert.equal("", err)
  return out
end

describe("Lock", function()
  it("is held from acquire to release", function()
    local lock = async.Lock()
    assert.is_false(lock:locked())
    assert.is_true(lock:acquire())
    assert.is_true(lock:locked())
    assert.equal(0, select("#", lock:release()))
    assert.is_false(lock:locked())
  end)

  it("serves those that wait in the order in which they came", function()
    local lock, log, tasks = async.Lock(), {}, {}
    lock:acquire()
    for i = 1, 5 do
      tasks[i] = started(function()
        lock:acquire()
        log[#log + 1] = i
        async.sleep(0)
        lock:release()
      end)
    end
    lock:release()
    async.gather(tasks)
    assert.same({ 1, 2, 3, 4, 5 }, log)
    assert.is_false(lock:locked())
  end)

  it("stays locked on its way to a waiter, and a newcomer queues", function()
    local lock, log = async.Lock(), {}
    lock:acquire()
    local a = taker(lock, log, "a")
    lock:release()
    assert.is_true(lock:locked())
    thrown(async.RuntimeError, lock.release, lock) -- nobody who runs has it
    local b = async.create_task(function()
      lock:acquire()
      log[#log + 1] = "b"
    end)
    turns()
    assert.same({ "a" }, log)
    lock:release()
    async.gather { a, b }
    assert.same({ "a", "b" }, log)
    lock:release()
  end)

  it("is not re-entrant", function()
    local lock = async.Lock()
    lock:acquire()
    thrown(async.TimeoutError, async.wait_for, function() lock:acquire() end, 0.005)
    thrown(async.TimeoutError, function()
      local _ <close> = async.timeout(0.005)
      lock:acquire()
    end)
    assert.is_true(lock:locked())
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("may be released by any task or callback, but not when it is free", function()
    local lock = async.Lock()
    local e = thrown(async.RuntimeError, lock.release, lock)
    assert.matches("not acquired", e.message)
    lock:acquire()
    async.await(async.create_task(lock.release, lock))
    assert.is_false(lock:locked())
    lock:acquire()
    assert.is_true((in_callback(function() lock:release() end)))
    assert.is_false(lock:locked())
  end)

  it("forgets a waiter that is cancelled", function()
    local lock, log = async.Lock(), {}
    lock:acquire()
    local a, b, c = taker(lock, log, "a"), taker(lock, log, "b"), taker(lock, log, "c")
    b:cancel()
    lock:release()
    turns()
    assert.is_true(b:cancelled())
    assert.same({ "a" }, log)
    lock:release()
    async.gather { a, c }
    assert.same({ "a", "c" }, log)
    lock:release()
  end)

  it("goes on to the next if the chosen one is cancelled before it runs", function()
    local lock, log = async.Lock(), {}
    lock:acquire()
    local a, b = taker(lock, log, "a"), taker(lock, log, "b")
    lock:release()
    a:cancel("too late")
    assert.is_true(lock:locked())
    turns()
    assert.is_true(a:cancelled())
    assert.equal("too late", select(2, pcall(a.result, a)).message)
    assert.same({ "b" }, log)
    async.await(b)
    lock:release()
  end)

  it("is free again if the only chosen one is cancelled", function()
    local lock = async.Lock()
    lock:acquire()
    local a = taker(lock, {}, "a")
    lock:release()
    a:cancel()
    assert.is_false(lock:locked())
    lock:acquire()
    turns()
    assert.is_true(a:cancelled())
    lock:release()
  end)

  it("is not taken by a task whose request came before it waits", function()
    local lock = async.Lock()
    lock:acquire()
    local went_on
    local task = started(function()
      async.current_task():cancel()
      went_on = true
      lock:acquire()
    end)
    assert.is_true(went_on)
    assert.is_true(task:cancelled())
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("is given to a task with a request if it is free: the request waits", function()
    local lock = async.Lock()
    local task = started(function()
      async.current_task():cancel()
      lock:acquire()
      return "mine"
    end)
    assert.equal("mine", async.await(task))
    assert.is_true(lock:locked())
    lock:release()
  end)

  it("is never waited for while it is free, in all orders of release, cancel and timeout", function()
    local things = { "release", "cancel a", "cancel b", "newcomer", "late" }
    each_order(things, function(order)
      local lock, log = async.Lock(), {}
      lock:acquire()
      local a, b, c = taker(lock, log, "a"), taker(lock, log, "b"), taker(lock, log, "c")
      local more = {}
      for _, what in ipairs(order) do
        if what == "release" then lock:release()
        elseif what == "cancel a" then a:cancel()
        elseif what == "cancel b" then b:cancel()
        elseif what == "newcomer" then more[#more + 1] = async.create_task(lock.acquire, lock)
        else more[#more + 1] = async.create_task(async.wait_for, function() lock:acquire() end, 0) end
      end
      turns(8)
      assert.is_true(lock:locked())
      assert.is_true(c:done(), table.concat(order, ", "))
      assert.same({ "c" }, log)
      lock:release()
      turns(8)
      assert.is_true(more[1]:done() and more[2]:done(), table.concat(order, ", "))
      pcall(async.await, more[1])
      pcall(async.await, more[2])
      if lock:locked() then lock:release() end
      assert.is_false(lock:locked())
      cancel_all(a, b)
    end)
  end)

  it("survives random cancels and timeouts", function()
    local lock, inside, entered = async.Lock(), 0, 0
    local random = 42
    local function draw(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return random // 65536 % n
    end
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = async.create_task(function()
        for _ = 1, draw(4) do async.sleep(0) end
        local _ <close> = lock:guard()
        inside = inside + 1
        assert(inside == 1)
        entered = entered + 1
        local _ <close> = async.defer(function() inside = inside - 1 end)
        if draw(2) == 0 then async.sleep(0) end
      end)
    end
    while #tasks > 0 do
      local task = table.remove(tasks, draw(#tasks) + 1)
      if draw(2) == 0 then task:cancel() else pcall(async.await, task) end
      async.wait { task }
    end
    assert.is_true(entered > 10)
    assert.is_false(lock:locked())
  end)

  it("gives way now and then to a task that finds it free each time", function()
    local lock, other = async.Lock(), 0
    local busy = true
    local task = async.create_task(function()
      while busy do
        other = other + 1
        async.sleep(0)
      end
    end)
    for _ = 1, 1000 do
      lock:acquire()
      lock:release()
    end
    busy = false
    async.await(task)
    assert.is_true(other >= 3)
  end)

  it("is lost to nobody if the turn given away brings a cancel", function()
    local lock, rounds = async.Lock(), 0
    local task = async.create_task(function()
      while true do
        rounds = rounds + 1
        local _ <close> = lock:guard()
      end
    end)
    turns()
    task:cancel()
    pcall(async.await, task)
    assert.is_true(task:cancelled())
    assert.is_true(rounds > 1)
    assert.is_false(lock:locked())
  end)

  it("cannot be waited for outside a task, free or not", function()
    local lock = async.Lock()
    local ok, e = in_callback(function() lock:acquire() end)
    assert.is_false(ok)
    assert.is_true(async.isinstance(e, async.RuntimeError))
    assert.is_false(lock:locked())
    assert.is_true(async.isinstance(select(2, in_callback(function() lock:guard() end)), async.RuntimeError))
    assert.is_false(lock:locked())
  end)

  it("cannot be waited for where Lua cannot yield, and stays usable", function()
    local lock = async.Lock()
    lock:acquire()
    thrown(async.RuntimeError, string.gsub, "x", "x", function() lock:acquire() end)
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("names the function and the argument of bad input", function()
    local lock = async.Lock()
    for _, name in ipairs { "acquire", "release", "locked", "guard" } do
      for _, bad in ipairs { 42, "text", false, {}, print, async.Event(), io.stdout } do
        local e = thrown(async.TypeError, lock[name], bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
      thrown(async.TypeError, lock[name])
    end
  end)

  it("may serve one loop after the other, but not two at a time", function()
    local code = [[
      local async = require "lunation"
      local lock, cond, event, queue = async.Lock(), async.Condition(), async.Event(), async.Queue()
      local barrier = async.Barrier(2)
      local a, b = async.new_event_loop(), async.new_event_loop()
      local tasks
      a:run_until_complete(function()
        lock:acquire()
        tasks = {
          async.create_task(lock.acquire, lock),
          async.create_task(event.wait, event),
          async.create_task(queue.get, queue),
          async.create_task(barrier.wait, barrier),
          async.create_task(function() local _ <close> = cond:guard() cond:wait() end),
        }
        for _ = 1, 5 do async.sleep(0) end
      end)
      b:run_until_complete(function()
        for _, f in ipairs {
          function() lock:acquire() end, function() event:wait() end, function() queue:get() end,
          function() barrier:wait() end, function() local _ <close> = cond:guard() cond:wait() end,
        } do
          local ok, e = pcall(f)
          io.write(tostring(not ok and e.name), " ")
        end
      end)
      a:run_until_complete(function()
        for _, t in ipairs(tasks) do t:cancel() end
        async.wait(tasks)
      end)
      b:run_until_complete(function()
        for _, f in ipairs {
          function() lock:acquire() end, function() event:wait() end, function() queue:get() end,
          function() barrier:wait() end, function() local _ <close> = cond:guard() cond:wait() end,
        } do
          local ok, e = pcall(async.wait_for, f, 0.001)
          io.write(tostring(not ok and e.name), " ")
        end
      end)
      a:close()
      b:close()
    ]]
    assert.equal(("RuntimeError "):rep(5) .. ("TimeoutError "):rep(5), in_stock_lua(code))
  end)

  it("can be dropped with a task that is closed by force", function()
    local code = [[
      local async = require "lunation"
      local runner = async.Runner { shutdown_grace = 0.01, exception_handler = function() end }
      runner:run(function()
        async.create_task(function()
          local _ <close> = async.defer(function() collectgarbage() collectgarbage() end)
          local lock = async.Lock()
          lock:acquire()
          while true do pcall(lock.acquire, lock) end
        end)
        async.create_task(function()
          local _ <close> = async.defer(function() collectgarbage() collectgarbage() end)
          local cond = async.Condition()
          cond:acquire()
          while true do pcall(cond.wait, cond) cond:release() cond:acquire() end
        end)
        async.sleep(0.002)
      end)
      runner:close()
      collectgarbage()
      io.write "over"
    ]]
    assert.equal("over", in_stock_lua(code))
  end)
end)

describe("guard", function()
  it("releases what it took, however the block is left", function()
    for _, make in ipairs { async.Lock, async.Semaphore, async.BoundedSemaphore, async.Condition } do
      local what = make()
      do
        local _ <close> = what:guard()
        assert.is_true(what:locked())
      end
      assert.is_false(what:locked())
      thrown(async.ValueError, function()
        local _ <close> = what:guard()
        error(async.ValueError "inside")
      end)
      assert.is_false(what:locked())
      local task = started(function()
        local _ <close> = what:guard()
        async.sleep(60)
      end)
      assert.is_true(what:locked())
      cancel_all(task)
      assert.is_false(what:locked())
    end
  end)

  it("that was never reached releases nothing", function()
    local lock = async.Lock()
    lock:acquire()
    local task = started(function() local _ <close> = lock:guard() end)
    local chosen = started(function() local _ <close> = lock:guard() end)
    task:cancel()
    turns()
    assert.is_true(lock:locked())
    lock:release()
    chosen:cancel()
    turns()
    assert.is_true(task:cancelled() and chosen:cancelled())
    assert.is_false(lock:locked())
  end)

  it("releases once", function()
    local lock = async.Lock()
    local guard = lock:guard()
    do local _ <close> = guard end
    lock:acquire()
    do local _ <close> = guard end
    assert.is_true(lock:locked())
    lock:release()
  end)

  it("is served in order with acquire", function()
    local sem, log = async.Semaphore(1), {}
    sem:acquire()
    local a = taker(sem, log, "a")
    local b = started(function()
      local _ <close> = sem:guard()
      log[#log + 1] = "b"
    end)
    sem:release()
    turns()
    assert.same({ "a" }, log)
    sem:release()
    async.gather { a, b }
    assert.same({ "a", "b" }, log)
    assert.is_false(sem:locked())
  end)
end)

describe("Semaphore", function()
  it("lets as many in as it has permits", function()
    local sem, inside, most = async.Semaphore(3), 0, 0
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = function()
        local _ <close> = sem:guard()
        inside = inside + 1
        most = math.max(most, inside)
        turns(i % 3)
        inside = inside - 1
      end
    end
    async.gather(tasks)
    assert.equal(3, most)
    assert.is_false(sem:locked())
  end)

  it("has one permit by default, and may have none", function()
    local sem = async.Semaphore()
    assert.is_false(sem:locked())
    sem:acquire()
    assert.is_true(sem:locked())
    local none, log = async.Semaphore(0), {}
    assert.is_true(none:locked())
    local task = taker(none, log, "in")
    assert.same({}, log)
    none:release()
    async.await(task)
    assert.is_true(none:locked())
  end)

  it("may be released more often than acquired, unless it is bounded", function()
    local sem = async.Semaphore(0)
    for _ = 1, 3 do sem:release() end
    for _ = 1, 3 do
      assert.is_false(sem:locked())
      sem:acquire()
    end
    assert.is_true(sem:locked())
    local bounded = async.BoundedSemaphore(2)
    local e = thrown(async.ValueError, bounded.release, bounded)
    assert.matches("BoundedSemaphore released too many times", e.message)
    bounded:acquire()
    bounded:release()
    thrown(async.ValueError, bounded.release, bounded)
    thrown(async.ValueError, async.Semaphore(math.maxinteger).release, async.Semaphore(math.maxinteger))
  end)

  it("loses no permit with cancelled waiters", function()
    local sem, log = async.Semaphore(0), {}
    local a, b, c = taker(sem, log, "a"), taker(sem, log, "b"), taker(sem, log, "c")
    sem:release()
    sem:release()
    a:cancel()
    b:cancel()
    turns()
    assert.same({ "c" }, log)
    assert.is_true(a:cancelled() and b:cancelled() and c:done())
    assert.is_false(sem:locked())
    sem:acquire()
    assert.is_true(sem:locked())
  end)

  it("keeps a permit for a chosen waiter", function()
    local sem, log = async.Semaphore(0), {}
    local a = taker(sem, log, "a")
    sem:release()
    assert.is_true(sem:locked())
    local b = async.create_task(function()
      sem:acquire()
      log[#log + 1] = "b"
    end)
    turns()
    assert.same({ "a" }, log)
    sem:release()
    async.gather { a, b }
    assert.same({ "a", "b" }, log)
  end)

  it("loses no permit in any order of release, cancel and newcomer", function()
    local things = { "release", "release again", "cancel a", "cancel b", "newcomer" }
    each_order(things, function(order)
      local sem, log = async.BoundedSemaphore(2), {}
      sem:acquire()
      sem:acquire()
      local a, b, c = taker(sem, log, "a"), taker(sem, log, "b"), taker(sem, log, "c")
      local newcomer
      for _, what in ipairs(order) do
        if what:find "release" then sem:release()
        elseif what == "cancel a" then a:cancel()
        elseif what == "cancel b" then b:cancel()
        else newcomer = async.create_task(sem.acquire, sem) end
      end
      turns(8)
      assert.is_true(c:done() and newcomer:done(), table.concat(order, ", "))
      assert.is_true(sem:locked())
      sem:release()
      sem:release()
      thrown(async.ValueError, sem.release, sem)
      cancel_all(a, b)
    end)
  end)

  it("refuses what is no number of permits", function()
    for name, make in pairs { Semaphore = async.Semaphore, BoundedSemaphore = async.BoundedSemaphore } do
      for _, bad in ipairs { "2", true, {}, 1.5, print } do
        local e = thrown(async.TypeError, make, bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
      for _, bad in ipairs { -1, math.mininteger } do
        assert.matches(name, thrown(async.ValueError, make, bad).message)
      end
    end
  end)
end)

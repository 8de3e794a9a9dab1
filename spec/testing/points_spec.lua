-- probe.start and stop: the n-th suspension gets a cancel, or throws, wherever a task can wait.
--
-- Not swept itself, since one numbering is in progress at a time: #nosweep.
local async = require "lunation"
local helper = require "spec.helper"
local net = require "lunation.net"
local probe = require "lunation.probe"
local testing = require "lunation.testing"

local refuses, turns = helper.refuses, helper.turns
local loop = async.get_running_loop()

local INJECTED = async.exception("Injected")

-- Runs fn(...) as a task with the n-th point in that mode: what stop says, and how the task ended.
local function inject(mode, at, fn, ...)
  probe.start { mode = mode, at = at, error = INJECTED("at point " .. at) }
  local task = async.create_task(fn, ...)
  local ok, e = pcall(async.wait_for, task)
  turns(6)
  local found = probe.stop()
  return found, ok, e
end

local function count(mode, fn, ...)
  probe.start { mode = mode }
  async.wait_for(async.create_task(fn, ...))
  turns(6)
  return probe.stop().points
end

-- Every place where a task can wait: a program, and how many of its suspensions can throw; each must leave nothing
-- behind when it is cut.
local waits = {}

-- At the end of the block the task is ended, and its error is seen.
local function ending(task)
  return async.defer(function()
    task:cancel()
    pcall(async.await, task)
  end)
end

function waits.sleep() async.sleep(0.001) end

function waits.zero_sleep() async.sleep(0) end

function waits.future()
  local f = async.Future()
  local timer = loop:call_later(0.001, function() f:set_result(1) end)
  local _ <close> = async.defer(function() timer:cancel() end)
  async.await(f)
end

function waits.task() async.await(async.create_task(async.sleep, 0.001)) end

function waits.queue_get()
  local q = async.Queue()
  local timer = loop:call_later(0.001, q.put_nowait, q, 1)
  local _ <close> = async.defer(function() timer:cancel() end)
  q:get()
end

function waits.queue_put()
  local q = async.Queue(1)
  q:put(1)
  local timer = loop:call_later(0.001, q.get_nowait, q)
  local _ <close> = async.defer(function() timer:cancel() end)
  q:put(2)
end

function waits.queue_join()
  local q = async.Queue()
  q:put(1)
  local timer = loop:call_later(0.001, q.task_done, q)
  local _ <close> = async.defer(function() timer:cancel() end)
  q:join()
end

local function contended(lock)
  local held = async.create_task(function()
    local _ <close> = lock:guard()
    async.sleep(0.001)
  end)
  local _ <close> = ending(held)
  async.sleep(0)
  do
    local _ <close> = lock:guard()
  end
  async.await(held)
end

function waits.lock() contended(async.Lock()) end

function waits.semaphore() contended(async.Semaphore(1)) end

function waits.condition()
  local c = async.Condition()
  local function notifier()
    async.sleep(0.001)
    local _ <close> = c:guard()
    c:notify_all()
  end
  local function waiter()
    local _ <close> = c:guard()
    c:wait()
  end
  async.gather({ waiter, notifier }, { cancel_on_error = true })
end

function waits.event()
  local e = async.Event()
  local timer = loop:call_later(0.001, e.set, e)
  local _ <close> = async.defer(function() timer:cancel() end)
  e:wait()
end

function waits.barrier()
  local b = async.Barrier(2)
  async.gather({ function() b:wait() end, function() b:wait() end }, { cancel_on_error = true })
end

function waits.gather()
  async.gather({ function() async.sleep(0.001) end, function() async.sleep(0.002) end }, { cancel_on_error = true })
end

function waits.wait_for() async.wait_for(function() async.sleep(0.001) end, 5) end

function waits.wait_for_future()
  local f = async.Future()
  local timer = loop:call_later(0.001, function() if not f:done() then f:set_result(1) end end)
  local _ <close> = async.defer(function() timer:cancel() end)
  async.wait_for(f, 5)
end

function waits.timeout()
  local _ <close> = async.timeout(5)
  async.sleep(0.001)
end

function waits.group()
  local tg <close> = async.TaskGroup()
  tg:create_task(async.sleep, 0.001)
  tg:create_task(function() async.sleep(0.002) end)
end

function waits.map() async.map({ 0.001, 0.002 }, async.sleep) end

function waits.race() async.race { function() async.sleep(0.001) end, function() async.sleep(0.002) end } end

function waits.as_completed()
  local a, b = async.create_task(async.sleep, 0.001), async.create_task(async.sleep, 0.002)
  local _ <close> = ending(a)
  local _ <close> = ending(b)
  for t in async.as_completed { a, b } do t:result() end
end

function waits.shield()
  local inner = async.create_task(async.sleep, 0.001)
  local _ <close> = ending(inner)
  async.await(async.shield(inner))
end

function waits.stream()
  local a, b = testing.stream_pair { lockstep = true }
  local _ <close> = a
  local _ <close> = b
  async.gather({ function() a:write("hello\n") end, function() b:read("l") end }, { cancel_on_error = true })
end

function waits.network()
  local server <close> = net.listen("127.0.0.1", 0)
  local accepted = async.create_task(function()
    local s <close> = server:accept()
    return s:read("l")
  end)
  local _ <close> = ending(accepted)
  local c <close> = net.connect("127.0.0.1", server:address().port)
  c:write("hello\n")
  async.await(accepted)
end

function waits.getaddrinfo() net.getaddrinfo("127.0.0.1", nil) end

function waits.stock_yield() coroutine.yield() end

function waits.yield_of_a_future()
  local f = async.Future()
  local timer = loop:call_later(0.001, function() if not f:done() then f:set_result(1) end end)
  local _ <close> = async.defer(function() timer:cancel() end)
  coroutine.yield(f)
end

function waits.generator()
  local values = async.coroutine.wrap(function()
    for i = 1, 2 do
      async.sleep(0.001)
      async.coroutine.yield(i)
    end
  end)
  assert(values() == 1 and values() == 2)
end

function waits.callback_wrapped()
  local later = async.wrap(function(seconds, done) loop:call_later(seconds, done) end)
  later(0.0005)
end

local function names()
  local list = {}
  for name in pairs(waits) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("probe.start #nosweep", function()
  local picture, clock, order

  before_each(function()
    picture = testing.leaks()
    order = probe.order(false) or false -- the number of a point is that of one order
    clock = testing.clock()
  end)
  after_each(function()
    probe.stop()
    clock:close()
    probe.order(order)
  end)

  for _, name in ipairs(names()) do
    for _, mode in ipairs { "cancel", "throw" } do
      it(("delivers a %s at each point of: %s"):format(mode, name), function()
        local fn = waits[name]
        local points = count(mode, fn)
        assert.is_true(points >= 1, "no point was counted")
        for at = 1, points do
          local found, ok, e = inject(mode, at, fn)
          assert.is_true(found.delivered, "point " .. at .. " was not reached")
          assert.matches("points_spec.lua:%d+$", found.where)
          assert.equal("integer", math.type(found.task))
          -- A child's cancel need not be its parent's end; an error has to come out.
          if not ok and mode == "cancel" then
            assert.is_true(async.isinstance(e, async.CancelledError) or async.isinstance(e, async.ExceptionGroup),
              tostring(e))
          elseif not ok then
            local inner = async.isinstance(e, async.ExceptionGroup) and e.errors[1] or e
            assert.is_true(async.isinstance(inner, INJECTED), tostring(e))
          end
          assert.is_true(helper.eventually(function() return #testing.leaks(picture) == 0 end, 100),
            "left behind at point " .. at .. ":\n" .. tostring(testing.leaks(picture)))
        end
        -- The point behind the last one is never reached, and nothing happens.
        local found, ok = inject(mode, points + 1, fn)
        assert.is_false(found.delivered)
        assert.is_true(ok)
        assert.equal(points, found.points)
        assert.is_nil(found.where)
      end)
    end
  end

  it("an error is thrown in place of the wait, at once, and no request is left", function()
    local from, asked, after = loop:time(), nil, nil
    local found, ok, e = inject("throw", 1, function()
      local here, why = pcall(async.sleep, 1000)
      asked = async.current_task():cancelling()
      async.sleep(1)
      after = loop:time() - from
      return here, why
    end)
    assert.is_true(ok)
    assert.equal(0, asked)
    assert.near(1, after, 0.1)
    assert.is_true(found.delivered)
    assert.is_false(found.swallowed)
  end)

  it("any value is thrown unchanged", function()
    for _, value in ipairs { false, 42, "text", { "table" }, async.CancelledError("mine") } do
      for _, wait in ipairs { waits.sleep, waits.future, waits.queue_get, waits.event } do
        probe.start { mode = "throw", at = 1, error = value }
        local ok, e = pcall(async.await, async.create_task(function()
          local fine, why = pcall(wait)
          assert(not fine)
          return why
        end))
        probe.stop()
        assert.is_true(ok, tostring(e))
        assert.equal(value, e)
      end
    end
    probe.start { mode = "throw", at = 1 }
    local ok, e = pcall(async.await, async.create_task(waits.sleep))
    probe.stop()
    assert.is_false(ok)
    assert.equal("Error: nil", tostring(e))
  end)

  it("a shared future is spared, the others get its value", function()
    local f, got = async.Future(), {}
    probe.start { mode = "throw", at = 2, error = INJECTED("x") }
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = async.create_task(function()
        local ok, v = pcall(async.await, f)
        got[i] = ok and v or tostring(v)
      end)
    end
    turns()
    assert.is_false(f:done())
    f:set_result("value")
    async.gather(tasks)
    probe.stop()
    assert.same({ "value", "Injected: x", "value" }, got)
    f = async.Future()
    got = {}
    probe.start { at = 2 }
    for i = 1, 3 do
      tasks[i] = async.create_task(function()
        local ok, v = pcall(async.await, f)
        got[i] = ok and v or v.name
      end)
    end
    turns()
    f:set_result("value")
    async.gather(tasks)
    probe.stop()
    assert.same({ "value", "CancelledError", "value" }, got)
  end)

  it("a future that only this task awaits stays pending when the wait throws", function()
    local f = async.Future()
    probe.start { mode = "throw", at = 1, error = INJECTED("x") }
    local task = async.create_task(async.await, f)
    assert.is_false(pcall(async.await, task))
    probe.stop()
    assert.is_false(f:done())
    f:cancel()
  end)

  it("counts tasks made from then on alone", function()
    local old = async.create_task(function()
      for _ = 1, 10 do async.sleep(0) end
    end)
    async.sleep(0)
    probe.start {}
    async.sleep(0)
    local new = async.create_task(function()
      async.sleep(0)
      async.await(async.create_task(async.sleep, 0))
    end)
    async.gather { old, new }
    assert.equal(3, probe.stop().points)
  end)

  it("awaits of tasks and combinators are no points for an error", function()
    local function fn() async.gather { function() async.sleep(0.001) end } end
    assert.equal(2, count("cancel", fn))
    assert.equal(1, count("throw", fn))
  end)

  it("where a request arrives already there is no point for an error", function()
    local function fn()
      async.current_task():cancel()
      local ok, e = pcall(async.sleep, 1)
      assert(not ok and e.name == "CancelledError", tostring(e))
      async.sleep(1)
    end
    assert.equal(1, count("throw", fn))
    local _, ok, e = inject("throw", 1, fn)
    assert.is_false(ok)
    assert.is_true(async.isinstance(e, INJECTED), tostring(e))
    assert.equal(2, count("cancel", fn))
  end)

  it("says when a task swallowed the request", function()
    local function swallow() pcall(async.sleep, 1) return "fine" end
    assert.is_true(inject("cancel", 1, swallow).swallowed)
    assert.is_false(inject("throw", 1, swallow).swallowed)
    local function survive()
      pcall(async.sleep, 1)
      async.current_task():uncancel()
    end
    assert.is_false(inject("cancel", 1, survive).swallowed)
    local function limited()
      return (pcall(function()
        local _ <close> = async.timeout(1)
        async.sleep(5)
      end))
    end
    assert.is_true(inject("cancel", 1, limited).swallowed)
    assert.is_false(inject("cancel", 1, async.sleep, 1).swallowed)
  end)

  it("awaits that need not suspend are no points", function()
    local q, f = async.Queue(), async.Future()
    f:set_result(1)
    assert.equal(0, count("cancel", function()
      for i = 1, 40 do -- every 128th of them gives way
        q:put(i)
        q:get()
        async.await(f)
      end
    end))
  end)

  it("can be begun again, ended twice, and begins from one", function()
    probe.start { at = 1 }
    probe.start { at = 2 }
    local task = async.create_task(function()
      async.sleep(0)
      async.sleep(0)
    end)
    assert.is_false(pcall(async.await, task))
    local found = probe.stop()
    assert.equal(2, found.points)
    assert.same(found, probe.stop())
    async.await(async.create_task(async.sleep, 0))
    assert.equal(2, probe.stop().points)
  end)

  it("refuses bad arguments, and nothing begins", function()
    probe.stop()
    refuses("TypeError", { "#1 to 'start'", "table expected" }, probe.start, 1)
    refuses("ValueError", "0 is less than 1", probe.start, { at = 0 })
    refuses("TypeError", "integer expected", probe.start, { at = 1.5 })
    refuses("TypeError", "at: number expected", probe.start, { at = "1" })
    refuses("ValueError", 'mode: "cancel" or "throw" expected, got "hang"', probe.start, { mode = "hang", at = 1 })
    refuses("TypeError", "mode: string expected", probe.start, { mode = 1 })
    async.await(async.create_task(async.sleep, 0))
    local ok = pcall(async.await, async.create_task(async.sleep, 0.001))
    assert.is_true(ok)
  end)

  it("a long place is cut, not overrun", function()
    local name = ("x"):rep(300)
    local fn = load("local async = ... async.sleep(0.001)", "@" .. name .. ".lua")
    local found = inject("cancel", 1, fn, async)
    assert.is_true(#found.where < 128 and #found.where > 40)
    fn = load("local async = ... async.sleep(0.001)", "=" .. name)
    assert.is_true(#inject("cancel", 1, fn, async).where < 128)
  end)

  it("a task without a line of Lua is named by where it was made", function()
    local before = testing.sites(true)
    assert.matches("points_spec.lua:%d+$", inject("cancel", 1, async.sleep, 1).where)
    testing.sites(false)
    assert.equal("", inject("cancel", 1, async.sleep, 1).where)
    testing.sites(before)
  end)
end)

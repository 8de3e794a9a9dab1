-- The reference model: the contract of tasks, futures, cancellation and the loop in plain Lua.
--
-- It is what the model fuzz (spec/proofs/model.lua) holds against the engine: a table with the names of `async`, on a
-- virtual clock, made of stock coroutines and tables, with nothing of Lunation in it. It is written to be read: lists
-- are searched, walks recurse. One loop exists at a time; `Runner` begins a new one.
--
-- Law: whoever waits is in the list of what it waits for, and is queued the moment that this settles. So a combinator
-- costs its caller one place in the ready queue, however it is nested. How many turns that is the contract does not
-- promise; it is the least there can be, and the engine does it. Everything else here is the contract's.
--
-- This file has futures, tasks, cancellation, timers and turns; errors.lua what is thrown, callback.lua what is called,
-- runner.lua how a loop begins and ends, join.lua the combinators, scope.lua the scopes, sync.lua and queue.lua the
-- rest, all on the functions in `inner`.
local inner = require "spec.model.errors" -- what the files of the model share
local model = inner.model -- the table that stands for `async`
local plant = inner.plant -- faults that a spec asks for
local loop, current, streak -- the loop; the running task; awaits in a row that did not suspend

local isinstance, throw = model.isinstance, inner.throw
local Error, Cancelled = model.Error, model.CancelledError

-- ---- futures ----

local Future, Task = {}, {}
Future.__index = Future
Task.__index = setmetatable(Task, { __index = Future })
inner.Future, inner.Task = Future, Task

local function new_future(meta)
  return setmetatable({ waiters = {}, seen = false }, meta or Future)
end
inner.new_future = new_future

local function drop(list, item)
  for i = 1, #list do
    if list[i] == item then return table.remove(list, i) end
  end
end
inner.drop = drop

-- Gives f its outcome; those that wait hear of it in the order in which they came.
local function settle(f, state)
  assert(not f.state)
  f.state = state
  loop.order = loop.order + 1
  f.order = loop.order
  local list = f.waiters
  f.waiters = {}
  for i = 1, #list do list[i]:fire(f) end
end
inner.settle = settle

-- Settles f with an error value; a CancelledError cancels it.
local function fail(f, e)
  if e == nil then e = Error("nil") end
  f.error = e
  if isinstance(e, Cancelled) then return settle(f, "cancelled") end
  loop.failed[#loop.failed + 1] = f
  settle(f, "error")
end
inner.fail = fail

-- The error of f, delivered now.
local function take_error(f)
  f.seen = true
  if f.error == nil then f.error = Cancelled(f.msg) end
  return f.error
end
inner.take_error = take_error

local function outcome(f)
  if not f.state then throw "InvalidStateError" end
  if f.state ~= "ok" then error(take_error(f), 0) end
  return table.unpack(f.values, 1, f.values.n)
end
inner.outcome = outcome

-- Does somebody other than the waiter `but` need the outcome of f?
local function shared(f, but)
  if plant.borrowed_is_cancelled then return false end
  for _, w in ipairs(f.waiters) do
    if w ~= but and w.holds then return true end
  end
  return false
end

function Future:done() return self.state ~= nil end
function Future:cancelled() return self.state == "cancelled" end
Future.result = outcome
function Future:exception()
  if not self.state then throw "InvalidStateError" end
  if self.state == "ok" then return nil end
  if self.state == "cancelled" then error(take_error(self), 0) end
  return take_error(self)
end
function Future:set_result(...)
  if self.state then throw "InvalidStateError" end
  self.values = table.pack(...)
  settle(self, "ok")
end
function Future:set_exception(e)
  if self.state then throw "InvalidStateError" end
  fail(self, e)
end
function Future.get_loop() return loop end
function Task.set_result() throw "RuntimeError" end
Task.set_exception = Task.set_result

-- ---- the ready queue, timers and callbacks ----

local function queue(job) loop.ready[#loop.ready + 1] = job end
inner.queue = queue

local function deadline(seconds)
  if seconds <= 0 then return loop.now end
  local ns = math.ceil(seconds * 1e9)
  return loop.now + ns
end
inner.deadline = deadline

-- timer.fire(timer) is called once `when` has come; equal deadlines in the order of starting.
local function start_timer(timer, when)
  local list, at = loop.timers, #loop.timers + 1
  timer.deadline = when
  local before = plant.timers_turned and when - 1 or when
  while at > 1 and list[at - 1].deadline > before do at = at - 1 end
  table.insert(list, at, timer)
end
local function stop_timer(timer) drop(loop.timers, timer) end
inner.start_timer, inner.stop_timer = start_timer, stop_timer

local function fire_timers()
  while loop.timers[1] and loop.timers[1].deadline <= loop.now do
    table.remove(loop.timers, 1):fire()
  end
end

local function report(context) loop.faults[#loop.faults + 1] = context end
inner.report = report

local function deliver_faults()
  while loop.faults[1] do loop.handler(loop, table.remove(loop.faults, 1)) end
end

-- ---- tasks: how they suspend and go on ----

local function wake(t)
  if t.queued then return end
  t.queued = true
  queue(t)
end
inner.wake = wake

local function take_message(t)
  local msg = t.msg
  t.msg = nil
  return msg
end

local function throw_cancelled(t) error(Cancelled(take_message(t)), 0) end
inner.throw_cancelled = throw_cancelled

local function enter()
  if not current then throw "RuntimeError" end
  return current
end
inner.enter = enter

local deliver -- below

-- A request that was pending when the task suspended goes to what it waits for now.
local function deliver_late(t)
  if not t.must then return end
  t.must = false
  deliver(t, { msg = t.msg })
end

-- What became of the request that the waiters of t have passed on to it: it was thrown there, or comes back to them.
local function answer(t, thrown)
  for _, w in ipairs(t.waiters) do
    if w.task and w.task.passed then
      w.task.passed = false
      if not thrown then w.task.must = true end
    end
  end
end

-- Suspends the running task; true if it was interrupted by a request, and what it waited for.
local function suspend(t)
  streak = 0
  coroutine.yield()
  local on, interrupted = t.on, t.interrupted
  if t.granted then on.granted = on.granted - 1 end
  t.on, t.interrupted, t.owns, t.granted, t.passed, t.at = nil, false, false, false, false, "running"
  if interrupted or (on and on.state == "cancelled") then
    t.must = false
    answer(t, true)
  end
  return interrupted, on
end

-- Gives one turn away; true if a request is to be thrown.
local function give_turn(t)
  t.at = "yielded"
  wake(t)
  if t.must then t.interrupted = true end
  return (suspend(t))
end
inner.give_turn = give_turn

-- The task joins those that wait for f: `at_front` of them, if a queue says so.
local function wait_on(t, f, owns, at)
  t.at, t.on, t.owns = "waiting", f, owns
  t.waiter.holds = true
  table.insert(f.waiters, at or #f.waiters + 1, t.waiter)
  deliver_late(t)
  return suspend(t)
end
inner.wait_on = wait_on

-- An await that found its result there: every 128th in a row gives way, and a request is then thrown.
local function gives_way()
  streak = streak + 1
  return streak % 128 == 0
end
inner.gives_way = gives_way

local function polite(t)
  if gives_way() and give_turn(t) then throw_cancelled(t) end
end
inner.polite = polite

-- A request that settled otherwise leaves no message behind.
local function forget_message(t)
  if not t.must then t.msg = nil end
end
inner.forget_message = forget_message

-- A plain future that a request has cancelled in passing says what the last request to its first awaiter said.
local function share_message(t, f)
  if f.state == "cancelled" and not f.at and f.error == nil and f.msg == nil then f.msg = take_message(t) end
  forget_message(t)
end

-- Would t, by waiting for f, wait for itself?
local function would_cycle(t, f, known)
  if f == t then return true end
  known = known or {}
  if f.state or known[f] then return false end
  known[f] = true
  if f.children then
    for _, child in ipairs(f:children()) do
      if would_cycle(t, child, known) then return true end
    end
    return false
  end
  return f.at == "waiting" and f.on and would_cycle(t, f.on, known) or false
end
inner.would_cycle = would_cycle

local function await_future(t, f)
  if f.state then
    if plant.await_suspends then give_turn(t) end
    polite(t)
    share_message(t, f)
    return outcome(f)
  end
  if would_cycle(t, f) then throw "RuntimeError" end
  if wait_on(t, f, false) then throw_cancelled(t) end
  share_message(t, f)
  return outcome(f)
end
inner.await_future = await_future

local function is_future(v)
  local meta = getmetatable(v)
  return meta == Future or meta == Task
end
inner.is_future = is_future

function model.await(aw)
  local t = enter()
  if is_future(aw) then return await_future(t, aw) end
  if type(aw) == "function" then return aw() end
  local meta = getmetatable(aw)
  if not (meta and meta.__await) then throw "TypeError" end
  return meta.__await(aw)
end

function model.sleep(seconds, ...)
  local t = enter()
  local interrupted
  if seconds > 0 then
    t.at = "sleeping"
    start_timer(t.alarm, deadline(seconds))
    loop.sleepers = loop.sleepers + 1
    deliver_late(t)
    interrupted = suspend(t)
  else
    interrupted = give_turn(t)
  end
  if interrupted then throw_cancelled(t) end
  forget_message(t)
  return ...
end

model.coroutine = { yield = function()
  if not current then error("attempt to yield from outside a coroutine", 0) end
  model.sleep(0)
end }

-- ---- tasks: their life ----

local function end_of(t)
  if t.must then answer(t, false) end
  t.at, t.must = "done", false
  loop.tasks[t] = nil
end

local function finish(t, state)
  if state == "cancelled" then t.must = false end
  end_of(t)
  settle(t, state)
end

local function error_of_body(e)
  return e == nil and Error("nil") or e
end

local function body(t)
  local results = table.pack(xpcall(t.fn, error_of_body, table.unpack(t.args, 1, t.args.n)))
  t.msg = nil
  if results[1] then
    t.values = table.pack(table.unpack(results, 2, results.n))
    finish(t, "ok")
  else
    if isinstance(results[2], Cancelled) then t.must = false end
    end_of(t)
    fail(t, results[2])
  end
end

function Task:run()
  self.queued = false
  if self.state then return end
  if self.at == "new" then
    if self.must then return finish(self, "cancelled") end
    self.co = coroutine.create(body)
  end
  self.at = self.at == "new" and "running" or self.at
  current, streak = self, 0
  local ok, e = coroutine.resume(self.co, self)
  current = nil
  assert(ok, e)
end

local function sleep_over(alarm)
  alarm.task.at = "slept"
  loop.sleepers = loop.sleepers - 1
  wake(alarm.task)
end
local function hear(waiter) wake(waiter.task) end

local function spawn(fn, ...)
  if not loop or not loop.running then throw "RuntimeError" end
  local t = new_future(Task)
  loop.made = loop.made + 1
  t.number, t.fn, t.args, t.at, t.requests = loop.made, fn, table.pack(...), "new", 0
  t.waiter = { task = t, fire = hear, holds = true }
  t.alarm = { task = t, fire = sleep_over }
  loop.tasks[t] = true
  wake(t)
  return t
end
inner.spawn = spawn

function model.create_task(fn, ...) return spawn(fn, ...) end
function model.current_task() return current end
function model.Future()
  if not loop.running then throw "RuntimeError" end
  return new_future()
end

local function list_tasks()
  local list = {}
  for t in pairs(loop.tasks) do list[#list + 1] = t end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end
function model.all_tasks()
  if not loop.running then throw "RuntimeError" end
  return list_tasks()
end

-- What can become a task must be something that can be awaited.
function inner.check_awaitable(v)
  local meta = getmetatable(v)
  if not (is_future(v) or type(v) == "function" or (meta and meta.__await)) then throw "TypeError" end
end

function inner.ensure_future(v)
  if is_future(v) then return v end
  if type(v) == "function" then return spawn(v) end
  return spawn(getmetatable(v).__await, v)
end

-- ---- cancellation ----

-- It goes on at once, to throw.
local function interrupt(t)
  t.interrupted = true
  wake(t)
end
inner.interrupt = interrupt

-- Brings a request, counted already, to where t is.
function deliver(t, walk)
  if t.interrupted then return end
  if t.at == "yielded" then
    t.must = true
    return interrupt(t)
  elseif t.at == "sleeping" then
    stop_timer(t.alarm)
    loop.sleepers = loop.sleepers - 1
    t.at = "slept"
    return interrupt(t)
  elseif t.at ~= "waiting" or t.on.state and not plant.cancel_overtakes then
    t.must = true
    return
  end
  local f = t.on
  -- Borrowed, and others need it: this task alone withdraws.
  local spare = not t.owns and not t.granted and shared(f, t.waiter)
  if spare or f.state or not f:asked(t, walk) then
    drop(f.waiters, t.waiter)
    interrupt(t)
  elseif f.at then
    t.passed = true
  end
end

-- The request reaches a future: true if it has settled, or will, and the waiter is to hear of it.
function Future:asked()
  settle(self, "cancelled")
  return true
end
function Task:asked(_, walk)
  if self.state or walk[self] then return true end
  walk[self] = true
  self.requests = self.requests + 1
  self.msg = walk.msg
  deliver(self, walk)
  return true
end

local function cancel(f, msg)
  if f.state then return false end
  if not f.at then f.msg = msg end
  f:asked(nil, { msg = msg })
  return true
end
inner.cancel = cancel
Future.cancel = cancel

function Task:cancelling() return self.requests end
function Task:uncancel()
  if self.requests > 0 then self.requests = self.requests - 1 end
  if self.requests == 0 and not plant.uncancel_keeps then
    self.must = false
    if self.at == "yielded" then self.interrupted = false end
  end
  return self.requests
end

-- ---- the loop ----

local Loop = {}
Loop.__index = Loop

function Loop:time() return self.now / 1e9 end
function Loop:is_running() return self.running or false end
function Loop.create_future() return new_future() end
function Loop.create_task(_, fn, ...) return spawn(fn, ...) end
function Loop:call_exception_handler(context) self.handler(self, context) end
function model.get_running_loop()
  if not loop.running then throw "RuntimeError" end
  return loop
end

local function drain()
  local jobs = loop.ready
  loop.ready = {}
  for i = 1, #jobs do
    jobs[i]:run()
    if loop.faults[1] then deliver_faults() end
  end
end

-- Turns until loop.stopping; false if nothing can ever happen again.
local function turns()
  loop.running = true
  repeat
    if not loop.ready[1] and not loop.stopping then
      local next = loop.timers[1]
      if not next then
        loop.running = false
        return false
      end
      loop.now = math.max(loop.now, next.deadline)
    end
    fire_timers()
    drain()
  until loop.stopping
  loop.running, loop.stopping = false, false
  return true
end

inner.Loop, inner.turns, inner.deliver_faults = Loop, turns, deliver_faults
inner.list_tasks, inner.finish = list_tasks, finish

-- A new loop takes the place of the one before.
function inner.begin(handler)
  loop = setmetatable({ now = 0, order = 0, made = 0, ready = {}, timers = {}, faults = {}, failed = {}, tasks = {},
    callbacks = 0, sleepers = 0, handler = handler }, Loop)
  current, streak = nil, 0
  inner.loop = loop
  return loop
end

return inner

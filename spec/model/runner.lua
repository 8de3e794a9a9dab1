-- The reference model: how a loop begins and ends. See core.lua.
--
-- Main's outcome comes first; what is left is then asked to stop, newest first, in rounds until nothing is left, and
-- what has not ended by the grace is closed by force and reported.
local inner = require "spec.model.core"
local model, drop, queue = inner.model, inner.drop, inner.queue
local report, turns, list_tasks = inner.report, inner.turns, inner.list_tasks
local start_timer, stop_timer = inner.start_timer, inner.stop_timer
local loop

local stopper = { run = function() loop.stopping = true end }
local at_end = { fire = function() queue(stopper) end, holds = false }

local function run_main(fn)
  loop.running = true
  local main = inner.spawn(fn)
  table.insert(main.waiters, at_end)
  local went = turns()
  drop(main.waiters, at_end)
  drop(loop.ready, stopper)
  if main.state then return inner.outcome(main) end
  assert(not went)
  inner.throw "RuntimeError"
end

-- A task that refused to end is closed where it is: its closers run, nobody may wait.
local function destroy(t)
  local on = t.on
  if t.at == "sleeping" then
    stop_timer(t.alarm)
    loop.sleepers = loop.sleepers - 1
  elseif t.at == "waiting" then
    drop(on.waiters, t.waiter)
    if t.granted then
      on.granted = on.granted - 1
      if on.revoked then on:revoked() end
    end
  end
  local fresh = t.at == "new"
  t.interrupted, t.owns, t.granted, t.at, t.on, t.msg = false, false, false, "running", nil, nil
  if not fresh then coroutine.close(t.co) end
  inner.finish(t, "cancelled")
end

local function destroy_all()
  while next(loop.tasks) do
    local list = list_tasks()
    for i = #list, 1, -1 do
      if not list[i].state then
        report { message = "Task was destroyed but it is pending!", kind = "destroyed", future = list[i] }
        destroy(list[i])
      end
    end
  end
end

-- One round: all that are left are asked to stop, newest first, and awaited. False when the time is up.
local function round(limit)
  local list, left, expired = list_tasks(), 0, false
  local over = { holds = false }
  function over.fire()
    left = left - 1
    if left == 0 then loop.stopping = true end
  end
  for i = #list, 1, -1 do
    left = left + 1
    table.insert(list[i].waiters, over)
  end
  local walk = {}
  for i = #list, 1, -1 do
    if not list[i].state then list[i]:asked(nil, walk) end
  end
  local grace = { fire = function() expired, loop.stopping = true, true end }
  if left > 0 then
    loop.stopping = false
    start_timer(grace, limit)
    while left > 0 and not expired and turns() do end
  end
  stop_timer(grace)
  loop.stopping = false
  for _, t in ipairs(list) do
    drop(t.waiters, over)
    if t.state == "error" and not t.seen then
      t.seen = true
      local message = "unhandled exception during loop shutdown"
      report { message = message, kind = "shutdown", exception = t.error, future = t }
    end
  end
  return left == 0
end

local function teardown()
  local limit, over, n = inner.deadline(10), true, 0
  while over do
    if next(loop.tasks) then
      over = round(limit)
    elseif loop.ready[1] and n < 16 then
      n = n + 1
      loop.stopping = true
      turns()
    else
      break
    end
  end
  destroy_all()
  if loop.ready[1] then
    loop.stopping = true
    turns()
  end
  destroy_all()
  inner.deliver_faults()
  for _, f in ipairs(loop.failed) do
    if not f.seen then
      f.seen = true
      loop.handler(loop, { message = "never retrieved", kind = "unretrieved", exception = f.error, future = f })
    end
  end
end

-- The model's own books: nothing is left, and each error was delivered or reported.
local function check_clean()
  assert(not next(loop.tasks) and loop.sleepers == 0 and not loop.faults[1])
  for _, timer in ipairs(loop.timers) do assert(timer.waiting or timer.join, "a timer is left") end
  for _, f in ipairs(loop.failed) do assert(f.seen) end
end

local Runner = {}
Runner.__index = Runner
function Runner.run(_, fn) return run_main(fn) end
function Runner:get_loop() return self.loop end
function Runner.close()
  teardown()
  check_clean()
end

function model.Runner(opts)
  loop = inner.begin(opts.exception_handler)
  return setmetatable({ loop = loop }, Runner)
end

return inner

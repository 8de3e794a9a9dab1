-- What many specs of the engine have in common: tasks that run until they wait, errors that have to come, what was
-- reported. The words are those of one test; what a whole process needs is in spec/helper.lua.
local assert = require "luassert"
local async = require "lunation"
local helper = require "spec.helper"

local tasks = {}

-- Gives every ready task a few turns, whatever the order of the ready queue.
tasks.turns = helper.turns
local turns = tasks.turns

-- A task that has run until it waits.
function tasks.started(fn, ...)
  local task = async.create_task(fn, ...)
  turns()
  return task
end

-- fn(...) throws an error of that class; the error.
function tasks.thrown(class, fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "nothing was thrown")
  assert.is_true(async.isinstance(e, class), tostring(e))
  return e
end

-- The error that f(...) throws.
function tasks.caught(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  return e
end

-- The error is of that class, and its message has each of the texts in it.
function tasks.class_in_message(e, class, ...)
  assert.is_true(async.isinstance(e, class))
  for _, text in ipairs { ... } do
    assert.is_truthy(e.message:find(text, 1, true), e.message)
  end
end

-- The body of a task that fails with `e` after `delay` seconds.
function tasks.fail(e, delay)
  async.sleep(delay or 0)
  error(e, 0)
end

-- Waits to be cancelled, writes that down, takes its time, ends as told.
function tasks.patient(log, name, ending, cleanup)
  local _, e = pcall(async.sleep, 30)
  log[#log + 1] = name .. " " .. e.name
  if cleanup then async.sleep(cleanup) end
  if ending == "return" then return name end
  error(ending or e, 0)
end

-- A task that ends `cleanup` turns after it was cancelled; log[#log + 1] = name when it has.
function tasks.slow_to_end(log, name, cleanup)
  return async.create_task(function()
    local _, e = pcall(async.sleep, 60)
    turns(cleanup or 6)
    log[#log + 1] = name
    error(e)
  end)
end

-- The errors of an ExceptionGroup, each as text.
function tasks.texts(e)
  assert.is_true(async.isinstance(e, async.ExceptionGroup), tostring(e))
  local list = {}
  for i, x in ipairs(e.errors) do list[i] = tostring(x) end
  return list
end

-- What fn gave, called in a callback of the loop.
function tasks.in_callback(fn)
  local done = async.Future()
  async.get_running_loop():call_soon(function()
    -- Who waits may have been cancelled meanwhile.
    local results = table.pack(pcall(fn))
    if not done:done() then done:set_result(table.unpack(results, 1, results.n)) end
  end)
  return async.await(done)
end

-- Calls fn with every order of the list.
function tasks.each_order(list, fn, n)
  n = n or #list
  if n <= 1 then return fn(list) end
  for i = 1, n do
    list[n], list[i] = list[i], list[n]
    tasks.each_order(list, fn, n - 1)
    list[n], list[i] = list[i], list[n]
  end
end

-- All items of a queue, in the order in which it gives them.
function tasks.drain(queue)
  local list = {}
  while not queue:empty() do list[#list + 1] = queue:get_nowait() end
  return list
end

-- What the exception handler is told while `f` runs and afterwards, with all garbage collected.
function tasks.reports(f, expected)
  local loop, list = async.get_running_loop(), {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context) list[#list + 1] = context end)
  local ok, e = pcall(f)
  for i = 1, 60 do
    collectgarbage()
    async.sleep(i < 4 and 0 or 0.002)
    if i > 4 and #list >= (expected or 0) then break end
  end
  loop:set_exception_handler(before)
  assert.is_true(ok, e)
  return list
end

return tasks

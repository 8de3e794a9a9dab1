-- What the specs of wait, as_completed, map and race have in common: looking at tasks and at what they leave behind.
local assert = require "luassert"
local async = require "lunation"
local support = require "spec.support.tasks"

local turns = support.turns

-- n named tasks, each waiting for a future of its own: tasks, futures.
local function waiting(n)
  local tasks, gates = {}, {}
  for i = 1, n do
    local gate = async.Future()
    gates[i] = gate
    tasks[i] = async.create_task(function() return async.await(gate) end):set_name("t" .. i)
  end
  turns()
  return tasks, gates
end

-- Lets all tasks end and looks at them, so that none is left behind.
local function finish(tasks, gates)
  for _, gate in ipairs(gates) do
    if not gate:done() then gate:set_result() end
  end
  for _, task in ipairs(tasks) do pcall(async.await, task) end
end

local slow_to_end = support.slow_to_end

local function reported(fn)
  local loop, list = async.get_running_loop(), {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context) list[#list + 1] = context.exception end)
  local results = table.pack(pcall(fn))
  for _ = 1, 2 do
    collectgarbage()
    async.sleep(0.002)
  end
  loop:set_exception_handler(before)
  if not results[1] then error(results[2], 0) end
  return list, table.unpack(results, 2, results.n)
end

local function fails(fn, name, class, pattern, ...)
  local before = #async.all_tasks()
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(class, type(e) == "table" and e.name or type(e))
  assert.matches(name, e.message)
  assert.matches(pattern, e.message)
  assert.equal(before, #async.all_tasks(), "a task was made")
end

local function fails_outside_a_task(fn)
  local fut, error_of = async.Future(), nil
  async.get_running_loop():call_soon(function()
    local _, e = pcall(fn)
    error_of = e
    fut:set_result()
  end)
  async.await(fut)
  assert.equal("RuntimeError", error_of.name)
end

local function must_not_run() error("must not run") end

return {
  turns = turns,
  waiting = waiting,
  finish = finish,
  slow_to_end = slow_to_end,
  reported = reported,
  fails = fails,
  fails_outside_a_task = fails_outside_a_task,
  must_not_run = must_not_run,
}

-- What the specs of gather have in common: looking at tasks and at what they leave behind.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns = support.turns

local unpack = table.unpack

-- A task that waits for a future of its own: task, future.
local function waiting()
  local gate = async.Future()
  return async.create_task(function() return async.await(gate) end), gate
end

local slow_to_end = support.slow_to_end

-- What fn gave, and the messages and errors that were reported while and after it ran.
local function reported(fn)
  local loop, list = async.get_running_loop(), {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context)
    list[#list + 1] = { message = context.message, exception = context.exception }
  end)
  local results = table.pack(pcall(fn))
  for _ = 1, 2 do
    collectgarbage()
    async.sleep(0.002)
  end
  loop:set_exception_handler(before)
  if not results[1] then error(results[2], 0) end
  return list, unpack(results, 2, results.n)
end

local function class_of(e) return type(e) == "table" and e.name or type(e) end

return {
  unpack = unpack,
  turns = turns,
  waiting = waiting,
  slow_to_end = slow_to_end,
  reported = reported,
  class_of = class_of,
}

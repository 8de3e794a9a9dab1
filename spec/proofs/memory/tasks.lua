-- Tasks and futures: made, awaited, cancelled, failed, asked; callbacks; what nobody retrieved.
local async = require "lunation"
local runner = async.Runner { clock = "virtual", debug = sweep.debug }

local function sum(a, b)
  async.sleep(0)
  async.sleep(0.1)
  return a + b, nil, "tail"
end

runner:run(function()
  local loop = async.get_running_loop()
  local tasks = {}
  for i = 1, 6 do tasks[i] = async.create_task(sum, i, 1) end
  for i = 1, 6 do assert(async.await(tasks[i]) == i + 1) end

  local sleeper = async.create_task(async.sleep, 10):set_name("sleeper")
  async.sleep(0)
  assert(sleeper:get_name() == "sleeper" and sleeper:get_stack() and sleeper:get_coro())
  assert(#async.all_tasks() == 2 and async.current_task():get_name())
  sleeper:cancel("enough")
  assert(sleeper:cancelling() == 1)
  local ok, e = pcall(async.await, sleeper)
  assert(not ok and async.isinstance(e, async.CancelledError) and e.message == "enough")

  local stubborn = async.create_task(function()
    pcall(async.sleep, 10)
    async.current_task():uncancel()
    async.sleep(0)
    return "back"
  end)
  async.sleep(0)
  stubborn:cancel()
  assert(async.await(stubborn) == "back")

  local failing = async.create_task(function() error(async.ValueError("v", { cause = "c" })) end)
  ok, e = async.pcall(async.await, failing)
  assert(not ok and async.traceback(e) and failing:traceback() and tostring(failing))
  assert(failing:done() and not failing:cancelled() and failing:exception() == e)

  local seen = 0
  local f = loop:create_future()
  local function on_done() seen = seen + 1 end
  f:add_done_callback(on_done)
  f:add_done_callback(print)
  assert(f:remove_done_callback(print) == 1 and f:get_loop() == loop)
  f:set_result(1, nil, 3)
  local a, b, c = async.await(f)
  assert(a == 1 and b == nil and c == 3 and select("#", f:result()) == 3)
  async.sleep(0)
  assert(seen == 1)

  local late = async.Future()
  loop:call_later(0.1, late.set_exception, late, "no luck")
  ok, e = pcall(async.await, late)
  assert(not ok and e == "no luck" and not pcall(late.result, late))
  assert(async.Future():cancel("gone") and tostring(async.Future()))
end)

runner:run(function()
  async.create_task(error, "never retrieved")
  async.Future():set_exception(async.RuntimeError("never looked at"))
  async.sleep(0)
  collectgarbage()
  async.sleep(0)
  -- An awaitable of somebody else's; a chain of tasks in which an error passes; a yield of the stock table.
  local other = setmetatable({}, { __await = function() async.sleep(0.1) return "other" end })
  assert(async.await(other) == "other" and async.await(function() return 5 end) == 5)
  local chain = async.create_task(error, "deep")
  for _ = 1, 3 do chain = async.create_task(async.await, chain) end
  assert(not pcall(async.await, chain))
  coroutine.yield()
  async.create_task(function() local _ <close> = async.defer(function() async.sleep(0.1) end) async.sleep(9) end)
  async.sleep(0)
end)
runner:close()

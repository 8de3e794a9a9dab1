-- The loop's own face: callbacks, handles, clocks, the exception handler, debug, a seeded order.
local async = require "lunation"

local told = {}
local loop = async.new_event_loop {
  clock = "virtual", seed = 3, debug = sweep.debug, shutdown_grace = 0.1,
  exception_handler = function(_, context) told[#told + 1] = context.message end,
}
assert(not loop:is_running() and not loop:is_closed() and tostring(loop))
local debug = loop:get_debug()
loop:set_debug(not debug)
loop:set_debug(debug)
loop.slow_callback_duration = loop.slow_callback_duration * 1000

local task = loop:create_task(function()
  local handle = loop:call_later(1, print)
  assert(handle:when() == loop:time() + 1 and tostring(handle))
  handle:cancel()
  assert(handle:cancelled())
  loop:call_at(loop:time() + 1, error, "in a callback")
  async.sleep(2)
  loop:call_soon(loop.stop, loop)
  async.sleep(1)
end)
loop:run_forever()
loop:run_until_complete(task)
assert(#told == 1)

loop:run_until_complete(function()
  local handler = loop:get_exception_handler()
  loop:call_exception_handler { message = "m", exception = "e" }
  async.sleep(0)
  assert(#told == 2)
  loop:set_exception_handler(function() error("in the handler") end)
  loop:call_exception_handler { message = "m" }
  async.sleep(0)
  loop:set_exception_handler(handler)
  loop:default_exception_handler { message = "m", exception = async.ValueError("e"), future = async.Future() }
  local stats = loop:stats()
  assert(stats.tasks == 1)
  async.create_task(function() for _ = 1, 100 do pcall(async.sleep, 100) end end)
  async.create_task(function() local _ <close> = async.defer(function() error("in a closer") end) async.sleep(100) end)
  async.create_task(function() pcall(async.sleep, 100) return "swallowed" end):cancel()
  loop:create_task(function() async.sleep(3) error("late") end)
  async.sleep(0)
end)
loop:close()
assert(loop:is_closed())

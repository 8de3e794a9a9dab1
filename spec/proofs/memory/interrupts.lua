-- KeyboardInterrupt out of tasks, callbacks and handlers; Ctrl-C twice; loops beside the one that runs.
local async = require "lunation"

local function interrupted(f)
  local runner <close> = async.Runner { debug = sweep.debug, shutdown_grace = 0.01 }
  local ok, e = pcall(runner.run, runner, f)
  assert(not ok)
  if not async.isinstance(e, async.KeyboardInterrupt) then error(e, 0) end
end

interrupted(function()
  async.create_task(function() local _ <close> = async.defer(function() async.sleep(0) end) async.sleep(10) end)
  async.create_task(error, async.KeyboardInterrupt("in a task"))
  async.sleep(sweep.patience)
end)
interrupted(function()
  async.get_running_loop():call_soon(error, async.KeyboardInterrupt("in a callback"))
  async.sleep(sweep.patience)
end)
interrupted(function()
  local loop = async.get_running_loop()
  loop:set_exception_handler(function() error(async.KeyboardInterrupt("in a handler")) end)
  loop:call_exception_handler { message = "m" }
  async.sleep(sweep.patience)
end)
interrupted(function()
  async.create_task(function() for _ = 1, 100 do pcall(async.sleep, 1) end end)
  async.sleep(0)
  sweep.raise(2)
  pcall(async.sleep, sweep.patience)
  sweep.raise(2)
  for _ = 1, 100 do math.abs(1) end
  async.sleep(sweep.patience)
end)

local other = async.new_event_loop { clock = "virtual", debug = sweep.debug }
local task = other:create_task(function() local _ <close> = async.defer(print) async.sleep(1) end)
other:call_later(1, print)
other:run_until_complete(function() async.sleep(0) end)
async.run(function()
  assert(not pcall(other.run_until_complete, other, task) and not pcall(async.await, task))
  other:close()
  async.sleep(0)
end)
assert(task:done())

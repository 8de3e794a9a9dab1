-- Signal handlers, watched descriptors, Ctrl-C, os.exit in a loop.
local async = require "lunation"

local runner <close> = async.Runner { debug = sweep.debug }

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local loop, seen = async.get_running_loop(), async.Event()
  loop:add_signal_handler("SIGUSR1", function(a) assert(a == 1) seen:set() end, 1)
  loop:add_signal_handler("SIGUSR2", print)
  assert(loop:remove_signal_handler("SIGUSR2"))
  sweep.raise(10)
  seen:wait()
  local reported = loop:create_future()
  loop:set_exception_handler(function(_, context) reported:set_result(tostring(context.handle)) end)
  loop:add_signal_handler("USR1", error, "in a callback")
  sweep.raise(10)
  assert(async.await(reported))
  local readable, writable = loop:create_future(), loop:create_future()
  loop:add_reader(sweep.reader, function()
    loop:remove_reader(sweep.reader)
    readable:set_result(true)
  end)
  loop:add_writer(sweep.writer, function()
    loop:remove_writer(sweep.writer)
    writable:set_result(true)
  end)
  async.gather { readable, writable }
  loop:add_reader(sweep.reader, print)
end)

local ok, e = pcall(async.run, function()
  async.create_task(function() local _ <close> = async.defer(function() async.sleep(0) end) async.sleep(10) end)
  sweep.raise(2)
  async.sleep(sweep.patience)
end)
assert(not ok)
if not async.isinstance(e, async.KeyboardInterrupt) then error(e, 0) end

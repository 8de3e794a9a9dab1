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

local signal = require "lunation.signal"

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local one, two = async.create_task(signal.wait, "SIGUSR1", "SIGRTMIN+1"), async.create_task(signal.wait, "USR1")
  local listener <close> = signal.listen("USR1", "USR2")
  async.sleep(0)
  assert(tostring(listener) == "<Listener open SIGUSR1 SIGUSR2>")
  signal.raise("USR1")
  assert(async.await(one) == "SIGUSR1" and async.await(two) == "SIGUSR1")
  assert(not pcall(signal.wait, "USR1", "KILL"))
  assert(not pcall(signal.kill, 2147483647, "TERM"))
  assert(listener:next() == "SIGUSR1")
  signal.raise("USR2")
  for name in listener:iter() do
    assert(name == "SIGUSR2")
    listener:close()
  end
  assert(not pcall(listener.next, listener))
end)

runner:run(function()
  local dropped = async.create_task(signal.wait, "USR1")
  async.sleep(0)
  dropped:cancel()
  async.wait { dropped }
  signal.listen("USR2")
end)

local terminated <close> = async.Runner { signals = { "TERM", "SIGHUP" }, debug = sweep.debug, shutdown_grace = 0.01 }
local over, why = pcall(terminated.run, terminated, function()
  async.create_task(function() pcall(async.sleep, sweep.patience) end)
  async.sleep(0)
  signal.raise("TERM")
  async.sleep(sweep.patience)
end)
assert(not over)
if not async.isinstance(why, async.KeyboardInterrupt) then error(why, 0) end
assert(why.signal == "SIGTERM")

local ok, e = pcall(async.run, function()
  async.create_task(function() local _ <close> = async.defer(function() async.sleep(0) end) async.sleep(10) end)
  sweep.raise(2)
  async.sleep(sweep.patience)
end)
assert(not ok)
if not async.isinstance(e, async.KeyboardInterrupt) then error(e, 0) end

-- os.exit of the command in a task: all tasks unwind, the loop closes; the host asks what is due.
local async = require "lunation"

local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }
local ok, e = pcall(runner.run, runner, function()
  async.create_task(function() local _ <close> = async.defer(function() async.sleep(0) end) async.sleep(10) end)
  async.sleep(0)
  local _ <close> = async.defer(function() end)
  sweep.exit(3, true)
end)
assert(not ok)
if not tostring(e):find("Event loop stopped", 1, true) then error(e, 0) end

-- Signals: a handler is a callback of the loop, so it may do anything that a callback may.
local async = require "lunation"

local loop = async.get_running_loop()

-- The shell's parent is this process.
local function send(name) os.execute("kill -s " .. name .. " $PPID") end

-- Reload on SIGUSR1: arguments are passed on, every signal is seen.
local reloads = async.Queue()
loop:add_signal_handler("SIGUSR1", function(what) reloads:put_nowait(what) end, "configuration")
for round = 1, 2 do
  send("USR1")
  print(round, "reload the " .. reloads:get())
end

-- A second handler takes the place of the first one; removal tells whether there was one.
local stop = async.Event()
loop:add_signal_handler("SIGUSR1", function() print("not called") end)
loop:add_signal_handler("SIGUSR1", function() stop:set() end)
send("USR1")
stop:wait()
print("replaced")
print("removed", loop:remove_signal_handler("SIGUSR1"), loop:remove_signal_handler("SIGUSR1"))

-- A server's end: SIGTERM cancels the work, the work cleans up.
local work = async.create_task(function()
  local _ <close> = async.defer(function() print("files are closed") end)
  async.sleep(60)
end)
loop:add_signal_handler("SIGTERM", function() work:cancel() end)
async.sleep(0)
send("TERM")
async.wait { work }
print("ended by SIGTERM", work:cancelled())
loop:remove_signal_handler("SIGTERM")

-- The loop: callbacks that run soon, later, or at a given time, and the order among them.
local async = require "lunation"

local loop = async.get_running_loop()
local start = loop:time()
local over = loop:create_future()

loop:call_later(0.06, print, "later", "after 0.06 s")
loop:call_at(start + 0.03, print, "at", "the time start + 0.03 s")
loop:call_later(0.09, function() over:set_result("the end") end)

-- Callbacks take arguments, run in the order of scheduling, never inside the caller.
loop:call_soon(print, "soon", "first")
loop:call_soon(function()
  print("soon", "second")
  loop:call_soon(print, "soon", "fourth: scheduled by the second, so a turn later")
end)
loop:call_soon(print, "soon", "third")

-- A handle takes a callback back.
local handle = loop:call_later(0.03, print, "not printed")
handle:cancel()
print("cancelled", handle:cancelled())

-- A callback cannot wait: it starts a task that can.
loop:call_soon(function()
  print("in a callback", async.current_task())
  loop:create_task(function()
    async.sleep(0.01)
    print("task", "started by a callback")
  end)
end)

print("main", "nothing ran yet")
print("main", async.await(over))
print("never early", loop:time() - start >= 0.09)

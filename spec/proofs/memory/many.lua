-- What grows with the number of tasks, sleepers, values, waiters and messages.
local async = require "lunation"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

runner:run(function()
  local tasks = {}
  for i = 1, 70 do tasks[i] = async.create_task(async.sleep, 1 + i / 100, i) end
  async.sleep(0)
  for i = 1, 70, 7 do tasks[i]:cancel("message " .. i) end
  local r = async.gather(tasks, { return_exceptions = true })
  assert(r[2] == 2 and r[1].message == "message 1")

  local values = table.pack(async.await(async.create_task(function() return table.unpack({}, 1, 300) end)))
  assert(values.n == 300)
  local args = async.create_task(select, "#", table.unpack({}, 1, 300))
  assert(async.await(args) == 300)

  local event, lock = async.Event(), async.Lock()
  for i = 1, 20 do tasks[i] = async.create_task(function() event:wait() local _ <close> = lock:guard() async.sleep(0) end) end
  async.sleep(0)
  event:set()
  async.wait(tasks)
  local loop, called = async.get_running_loop(), 0
  for i = 1, 40 do loop:call_soon(function(...) called = called + select("#", ...) end, i, nil) end
  async.sleep(0)
  assert(called == 80)
  for i = 1, 12 do async.create_task(error, "lost " .. i) end
  async.sleep(0)
end)

-- The seams of tests: clocks, orders, numbered suspensions, what is alive and where it was made.
local async = require "lunation"
local probe = require "lunation.probe"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

runner:run(function()
  assert(probe.clock() == "virtual" and probe.order(7) == false and probe.order(false) == 7)
  probe.sites(true)
  local task = async.create_task(async.sleep, 5)
  local handle = async.get_running_loop():call_later(9, print)
  async.sleep(0)
  assert(probe.deadline() and probe.site(task) and probe.site(handle) and #probe.live() >= 3)
  probe.clock("held")
  probe.set_time(async.get_running_loop():time() + 6)
  async.await(task)
  probe.clock("virtual")
  handle:cancel()

  for _, mode in ipairs { "cancel", "throw" } do
    probe.start { at = 2, mode = mode, error = "thrown" }
    task = async.create_task(function() async.sleep(0.1) async.sleep(0.1) end)
    async.wait { task }
    local found = probe.stop()
    assert(found.delivered and found.where and not found.swallowed and not pcall(async.await, task))
  end

  async.create_task(async.sleep, 0)
  probe.blocked()
  probe.watchdog(10, print)
  probe.watchdog()
  local lock, event = async.Lock(), async.Event()
  lock:acquire()
  lock:release()
  assert(probe.events().acquired > 0)
  probe.on_dry(function() event:set() end)
  event:wait()
  probe.on_dry()
  task = async.create_task(async.sleep, 5)
  async.sleep(0)
  probe.destroy(task)
  assert(task:cancelled())
  assert(probe.roomy(function(a) async.sleep(0) return a end, 5) == 5 and probe.noticed().interrupts == 0)
  probe.collect()
  local a, b = require "lunation.memory".pair()
  for _, row in ipairs(probe.live()) do
    if row.kind == "handle" and row.id then probe.close(row.id) end
  end
  assert(not pcall(a.write, a, "x") and not pcall(b.read, b))
end)

-- Locks, events, conditions, semaphores, barriers; waiters that are cancelled.
local async = require "lunation"
local runner = async.Runner { clock = "virtual", debug = sweep.debug }

runner:run(function()
  local lock, event, semaphore = async.Lock(), async.Event(), async.Semaphore(1)
  local barrier = async.Barrier(2)
  local function meet() return barrier:wait() end
  async.gather {
    function()
      local _ <close> = lock:guard()
      async.sleep(0)
      event:set()
    end,
    function()
      lock:acquire()
      async.sleep(0)
      assert(lock:locked())
      lock:release()
    end,
    function() event:wait() meet() end,
    meet,
    function() semaphore:acquire() async.sleep(0) semaphore:release() end,
    function() local _ <close> = semaphore:guard() end,
  }
  assert(event:is_set())
  event:clear()
  assert(barrier.parties == 2 and barrier.n_waiting == 0 and not barrier.broken)
  local stuck = async.create_task(meet)
  async.sleep(0)
  barrier:abort()
  async.wait { stuck }
  barrier:reset()
  assert(not pcall(async.BoundedSemaphore(1).release, async.BoundedSemaphore(1)))
end)

runner:run(function()
  local lock = async.Lock()
  local condition, ready = async.Condition(lock), false
  local function wait()
    local _ <close> = condition:guard()
    condition:wait_for(function() return ready end)
  end
  local tasks = { async.create_task(wait), async.create_task(wait) }
  local other = async.create_task(function()
    condition:acquire()
    condition:wait()
    assert(condition:locked())
    condition:release()
  end)
  async.sleep(0)
  tasks[1]:cancel()
  async.wait { tasks[1] }
  do
    local _ <close> = condition:guard()
    ready = true
    condition:notify()
    condition:notify_all()
  end
  async.await(tasks[2])
  async.await(other)

  local holder = async.create_task(function() lock:acquire() async.sleep(9) end)
  async.sleep(0)
  local waiter = async.create_task(lock.acquire, lock)
  async.sleep(0)
  waiter:cancel("never mind")
  async.wait { waiter }
  holder:cancel()
  async.wait { holder }
  lock:release()
end)
runner:close()

-- Queues of the three kinds: producers and consumers, full and empty, grown, shut down.
local async = require "lunation"
local runner = async.Runner { clock = "virtual", debug = sweep.debug }

runner:run(function()
  local queue, got = async.Queue(1), 0
  async.gather {
    function()
      for i = 1, 5 do queue:put(i) end
      queue:join()
      queue:shutdown()
    end,
    function()
      for item in queue:iter() do
        got = got + item
        queue:task_done()
      end
    end,
  }
  assert(got == 15 and queue:empty() and not queue:full() and queue:qsize() == 0)
  assert(not pcall(queue.put, queue, 1) and not pcall(queue.get, queue))
  assert(not pcall(async.Queue().get_nowait, async.Queue()))
  local full = async.Queue(1)
  full:put_nowait(1)
  assert(not pcall(full.put_nowait, full, 2))
  local putter = async.create_task(full.put, full, 2)
  async.sleep(0)
  putter:cancel()
  async.wait { putter }
  full:shutdown(true)
  assert(not pcall(async.wait_for, function() async.Queue():get() end, 0.1))
end)

runner:run(function()
  local least = async.PriorityQueue()
  local heap = async.PriorityQueue(0, function(a, b) return a.key < b.key end)
  local stack = async.LifoQueue()
  for i = 20, 1, -1 do
    least:put(i)
    heap:put { key = i }
    stack:put_nowait(i)
  end
  for i = 1, 20 do
    assert(least:get() == i and heap:get().key == i and stack:get_nowait() == i)
  end
  assert(not pcall(heap.put, heap, 1) or not pcall(heap.put, heap, 2))
end)
runner:close()

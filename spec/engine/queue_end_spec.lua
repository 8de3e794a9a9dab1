-- The end of a queue's work: join, shutdown and iter; and LifoQueue.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, started, thrown, drain = support.turns, support.started, support.thrown, support.drain

local function putter(queue, item)
  return started(queue.put, queue, item)
end

describe("Queue's join", function()
  it("waits until every item was reported", function()
    local queue = async.Queue()
    queue:join()
    for i = 1, 3 do queue:put(i) end
    local a, b = started(queue.join, queue), started(queue.join, queue)
    for _ = 1, 3 do
      queue:get()
      turns()
      assert.is_false(a:done())
      queue:task_done()
    end
    async.gather { a, b }
    thrown(async.ValueError, queue.task_done, queue)
  end)

  it("has been reached even if more is put before it runs, and can be cancelled", function()
    local queue = async.Queue()
    queue:put(1)
    local a, b = started(queue.join, queue), started(queue.join, queue)
    b:cancel()
    async.wait { b }
    assert.is_true(b:cancelled())
    queue:task_done()
    queue:put(2)
    a:cancel() -- value first
    async.await(a)
    assert.is_false(a:cancelled())
  end)
end)

describe("Queue's shutdown", function()
  it("fails puts, lets gets drain it, then fails them", function()
    local queue = async.Queue()
    queue:put(1)
    queue:put(2)
    queue:shutdown()
    thrown(async.QueueShutDown, queue.put, queue, 3)
    thrown(async.QueueShutDown, queue.put_nowait, queue, 3)
    assert.equal(1, queue:get())
    assert.equal(2, queue:get_nowait())
    thrown(async.QueueShutDown, queue.get, queue)
    thrown(async.QueueShutDown, queue.get_nowait, queue)
    queue:shutdown()
    assert.is_false(queue:full())
  end)

  it("wakes those that wait", function()
    local queue = async.Queue(1)
    local a, b = started(queue.get, queue), started(queue.get, queue)
    queue:shutdown()
    thrown(async.QueueShutDown, async.await, a)
    thrown(async.QueueShutDown, async.await, b)
    queue = async.Queue(1)
    queue:put(1)
    local c = putter(queue, 2)
    queue:shutdown()
    thrown(async.QueueShutDown, async.await, c)
    assert.equal(1, queue:get())
  end)

  it("gives a woken getter its item, or tells the others", function()
    local queue = async.Queue()
    local a, b = started(queue.get, queue), started(queue.get, queue)
    queue:put_nowait(1)
    queue:shutdown()
    local done = async.wait { a, b }
    local ok = { [pcall(done[1].result, done[1])] = true, [pcall(done[2].result, done[2])] = true }
    assert.same({ [true] = true, [false] = true }, ok)
    queue = async.Queue()
    a, b = started(queue.get, queue), started(queue.get, queue)
    queue:put_nowait(1)
    a:cancel()
    queue:shutdown()
    assert.equal(1, async.await(b))
    async.wait { a }
    assert.is_true(a:cancelled())
    queue = async.Queue()
    a = started(queue.get, queue)
    queue:put_nowait(1)
    queue:shutdown()
    assert.equal(1, queue:get()) -- a newcomer may be quicker now
    thrown(async.QueueShutDown, async.await, a)
  end)

  it("immediate drops the items and counts them as done", function()
    local queue = async.Queue()
    for i = 1, 3 do queue:put(i) end
    local a = started(queue.join, queue)
    queue:shutdown(true)
    async.await(a)
    assert.equal(0, queue:qsize())
    thrown(async.QueueShutDown, queue.get, queue)
    thrown(async.ValueError, queue.task_done, queue)

    queue = async.Queue()
    queue:put(1)
    queue:put(2)
    queue:get()
    a = started(queue.join, queue)
    queue:shutdown(true)
    turns()
    assert.is_false(a:done()) -- one is still being worked on
    queue:task_done()
    async.await(a)
  end)

  it("immediate throws out a putter that was woken", function()
    local queue = async.Queue(1)
    queue:put(1)
    local a = putter(queue, 2)
    queue:get_nowait()
    queue:shutdown(true)
    thrown(async.QueueShutDown, async.await, a)
    assert.is_true(queue:empty())
  end)
end)

describe("Queue's iter", function()
  it("gives item after item until the queue is shut down and empty", function()
    local queue, got = async.Queue(2), {}
    local producer = async.create_task(function()
      for i = 1, 5 do queue:put(i) end
      queue:put(false)
      queue:shutdown()
    end)
    for item in queue:iter() do
      got[#got + 1] = item
      async.sleep(0)
    end
    assert.same({ 1, 2, 3, 4, 5, false }, got)
    async.await(producer)
    for _ in queue:iter() do error("it is at its end") end
  end)

  it("ends a loop that waits", function()
    local queue = async.Queue()
    local task = started(function()
      for _ in queue:iter() do error("there is none") end
      return "ended"
    end)
    queue:shutdown()
    assert.equal("ended", async.await(task))
  end)

  it("lets a cancel through and loses no item", function()
    local queue = async.Queue()
    local task = started(function() for _ in queue:iter() do async.sleep(0) end end)
    queue:put_nowait(1)
    task:cancel()
    thrown(async.CancelledError, async.await, task)
    assert.equal(1, queue:get())
  end)

  it("returns no closing value, and its function can be called by hand", function()
    local queue = async.Queue()
    assert.equal(1, select("#", queue:iter()))
    local next = queue:iter()
    queue:put(7)
    assert.equal(7, next())
  end)

  it("says so when a nil comes along", function()
    local queue = async.Queue()
    queue:put(nil)
    queue:put(2)
    assert.matches("nil", thrown(async.ValueError, function() for _ in queue:iter() do error("no") end end).message)
    assert.equal(2, queue:get())
  end)

  it("may be left early and gone through by several tasks", function()
    local queue, sum = async.Queue(), 0
    for i = 1, 10 do queue:put(i) end
    for item in queue:iter() do
      if item == 1 then break end
    end
    queue:shutdown()
    local function eat() for item in queue:iter() do sum = sum + item async.sleep(0) end end
    async.gather { eat, eat, eat }
    assert.equal(54, sum)
  end)
end)

describe("LifoQueue", function()
  it("gives the newest item first", function()
    local queue = async.LifoQueue(3)
    for i = 1, 3 do queue:put(i) end
    assert.is_true(queue:full())
    assert.equal(3, queue:get())
    queue:put(nil)
    assert.is_nil(queue:get())
    assert.same({ 2, 1 }, drain(queue))
    for i = 1, 3 do queue:put(i) end
    local waiting = putter(queue, "w")
    assert.equal(3, queue:get())
    async.await(waiting)
    assert.same({ "w", 2, 1 }, drain(queue))
  end)

  it("of many items", function()
    local queue = async.LifoQueue()
    for i = 1, 5000 do queue:put_nowait(i) end
    for i = 5000, 1, -1 do assert(queue:get_nowait() == i) end
    assert.is_true(queue:empty())
  end)
end)

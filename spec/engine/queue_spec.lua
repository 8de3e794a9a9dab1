-- Queue: order, room, waiting on both sides, stolen items, and what a cancel does. See queue_end_spec.lua, too.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, started, thrown, drain, each_order, in_callback =
  support.turns, support.started, support.thrown, support.drain, support.each_order, support.in_callback

local function getter(queue, log, name)
  return started(function()
    local item = queue:get()
    log[#log + 1] = name .. "=" .. tostring(item)
  end)
end

local function putter(queue, item)
  return started(queue.put, queue, item)
end

describe("Queue", function()
  it("gives items in the order in which they were put", function()
    local queue = async.Queue()
    for i = 1, 20 do
      assert.equal(0, select("#", queue:put(i)))
      assert.equal(i, queue:qsize())
    end
    for i = 1, 20 do assert.equal(i, queue:get()) end
    assert.is_true(queue:empty())
    assert.is_false(queue:full())
  end)

  it("holds any value, nil and false included", function()
    local queue, t = async.Queue(), {}
    local items = table.pack(nil, false, 0, "", t, print, nil)
    for i = 1, items.n do queue:put(items[i]) end
    assert.equal(7, queue:qsize())
    for i = 1, items.n do
      assert.is_false(queue:empty())
      assert.equal(items[i], queue:get())
    end
    queue:put()
    assert.equal(1, queue:qsize())
    assert.equal(1, select("#", queue:get_nowait()))
  end)

  it("keeps order while it grows and wraps around", function()
    local queue, put, got = async.Queue(), 0, 0
    for round = 1, 200 do
      for _ = 1, round % 37 + 5 do
        put = put + 1
        queue:put_nowait(put)
      end
      for _ = 1, round % 31 + 4 do
        got = got + 1
        assert(queue:get_nowait() == got)
      end
    end
    assert.equal(put - got, queue:qsize())
    while got < put do
      got = got + 1
      assert(queue:get() == got)
    end
  end)

  it("lets go of what was taken, and of the room of many items", function()
    local queue, seen = async.Queue(), setmetatable({}, { __mode = "k" })
    for _ = 1, 3 do
      local item = {}
      seen[item] = true
      queue:put_nowait(item)
    end
    for _ = 1, 2 do queue:get_nowait() end
    collectgarbage()
    collectgarbage()
    local left = 0
    for _ in pairs(seen) do left = left + 1 end
    assert.equal(1, left)
    queue:get_nowait()
    local before = collectgarbage "count"
    for i = 1, 100000 do queue:put_nowait(i) end
    for i = 1, 100000 do assert(queue:get_nowait() == i) end
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 500)
  end)

  it("without a maximum is never full", function()
    for _, most in ipairs { 0, -1, math.mininteger } do
      local queue = async.Queue(most)
      for i = 1, 100 do queue:put_nowait(i) end
      assert.is_false(queue:full())
    end
    assert.is_false(async.Queue(math.maxinteger):full())
    async.Queue(nil):put_nowait(1)
  end)

  it("makes putters wait while it is full, in order", function()
    local queue = async.Queue(2)
    queue:put("a")
    queue:put("b")
    assert.is_true(queue:full())
    local c, d = putter(queue, "c"), putter(queue, "d")
    thrown(async.QueueFull, queue.put_nowait, queue, "x")
    assert.is_false(c:done() or d:done())
    assert.equal("a", queue:get())
    turns()
    assert.is_true(c:done())
    assert.is_false(d:done())
    assert.same({ "b", "c" }, { queue:get(), queue:get() })
    async.gather { c, d }
    assert.equal("d", queue:get())
  end)

  it("serves waiting getters in order", function()
    local queue, log = async.Queue(), {}
    local tasks = { getter(queue, log, "a"), getter(queue, log, "b"), getter(queue, log, "c") }
    for i = 1, 3 do
      queue:put(i)
      turns()
    end
    async.gather(tasks)
    assert.same({ "a=1", "b=2", "c=3" }, log)
  end)

  it("a newcomer's get or put does not overtake one that was woken", function()
    local queue, log = async.Queue(1), {}
    local a = getter(queue, log, "a")
    queue:put_nowait(1)
    local b = async.create_task(function()
      local item = queue:get()
      log[#log + 1] = "b=" .. item
    end)
    local main = started(function()
      queue:put(2)
      queue:put(3)
    end)
    async.gather { a, b, main }
    assert.same({ "a=1", "b=2" }, log)
    assert.equal(3, queue:get())

    queue:put(1)
    local waiting = putter(queue, "first")
    queue:get()
    local second = async.create_task(queue.put, queue, "second")
    turns()
    assert.is_false(second:done())
    assert.equal("first", queue:get())
    assert.equal("second", queue:get())
    async.gather { waiting, second }
  end)

  it("an item stolen by get_nowait leaves the woken getter at the front", function()
    local queue, log = async.Queue(), {}
    local a, b, c = getter(queue, log, "a"), getter(queue, log, "b"), getter(queue, log, "c")
    queue:put_nowait(1)
    queue:put_nowait(2)
    assert.equal(1, queue:get_nowait())
    assert.equal(2, queue:get_nowait())
    turns()
    assert.same({}, log)
    for i = 3, 5 do
      queue:put_nowait(i)
      turns()
    end
    async.gather { a, b, c }
    assert.equal("c=5", log[3]) -- a and b ran, in vain, in an order that a seed may change
    assert.equal(3, #log)
  end)

  it("a getter robbed again and again waits on, alone", function()
    local queue = async.Queue()
    local getter = async.create_task(function() return queue:get() end)
    for i = 1, 5 do
      async.sleep(0)
      queue:put_nowait(i)
      assert.equal(i, queue:get_nowait())
    end
    async.sleep(0)
    assert.is_false(getter:done())
    queue:put_nowait("last")
    assert.equal("last", async.await(getter))
  end)

  it("getters that are robbed keep their places, also those that were robbed before", function()
    require("spec.helper").plain [[
      async.run(function()
        local queue, log = async.Queue(), {}
        local function getter(name)
          async.create_task(function()
            local item = queue:get()
            log[#log + 1] = name .. "=" .. item
          end)
          turns(1)
        end
        local function rob(n)
          for _ = 1, n do queue:put_nowait("stolen") end
          for _ = 1, n do queue:get_nowait() end
          turns(3)
        end
        local function serve(expected)
          for i = 1, select(2, expected:gsub("=", "")) do queue:put_nowait(i) end
          turns(3)
          eq(expected, table.concat(log, " "))
          log = {}
        end
        for name in ("abcd"):gmatch "." do getter(name) end
        rob(3)
        serve "a=1 b=2 c=3 d=4"
        -- e was robbed in another wait; that is over
        local last
        local e = async.create_task(function()
          queue:get()
          last = queue:get()
        end)
        turns(1)
        rob(1)
        getter "f"
        queue:put_nowait("for e")
        turns(2)
        getter "g"
        rob(1)
        serve "f=1"
        queue:put_nowait("second")
        async.await(e)
        eq("second", last)
        serve "g=1"
      end)
    ]]
  end)

  it("getters that left after they were robbed leave no trace: the next one robbed keeps its place", function()
    local queue = async.Queue()
    local robbed = {}
    for i = 1, 3 do robbed[i] = async.create_task(function() return queue:get() end) end
    turns()
    for _ = 1, 3 do queue:put_nowait("stolen") end
    for _ = 1, 3 do queue:get_nowait() end
    turns()
    for i = 1, 3 do robbed[i]:cancel() end
    async.wait(robbed)
    local log = {}
    local first = async.create_task(function() log[1] = queue:get() end)
    turns()
    local second = async.create_task(function() log[2] = queue:get() end)
    turns()
    queue:put_nowait("stolen")
    queue:get_nowait()
    turns()
    queue:put_nowait(1)
    queue:put_nowait(2)
    async.gather { first, second }
    assert.same({ 1, 2 }, log)
  end)

  it("a place stolen by put_nowait leaves the woken putter at the front", function()
    local queue = async.Queue(1)
    queue:put_nowait(0)
    local a, b = putter(queue, "a"), putter(queue, "b")
    assert.equal(0, queue:get_nowait())
    queue:put_nowait("stolen")
    turns()
    assert.same({ "stolen", "a", "b" }, { queue:get(), queue:get(), queue:get() })
    async.gather { a, b }
  end)

  it("loses no item to a getter that is cancelled, and keeps order", function()
    local queue, log = async.Queue(), {}
    local a, b = getter(queue, log, "a"), getter(queue, log, "b")
    queue:put_nowait(1)
    a:cancel()
    queue:put_nowait(2)
    async.wait { a, b }
    assert.is_true(a:cancelled())
    assert.same({ "b=1" }, log)
    assert.equal(2, queue:get())
    local c = getter(queue, log, "c")
    c:cancel()
    queue:put_nowait(3)
    async.wait { c }
    assert.equal(3, queue:get_nowait())
    c = getter(queue, log, "c")
    queue:put_nowait(4)
    c:cancel()
    assert.equal(1, queue:qsize())
    async.wait { c }
    assert.is_true(c:cancelled())
    assert.equal(4, queue:get())
  end)

  it("a putter that is cancelled puts nothing, and its turn goes on", function()
    local queue = async.Queue(1)
    queue:put(1)
    local a, b, c = putter(queue, "a"), putter(queue, "b"), putter(queue, "c")
    c:cancel()
    assert.equal(1, queue:get())
    a:cancel()
    async.wait { a, b, c }
    assert.is_true(a:cancelled() and c:cancelled())
    assert.same({ "b" }, drain(queue))
    a = putter(queue, "a")
    assert.same({ "a" }, drain(queue))
    async.await(a)
  end)

  it("loses no item and no turn in any order of put, get, steal and cancel", function()
    local things = { "put 1", "put 2", "cancel a", "cancel b", "steal", "newcomer" }
    each_order(things, function(order)
      local queue, got = async.Queue(), {}
      local function take()
        local item = queue:get()
        got[#got + 1] = item
      end
      local a, b = async.create_task(take), async.create_task(take)
      async.sleep(0)
      local newcomer
      for _, what in ipairs(order) do
        if what:find "put" then queue:put_nowait(tonumber(what:match "%d"))
        elseif what == "cancel a" then a:cancel()
        elseif what == "cancel b" then b:cancel()
        elseif what == "steal" then
          local ok, item = pcall(queue.get_nowait, queue)
          if ok then got[#got + 1] = item end
        else newcomer = async.create_task(take) end
      end
      turns(6)
      local name = table.concat(order, ", ")
      assert.is_true(a:cancelled() and b:cancelled() and newcomer:done(), name)
      for _, item in ipairs(drain(queue)) do got[#got + 1] = item end
      table.sort(got)
      assert.same({ 1, 2 }, got)
      async.await(newcomer)
    end)
  end)

  it("loses no room in any order of get, put and cancel", function()
    local things = { "get", "get again", "cancel a", "cancel b", "newcomer" }
    each_order(things, function(order)
      local queue, got = async.Queue(2), 0
      queue:put_nowait "x"
      queue:put_nowait "x"
      local a, b, c = async.create_task(queue.put, queue, "a"), async.create_task(queue.put, queue, "b"),
        async.create_task(queue.put, queue, "c")
      async.sleep(0)
      local newcomer
      for _, what in ipairs(order) do
        if what:find "get" then
          queue:get_nowait()
          got = got + 1
        elseif what == "cancel a" then a:cancel()
        elseif what == "cancel b" then b:cancel()
        else newcomer = async.create_task(queue.put, queue, "n") end
      end
      turns(6)
      assert.is_true(c:done() and newcomer:done(), table.concat(order, ", "))
      assert.equal(2, queue:qsize())
      async.wait { a, b }
      async.gather { c, newcomer }
      local left = drain(queue)
      table.sort(left)
      assert.same({ "c", "n" }, left)
    end)
  end)

  it("loses no item when timeouts race puts", function()
    local queue, got, tasks = async.Queue(), {}, {}
    for i = 1, 200 do
      tasks[i] = async.create_task(function()
        local ok, item = pcall(async.wait_for, function() return queue:get() end, i % 10 * 0.0003)
        if ok then got[#got + 1] = item end
      end)
    end
    for i = 1, 200 do
      queue:put(i)
      if i % 7 == 0 then async.sleep(0.0002) end
    end
    async.gather(tasks)
    for _, item in ipairs(drain(queue)) do got[#got + 1] = item end
    table.sort(got)
    assert.equal(200, #got)
    for i = 1, 200 do assert.equal(i, got[i]) end
  end)

  it("moves every item through a small queue, many putters to many getters", function()
    for _, most in ipairs { 1, 2, 5, 0 } do
      local queue, sum, tasks = async.Queue(most), 0, {}
      for p = 1, 5 do
        tasks[#tasks + 1] = function()
          for i = 1, 100 do
            queue:put(p * 1000 + i)
            if i % 9 == p then async.sleep(0) end
          end
        end
      end
      for g = 1, 4 do
        tasks[#tasks + 1] = function()
          for i = 1, 125 do
            local item = queue:get()
            sum = sum + item
            if i % 11 == g then async.sleep(0) end
          end
        end
      end
      async.gather(tasks)
      assert.equal(100 * (1 + 2 + 3 + 4 + 5) * 1000 + 5 * 5050, sum)
      assert.is_true(queue:empty())
    end
  end)

  it("gives way now and then to a task that never has to wait", function()
    local queue, other, busy = async.Queue(), 0, true
    local task = async.create_task(function()
      while busy do
        other = other + 1
        async.sleep(0)
      end
    end)
    for i = 1, 1000 do queue:put(i) end
    local after_puts = other
    for _ = 1, 1000 do queue:get() end
    local after_gets = other
    for _ = 1, 1000 do queue:task_done() end
    for _ = 1, 1000 do queue:join() end
    local after_joins = other
    busy = false
    async.await(task)
    assert.is_true(after_puts >= 3)
    assert.is_true(after_gets - after_puts >= 3)
    assert.is_true(after_joins - after_gets >= 3)
  end)

  it("loses no item if the turn given away brings a cancel", function()
    local queue, got = async.Queue(), 0
    for i = 1, 1000 do queue:put_nowait(i) end
    local task = async.create_task(function()
      while true do
        assert(queue:get() == got + 1)
        got = got + 1
      end
    end)
    turns(2)
    task:cancel()
    thrown(async.CancelledError, async.await, task)
    assert.is_true(got > 0 and got < 1000)
    assert.equal(got + 1, queue:get())
    local put = 0
    queue = async.Queue()
    task = async.create_task(function()
      while true do
        queue:put(put + 1)
        put = put + 1
      end
    end)
    turns(2)
    task:cancel()
    async.wait { task }
    assert.equal(put, queue:qsize())
  end)

  it("can be put to and taken from without waiting outside a task, but not waited for", function()
    local queue = async.Queue()
    assert.is_true((in_callback(function() queue:put_nowait(1) end)))
    assert.is_true((in_callback(function() assert(queue:get_nowait() == 1) end)))
    queue:put_nowait(2)
    for _, name in ipairs { "put", "get", "join" } do
      local ok, e = in_callback(function() queue[name](queue, 3) end)
      assert.is_false(ok)
      assert.is_true(async.isinstance(e, async.RuntimeError), name)
    end
    assert.is_false((in_callback(queue:iter())))
    assert.equal(1, queue:qsize())
  end)

  it("names the function and the argument of bad input", function()
    local queue = async.Queue()
    local names = { "put", "get", "put_nowait", "get_nowait", "iter", "join", "task_done", "shutdown", "qsize", "empty",
      "full" }
    for _, name in ipairs(names) do
      for _, bad in ipairs { 42, "text", false, {}, async.Lock(), io.stdout } do
        local e = thrown(async.TypeError, queue[name], bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
      thrown(async.TypeError, queue[name])
    end
    for _, bad in ipairs { 1, "yes", {} } do
      assert.matches("shutdown", thrown(async.TypeError, queue.shutdown, queue, bad).message)
    end
    for name, make in pairs { Queue = async.Queue, LifoQueue = async.LifoQueue, PriorityQueue = async.PriorityQueue } do
      for _, bad in ipairs { "1", 1.5, {}, false, math.huge } do
        local e = thrown(async.TypeError, make, bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
    end
  end)
end)

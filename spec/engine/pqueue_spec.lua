-- PriorityQueue: the order of a stable heap, and comparators that fail, await or meddle.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, started, thrown, drain = support.turns, support.started, support.thrown, support.drain

local function by_level(a, b) return a.level < b.level end

describe("PriorityQueue", function()
  it("gives the least item first", function()
    local queue = async.PriorityQueue()
    for _, v in ipairs { 5, 1, 4, 2.5, 3, 9, 0 } do queue:put(v) end
    assert.same({ 0, 1, 2.5, 3, 4, 5, 9 }, drain(queue))
    for _, v in ipairs { "b", "a", "c" } do queue:put(v) end
    assert.same({ "a", "b", "c" }, drain(queue))
  end)

  it("sorts like sort, for many", function()
    local queue, random, all = async.PriorityQueue(), 1, {}
    for i = 1, 3000 do
      random = (random * 1103515245 + 12345) % 2147483648
      all[i] = random // 65536 % 500
      queue:put_nowait(all[i])
    end
    table.sort(all)
    assert.same(all, drain(queue))
  end)

  it("keeps equal items in the order in which they were put, gets in between or not", function()
    local queue, random = async.PriorityQueue(0, by_level), 5
    local function draw(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return random // 65536 % n
    end
    local number, live = 0, {}
    for _ = 1, 4000 do
      if draw(5) < 3 then
        number = number + 1
        local item = { level = draw(4), number = number }
        live[#live + 1] = item
        queue:put_nowait(item)
      elseif not queue:empty() then
        local best = 1
        for i = 2, #live do
          if live[i].level < live[best].level then best = i end
        end
        assert(queue:get_nowait() == table.remove(live, best))
        if #live > 60 then live = {} while not queue:empty() do queue:get_nowait() end end
      end
    end
  end)

  it("takes an order of its own, objects with __lt, and callable values", function()
    local queue = async.PriorityQueue(nil, function(a, b) return a > b end)
    for i = 1, 5 do queue:put(i) end
    assert.same({ 5, 4, 3, 2, 1 }, drain(queue))
    local mt = { __lt = function(a, b) return a.v < b.v end }
    queue = async.PriorityQueue()
    for _, v in ipairs { 2, 3, 1 } do queue:put(setmetatable({ v = v }, mt)) end
    assert.equal(1, queue:get().v)
    queue = async.PriorityQueue(0, setmetatable({}, { __call = function(_, a, b) return a < b end }))
    for _, v in ipairs { 2, 3, 1 } do queue:put(v) end
    assert.same({ 1, 2, 3 }, drain(queue))
  end)

  it("holds nil and false if the order knows them", function()
    local queue = async.PriorityQueue(0, function(a, b) return tostring(a) < tostring(b) end)
    queue:put(nil)
    queue:put(false)
    queue:put("apple")
    assert.equal("apple", queue:get())
    assert.equal(false, queue:get())
    assert.equal(1, queue:qsize())
    assert.is_nil(queue:get())
  end)

  it("makes putters wait while it is full, and a woken getter takes what is best then", function()
    local queue = async.PriorityQueue(2)
    queue:put(5)
    queue:put(3)
    thrown(async.QueueFull, queue.put_nowait, queue, 1)
    local waiting = started(queue.put, queue, 1)
    assert.equal(3, queue:get())
    async.await(waiting)
    assert.same({ 1, 5 }, drain(queue))
    local getter = started(queue.get, queue)
    queue:put_nowait(7)
    queue:put_nowait(3)
    assert.equal(3, async.await(getter))
    assert.equal(7, queue:get())
  end)

  it("is as it was after an order that throws", function()
    local broken = false
    local queue = async.PriorityQueue(0, function(a, b)
      if broken then error("broken", 0) end
      return a < b
    end)
    for _, v in ipairs { 4, 2, 6, 1, 5, 3 } do queue:put(v) end
    broken = true
    assert.equal("broken", select(2, pcall(queue.put, queue, 0)))
    assert.equal("broken", select(2, pcall(queue.put_nowait, queue, 0)))
    assert.equal("broken", select(2, pcall(queue.get, queue)))
    assert.equal("broken", select(2, pcall(queue.get_nowait, queue)))
    assert.equal(6, queue:qsize())
    broken = false
    assert.same({ 1, 2, 3, 4, 5, 6 }, drain(queue))
    for _ = 1, 6 do queue:task_done() end
    thrown(async.ValueError, queue.task_done, queue)
  end)

  it("is as it was after items that cannot be compared", function()
    local queue = async.PriorityQueue()
    queue:put(1)
    assert.is_false(pcall(queue.put, queue, "text"))
    assert.is_false(pcall(queue.put, queue, {}))
    assert.is_false(pcall(queue.put, queue, nil))
    assert.equal(1, queue:get())
    assert.is_true(queue:empty())
  end)

  it("an order that throws takes nobody's turn along", function()
    -- a getter was woken and fails: the other one gets the item
    local fails = 0
    local queue = async.PriorityQueue(0, function(a, b)
      if fails > 0 then
        fails = fails - 1
        error("broken", 0)
      end
      return a < b
    end)
    local got, wrong = {}, {}
    local function get()
      local ok, item = pcall(queue.get, queue)
      local list = ok and got or wrong
      list[#list + 1] = item
    end
    local tasks = { started(get), started(get), started(get), started(get) }
    for i = 1, 3 do queue:put_nowait(i) end
    fails = 1
    turns(8)
    for _, task in ipairs(tasks) do assert.is_true(task:done()) end
    assert.same({ "broken" }, wrong)
    assert.same({ 1, 2, 3 }, got)
    assert.is_true(queue:empty())
    -- the same for putters
    queue = async.PriorityQueue(2, function(x, y)
      if fails > 0 then
        fails = fails - 1
        error("broken", 0)
      end
      return x < y
    end)
    queue:put(1)
    queue:put(2)
    local p, q = started(function() return pcall(queue.put, queue, 3) end), started(queue.put, queue, 4)
    fails = 1
    queue:get_nowait()
    assert.same({ false, "broken" }, { async.await(p) })
    turns(8)
    assert.is_true(q:done())
    assert.same({ 2, 4 }, drain(queue))
  end)

  it("refuses an order that awaits, and stays as it was", function()
    local queue = async.PriorityQueue(0, function(a, b)
      async.sleep(0)
      return a < b
    end)
    queue:put(1)
    thrown(async.RuntimeError, queue.put, queue, 2)
    assert.same({ 1 }, drain(queue))
  end)

  it("survives an order that changes the queue", function()
    local queue, meddle
    queue = async.PriorityQueue(0, function(a, b)
      if meddle then meddle() end
      return a < b
    end)
    for i = 1, 5 do queue:put(i) end
    meddle = function()
      meddle = nil
      queue:put_nowait(0)
      queue:get_nowait()
      queue:put_nowait(2.5)
    end
    queue:put(4.5)
    assert.same({ 1, 2, 2.5, 3, 4, 4.5, 5 }, drain(queue))
    for i = 1, 5 do queue:put(i) end
    meddle = function()
      meddle = nil
      while not queue:empty() do queue:get_nowait() end
    end
    thrown(async.QueueEmpty, queue.get_nowait, queue)
    for i = 1, 3 do queue:put(i) end
    local number = 10
    local inner = false
    meddle = function()
      if inner then return end
      inner = true
      number = number + 1
      queue:put_nowait(number)
      inner = false
    end
    thrown(async.RuntimeError, queue.put, queue, 5)
    meddle = nil
    local list = drain(queue)
    for i = 2, #list do assert.is_true(list[i - 1] < list[i]) end
    assert.equal(0, queue:qsize())
  end)

  it("survives an order that puts at any of the comparisons of a get", function()
    local meddled = 0
    for at = 1, 12 do
      local queue, left
      queue = async.PriorityQueue(0, function(a, b)
        left = left - 1
        if left == 0 then
          meddled = meddled + 1
          queue:put_nowait(100)
        end
        return a < b
      end)
      left = math.huge
      for _, v in ipairs { 5, 1, 4, 2, 3, 9, 8, 7, 6 } do queue:put(v) end
      left = at
      assert.equal(1, queue:get())
      local inside = queue:qsize() == 9
      left = math.huge
      assert.same({ 2, 3, 4, 5, 6, 7, 8, 9, inside and 100 or nil }, drain(queue))
    end
    assert.is_true(meddled > 2)
  end)

  it("shutdown inside the order", function()
    local queue, shut
    queue = async.PriorityQueue(0, function(a, b)
      if shut then
        shut = false
        queue:shutdown(true)
      end
      return a < b
    end)
    for i = 1, 5 do queue:put(i) end
    shut = true
    thrown(async.QueueShutDown, queue.get, queue)
    assert.is_true(queue:empty())
  end)

  it("refuses what cannot be called as order", function()
    for _, bad in ipairs { 1, "less", {}, true } do
      local e = thrown(async.TypeError, async.PriorityQueue, 0, bad)
      assert.matches("PriorityQueue", e.message)
      assert.matches("#2", e.message)
    end
  end)
end)

-- Cancellation: where a request goes, when it is thrown, what it never takes away.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns

-- A task in fn, suspended in it.
local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns(2)
  return task
end

describe("cancel", function()
  it("throws at the point where the task is suspended, at its next turn", function()
    local log = {}
    local task = started(function()
      local ok, e = pcall(async.sleep, 60)
      log[1] = ok
      log[2] = e.name
      log[3] = e.message
      error(e)
    end)
    assert.is_true(task:cancel("stop"))
    assert.same({}, log)
    assert.is_false(task:done())
    assert.equal(1, task:cancelling())
    async.wait { task }
    assert.same({ false, "CancelledError", "stop" }, log)
    assert.is_true(task:cancelled())
  end)

  it("is true until the task is done, then false", function()
    local task = started(async.sleep, 60)
    assert.is_true(task:cancel())
    assert.is_true(task:cancel())
    async.wait { task }
    assert.is_false(task:cancel())
    assert.equal(2, task:cancelling())
    task = async.create_task(function() return "r" end)
    async.await(task)
    assert.is_false(task:cancel())
    assert.equal(0, task:cancelling())
    assert.equal("r", task:result())
  end)

  it("reaches every kind of suspension", function()
    local f, lock, event, queue = async.Future(), async.Lock(), async.Event(), async.Queue()
    lock:acquire()
    for name, fn in pairs {
      sleep = function() async.sleep(60) end,
      for_ever = function() async.sleep(math.huge) end,
      future = function() async.await(f) end,
      task = function() async.await(async.create_task(async.sleep, 60)) end,
      in_place = function() async.await(function() async.sleep(60) end) end,
      awaitable = function() async.await(setmetatable({}, { __await = function() async.sleep(60) end })) end,
      yield = function() while true do async.coroutine.yield() end end,
      zero = function() while true do async.sleep(0) end end,
      yielded_future = function() async.coroutine.yield(async.Future()) end,
      gather = function() async.gather { async.Future(), function() async.sleep(60) end } end,
      wait = function() async.wait { async.Future() } end,
      wait_for = function() async.wait_for(async.Future(), 60) end,
      shield = function() async.await(async.shield(async.Future())) end,
      race = function() async.race { async.Future(), async.Future() } end,
      map = function() async.map({ 1, 2 }, function() async.sleep(60) end) end,
      group = function() local tg <close> = async.TaskGroup() tg:create_task(async.sleep, 60) end,
      timeout = function() local t <close> = async.timeout(60) async.sleep(60) end,
      lock = function() lock:acquire() end,
      event = function() event:wait() end,
      queue = function() queue:get() end,
      as_completed = function() for _ in async.as_completed { async.Future() } do end end,
      generator = function() async.coroutine.wrap(function() async.sleep(60) end)() end,
      pcall = function() assert(async.pcall(async.sleep, 60)) end,
      index = function() return setmetatable({}, { __index = function() async.sleep(60) end }).x end,
      close = function() local _ <close> = async.defer(function() async.sleep(60) end) end,
    } do
      local task = started(fn)
      assert.is_false(task:done(), name)
      assert.is_true(task:cancel("because"), name)
      local e = thrown(async.await, task)
      assert.equal("CancelledError", e.name, name)
      assert.equal("because", e.message, name)
      assert.is_true(task:cancelled(), name)
      f = f:done() and async.Future() or f
    end
    lock:release()
  end)

  it("of a task that has not started: it never starts, not even to clean up", function()
    local ran = false
    local task = async.create_task(function()
      local _ <close> = async.defer(function() ran = true end)
      ran = true
    end)
    local called
    task:add_done_callback(function(t) called = t:cancelled() end)
    assert.is_true(task:cancel("early"))
    assert.is_false(task:done())
    assert.equal(1, task:cancelling())
    assert.equal("early", thrown(async.await, task).message)
    turns(1)
    assert.is_false(ran)
    assert.is_true(called)
    assert.is_true(task:cancelled())
    assert.is_false(task:cancel())
  end)

  it("lets the arguments of such a task go", function()
    local weak = setmetatable({}, { __mode = "v" })
    local task
    do
      local big = {}
      weak[1] = big
      task = async.create_task(print, big)
    end
    task:cancel()
    async.wait { task }
    collectgarbage()
    assert.is_nil(weak[1])
    assert.is_true(task:cancelled())
  end)

  it("uncancelled before it starts, a task runs", function()
    local task = async.create_task(function() return "ran" end)
    task:cancel()
    assert.equal(0, task:uncancel())
    assert.equal("ran", async.await(task))
  end)

  it("several times before delivery is thrown once, with the last message", function()
    local caught = {}
    local task = started(function()
      for i = 1, 3 do
        local ok, e = pcall(async.sleep, 0.001)
        caught[i] = ok or e.message
      end
      return async.current_task():cancelling()
    end)
    for i = 1, 5 do task:cancel("request " .. i) end
    assert.equal(5, task:cancelling())
    assert.equal(5, async.await(task))
    assert.same({ "request 5", true, true }, caught)
  end)

  it("hands the message to every awaiter of the task, every time", function()
    local task = started(async.sleep, 60)
    local got, tasks = {}, {}
    for i = 1, 3 do tasks[i] = async.create_task(function() got[i] = thrown(async.await, task).message end) end
    turns(1)
    task:cancel("why")
    async.wait(tasks)
    assert.same({ "why", "why", "why" }, got)
    assert.equal("why", thrown(async.await, task).message)
    assert.equal("why", thrown(task.result, task).message)
    assert.equal("why", thrown(task.exception, task).message)
  end)

  it("takes any message; without one there is none", function()
    for _, message in ipairs { "text", 42, {}, print, false } do
      local task = started(async.sleep, 60)
      task:cancel(message)
      assert.is_true(rawequal(message, thrown(async.await, task).message))
    end
    local task = started(async.sleep, 60)
    task:cancel()
    assert.is_nil(thrown(async.await, task).message)
    -- a later request without a message takes the place of one that had one
    task = started(async.sleep, 60)
    task:cancel("first")
    task:cancel()
    assert.is_nil(thrown(async.await, task).message)
  end)

  it("runs closers and handlers on the way out, and they may await", function()
    local log = {}
    local task = started(function()
      local _ <close> = async.defer(function(e)
        async.sleep(0.001)
        log[#log + 1] = "outer " .. tostring(e)
      end)
      pcall(function()
        local _ <close> = async.defer(function()
          async.sleep(0)
          log[#log + 1] = "inner"
        end)
        async.sleep(60)
      end)
      log[#log + 1] = "handler"
      async.sleep(0.001)
      error(async.CancelledError("on"))
    end)
    task:cancel("now")
    async.wait { task }
    assert.same({ "inner", "handler", "outer CancelledError: on" }, log)
    assert.is_true(task:cancelled())
  end)

  it("by a task of itself is thrown at its next suspension", function()
    local task = async.create_task(function()
      local me = async.current_task()
      assert.is_true(me:cancel("myself"))
      local f = async.Future()
      f:set_result("there")
      assert.equal("there", async.await(f))
      local e = thrown(async.sleep, 0)
      async.sleep(0)
      return e.message, me:cancelling()
    end)
    local message, n = async.await(task)
    assert.equal("myself", message)
    assert.equal(1, n)
  end)

  it("by a task of itself reaches what it awaits then, with the message", function()
    local inner_message
    local task = async.create_task(function()
      async.current_task():cancel("handed on")
      local inner = async.create_task(function()
        local _, e = pcall(async.sleep, 60)
        inner_message = e.message
        error(e)
      end)
      turns(0)
      async.await(inner)
    end)
    local e = thrown(async.await, task)
    assert.equal("CancelledError", e.name)
    assert.equal("handed on", e.message)
    assert.truthy(inner_message == nil or inner_message == "handed on")
  end)
end)

describe("a cancelled task", function()
  it("that catches it and returns is finished, not cancelled", function()
    local task = started(function()
      pcall(async.sleep, 60)
      return "kept going"
    end)
    task:cancel()
    assert.equal("kept going", async.await(task))
    assert.is_false(task:cancelled())
    assert.equal(1, task:cancelling())
  end)

  it("goes on undisturbed: the request is an edge, not a level", function()
    local loop = async.get_running_loop()
    local task = started(function()
      pcall(async.sleep, 60)
      local from = loop:time()
      async.sleep(0.004)
      async.sleep(0)
      local f = async.Future()
      loop:call_soon(f.set_result, f, "awaited")
      return async.await(f), loop:time() - from
    end)
    task:cancel()
    local value, took = async.await(task)
    assert.equal("awaited", value)
    assert.is_true(took >= 0.004 - 1e-9)
  end)

  it("that throws another error has failed with that", function()
    local e = async.ValueError("worse")
    local task = started(function()
      pcall(async.sleep, 60)
      error(e)
    end)
    task:cancel()
    assert.equal(e, thrown(async.await, task))
    assert.is_false(task:cancelled())
    task = started(function()
      local _ <close> = async.defer(function() error(e) end)
      async.sleep(60)
    end)
    task:cancel()
    assert.equal(e, thrown(async.await, task))
  end)

  it("can be asked again while it cleans up", function()
    local log = {}
    local task = started(function()
      log[1] = thrown(async.sleep, 60).message
      log[2] = thrown(async.sleep, 60).message
      log[3] = async.current_task():cancelling()
      async.sleep(0)
      error(async.CancelledError(log[1]))
    end)
    task:cancel("one")
    turns(2)
    task:cancel("two")
    assert.equal("one", thrown(async.await, task).message)
    assert.same({ "one", "two", 2 }, log)
  end)

  it("awaited by another one: that one's count tells who was asked", function()
    local inner = started(async.sleep, 60)
    local outer = started(function()
      local e = thrown(async.await, inner)
      return e.name, async.current_task():cancelling()
    end)
    inner:cancel()
    local name, n = async.await(outer)
    assert.equal("CancelledError", name)
    assert.equal(0, n)
  end)
end)

describe("the request goes to what the task awaits", function()
  it("innermost first, and its end comes back", function()
    local log = {}
    local inner = async.create_task(function()
      local e = thrown(async.sleep, 60)
      log[#log + 1] = "inner " .. e.message
      async.sleep(0.002)
      log[#log + 1] = "inner cleaned up"
      error(e)
    end)
    local outer = started(function()
      local e = thrown(async.await, inner)
      log[#log + 1] = "outer " .. e.message
      error(e)
    end)
    turns(2)
    outer:cancel("msg")
    assert.equal(1, inner:cancelling())
    assert.equal(1, outer:cancelling())
    turns(3)
    assert.is_false(outer:done())
    async.wait { outer }
    assert.same({ "inner msg", "inner cleaned up", "outer msg" }, log)
    assert.is_true(inner:cancelled())
    assert.is_true(outer:cancelled())
  end)

  it("down a chain", function()
    local tasks = { async.create_task(async.sleep, 60) }
    for i = 2, 10 do tasks[i] = async.create_task(async.await, tasks[i - 1]) end
    turns(3)
    tasks[10]:cancel("down")
    assert.equal("down", thrown(async.await, tasks[10]).message)
    for i = 1, 10 do
      assert.is_true(tasks[i]:cancelled())
      assert.equal(1, tasks[i]:cancelling())
      assert.equal("down", thrown(tasks[i].result, tasks[i]).message)
    end
  end)

  it("a future is cancelled at once", function()
    local f = async.Future()
    local task = started(async.await, f)
    task:cancel("why")
    assert.is_true(f:cancelled())
    assert.is_false(task:done())
    assert.equal("why", thrown(async.await, task).message)
    assert.equal("why", thrown(f.result, f).message)
    refuses("InvalidStateError", {}, f.set_result, f, 1)
  end)

  it("what others wait for, too, is spared: this task alone withdraws", function()
    for _, make in ipairs {
      function() local f = async.Future() return f, function() f:set_result("value") end end,
      function()
        local gate = async.Future()
        return started(function() return async.await(gate) end), function() gate:set_result("value") end
      end,
    } do
      local awaited, finish = make()
      local a, b = started(async.await, awaited), started(async.await, awaited)
      a:cancel("withdraw")
      assert.equal("withdraw", thrown(async.await, a).message)
      assert.is_false(awaited:done())
      assert.is_false(b:done())
      if awaited.cancelling then assert.equal(0, awaited:cancelling()) end
      assert.equal(0, b:cancelling())
      finish()
      assert.equal("value", async.await(b))
    end
  end)

  it("the last one that waits takes it along", function()
    local f = async.Future()
    local a, b = started(async.await, f), started(async.await, f)
    a:cancel()
    async.wait { a }
    assert.is_false(f:cancelled())
    b:cancel()
    assert.is_true(f:cancelled())
    async.wait { b }
  end)

  it("combinators count as waiters, done callbacks do not", function()
    local f = async.Future()
    local gathering = started(function() return async.gather { f } end)
    local task = started(async.await, f)
    f:add_done_callback(function() end)
    task:cancel()
    async.wait { task }
    assert.is_false(f:done())
    f:set_result("kept")
    assert.equal("kept", async.await(gathering)[1])
    f = async.Future()
    f:add_done_callback(function() end)
    task = started(async.await, f)
    task:cancel()
    assert.is_true(f:cancelled())
    async.wait { task }
  end)

  it("if that swallows it and returns, the task gets the value", function()
    local inner = async.create_task(function()
      pcall(async.sleep, 60)
      return "swallowed inside"
    end)
    local outer = started(async.await, inner)
    turns(1)
    outer:cancel()
    assert.equal("swallowed inside", async.await(outer))
    assert.is_false(outer:cancelled())
    assert.equal(1, outer:cancelling())
    assert.equal(1, inner:cancelling())
  end)

  it("if that swallows it, a later await of the task is undisturbed", function()
    local inner = async.create_task(function() return pcall(async.sleep, 60) and 1 or 2 end)
    local outer = started(function()
      local n = async.await(inner)
      async.sleep(0.001)
      return n
    end)
    turns(1)
    outer:cancel("m")
    assert.equal(2, async.await(outer))
  end)

  it("if that fails instead, the task gets the error", function()
    local e = async.ValueError("instead")
    local inner = async.create_task(function()
      pcall(async.sleep, 60)
      error(e)
    end)
    local outer = started(async.await, inner)
    turns(1)
    outer:cancel()
    assert.equal(e, thrown(async.await, outer))
    assert.is_false(outer:cancelled())
  end)

  it("a stale message does not come up with a later request", function()
    local inner = async.create_task(function() pcall(async.sleep, 60) end)
    local outer = started(function()
      async.await(inner)
      local e = thrown(async.sleep, 60)
      return e.message
    end)
    turns(1)
    outer:cancel("stale")
    async.wait { inner }
    turns(2)
    outer:cancel()
    assert.is_nil(async.await(outer))
  end)
end)

describe("cancel and wait for the end", function()
  it("never throws the child's error", function()
    local task = started(function()
      pcall(async.sleep, 60)
      error(async.ValueError("late"))
    end)
    task:cancel()
    local done = async.wait { task }
    assert.equal(task, done[1])
    assert.equal("late", task:exception().message)
  end)

  it("a storm of requests all over a tree ends all of it", function()
    local count = 0
    local function node(depth)
      local _ <close> = async.defer(function() count = count - 1 end)
      count = count + 1
      if depth == 0 then return async.sleep(60) end
      if depth % 2 == 0 then
        return async.gather { function() node(depth - 1) end, function() node(depth - 1) end }
      end
      local tg <close> = async.TaskGroup()
      tg:create_task(node, depth - 1)
      tg:create_task(node, depth - 1)
    end
    local root = started(node, 7)
    turns(20)
    assert.equal(2 ^ 8 - 1, count)
    root:cancel("root")
    for _, task in ipairs(async.all_tasks()) do
      if task ~= async.current_task() then task:cancel() end
    end
    async.wait { root }
    turns(4)
    assert.is_true(root:cancelled())
    assert.equal(0, count)
  end)
end)

describe("bad input to cancel", function()
  it("is refused", function()
    local task = async.create_task(function() end)
    for _, name in ipairs { "cancel", "cancelling", "uncancel" } do
      for _, self in ipairs { false, 42, "text", {}, print } do
        refuses("TypeError", { name, "expected" }, task[name], self)
      end
      refuses("TypeError", { name }, task[name])
    end
    async.await(task)
  end)

  it("of a task on a closed loop is false", function()
    helper.plain [[
      local loop = async.new_event_loop()
      loop:set_exception_handler(function() end)
      local task, f = loop:create_task(async.sleep, 60), loop:create_future()
      loop:run_until_complete(function() turns(2) end)
      loop:close()
      eq(false, task:cancel())
      eq(false, f:cancel())
    ]]
  end)
end)
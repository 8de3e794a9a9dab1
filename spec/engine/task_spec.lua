-- async.create_task and the Task object: how it starts, what it is called, what is left of it.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns
local unpack = table.unpack

local function line() return debug.getinfo(2, "l").currentline end

describe("create_task", function()
  it("starts nothing before the next turn", function()
    local started = false
    local task = async.create_task(function() started = true end)
    assert.is_false(started)
    assert.is_false(task:done())
    turns(1)
    assert.is_true(started)
    assert.is_true(task:done())
  end)

  it("hands the arguments over, holes included", function()
    for _, args in ipairs {
      { n = 0 }, { n = 1, "x" }, { n = 1, nil }, { n = 2, nil, nil }, { n = 3, nil, 2, nil }, { n = 4, 1, false, nil,
        {} },
    } do
      local task = async.create_task(function(...) return select("#", ...), ... end, unpack(args, 1, args.n))
      local got = table.pack(async.await(task))
      assert.equal(args.n + 1, got.n)
      assert.equal(args.n, got[1])
      for i = 1, args.n do assert.is_true(rawequal(args[i], got[i + 1])) end
    end
    local many = {}
    for i = 1, 10000 do many[i] = i end
    assert.equal(10000, async.await(async.create_task(function(...) return (select(10000, ...)) end, unpack(many))))
  end)

  it("starts tasks in the order in which they were made, on every loop", function()
    helper.plain [[
      local log = {}
      local function note(i) log[#log + 1] = i end
      async.run(function()
        local tasks = {}
        for i = 1, 100 do
          tasks[i] = (i % 2 == 0 and async.create_task or function(...)
            return async.get_running_loop():create_task(...)
          end)(note, i)
        end
        async.wait(tasks)
      end)
      for i = 1, 100 do eq(i, log[i]) end
      -- those made before the run as well, and callbacks in between
      log = {}
      local loop = async.new_event_loop()
      local last
      for i = 1, 10 do
        loop:call_soon(note, "c" .. i)
        last = loop:create_task(note, "t" .. i)
      end
      loop:run_until_complete(last)
      eq("c1 t1 c2 t2 c3 t3", table.concat(log, " ", 1, 6))
      eq(20, #log)
      loop:close()
    ]]
  end)

  it("takes a value with __call, and a C function", function()
    local callable = setmetatable({}, { __call = function(self, x) return self, x end })
    local self, x = async.await(async.create_task(callable, 7))
    assert.equal(callable, self)
    assert.equal(7, x)
    assert.equal(42, async.await(async.create_task(tonumber, "42")))
    assert.equal("slept", async.await(async.create_task(async.sleep, 0, "slept")))
  end)

  it("refuses what cannot be called", function()
    local loop = async.get_running_loop()
    for _, bad in ipairs { false, 42, "text", {}, async.Future(), coroutine.create(print) } do
      refuses("TypeError", { "create_task", "#1", "function expected, got " }, async.create_task, bad)
      refuses("TypeError", { "create_task", "function expected, got " }, loop.create_task, loop, bad)
    end
    refuses("TypeError", { "create_task", "function expected, got n" }, async.create_task)
    assert.equal("bad argument #1 to 'create_task' (function expected, got number)",
      thrown(function() async.create_task(42) end).message)
    assert.equal("bad argument #1 to 'create_task' (function expected, got number)",
      thrown(function() loop:create_task(42) end).message)
    refuses("TypeError", { "create_task", "Loop expected" }, loop.create_task, {}, print)
  end)

  it("needs a loop that is open", function()
    local loop = async.new_event_loop()
    loop:close()
    refuses("RuntimeError", "closed", loop.create_task, loop, print)
    helper.plain [[ refuses("RuntimeError", "no running event loop", async.create_task, print) ]]
  end)

  it("works in a callback", function()
    local f = async.Future()
    async.get_running_loop():call_soon(function()
      async.create_task(function() f:set_result("task") end)
    end)
    assert.equal("task", async.await(f))
  end)

  it("keeps the task alive though nobody holds it", function()
    local f = async.Future()
    async.create_task(function()
      for _ = 1, 5 do
        collectgarbage()
        async.sleep(0)
      end
      local gate = async.Future()
      async.get_running_loop():call_soon(gate.set_result, gate)
      collectgarbage()
      async.await(gate)
      f:set_result("came")
    end)
    collectgarbage()
    assert.equal("came", async.await(f))
  end)

  it("lets it go when it is done", function()
    local weak = setmetatable({}, { __mode = "v" })
    weak.task = async.create_task(function() return {} end)
    turns(2)
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.task)
    weak.argument = {}
    async.create_task(function() turns(1) end, weak.argument)
    turns(4)
    collectgarbage()
    assert.is_nil(weak.argument)
  end)
end)

describe("a task", function()
  it("keeps its results and cannot be settled from outside", function()
    local task = async.create_task(function() return 1, nil, 3 end)
    refuses("InvalidStateError", {}, task.result, task)
    refuses("InvalidStateError", {}, task.exception, task)
    refuses("RuntimeError", "set_result", task.set_result, task, 1)
    refuses("RuntimeError", "set_exception", task.set_exception, task, 1)
    async.await(task)
    assert.equal(3, select("#", task:result()))
    assert.is_nil(task:exception())
    assert.is_false(task:cancelled())
    refuses("RuntimeError", {}, task.set_result, task, 1)
  end)

  it("throws its error from result, again and again", function()
    local e = async.ValueError("e")
    local task = async.create_task(error, e)
    async.wait { task }
    for _ = 1, 2 do
      assert.equal(e, thrown(task.result, task))
      assert.equal(e, task:exception())
    end
  end)

  it("is cancelled if it throws a CancelledError itself, without a request", function()
    local e = async.CancelledError("mine")
    local task = async.create_task(error, e)
    assert.equal(e, thrown(async.await, task))
    assert.is_true(task:cancelled())
    assert.equal(0, task:cancelling())
    assert.equal(e, thrown(task.exception, task))
  end)

  it("makes an Error of nil", function()
    for _, fn in ipairs { error, function() error(nil) end, function() turns(1) error() end } do
      local task = async.create_task(fn)
      local e = thrown(async.await, task)
      assert.equal("Error", e.name)
      assert.equal("nil", e.message)
      assert.equal(e, task:exception())
      assert.is_false(task:cancelled())
    end
  end)

  it("calls its done callbacks", function()
    local got
    local task = async.create_task(function() return "r" end)
    task:add_done_callback(function(t) got = t end)
    async.await(task)
    turns(1)
    assert.equal(task, got)
    local function never() error("must not run") end
    task = async.create_task(function() end)
    task:add_done_callback(never)
    assert.equal(1, task:remove_done_callback(never))
    async.await(task)
    assert.equal(async.get_running_loop(), task:get_loop())
  end)

  it("runs its closers when an error passes, and they may await", function()
    local log = {}
    local task = async.create_task(function()
      local _ <close> = setmetatable({}, { __close = function(_, e)
        async.sleep(0)
        log[#log + 1] = e
      end })
      local _ <close> = setmetatable({}, { __close = function(_, e)
        async.sleep(0.001)
        log[#log + 1] = e
      end })
      error("thrown", 0)
    end)
    assert.equal("thrown", thrown(async.await, task))
    assert.same({ "thrown", "thrown" }, log)
  end)

  it("fails with the error of a closer that throws", function()
    local seen
    local task = async.create_task(function()
      local _ <close> = setmetatable({}, { __close = function(_, e) seen = e end })
      local _ <close> = setmetatable({}, { __close = function() error("closer", 0) end })
      error("body", 0)
    end)
    assert.equal("closer", thrown(async.await, task))
    assert.equal("closer", seen)
    task = async.create_task(function()
      local _ <close> = setmetatable({}, { __close = function() error("closer", 0) end })
      return "result"
    end)
    assert.equal("closer", thrown(async.await, task))
    task = async.create_task(function()
      local _ <close> = setmetatable({}, { __close = function() error(nil) end })
      error("body", 0)
    end)
    assert.equal("Error: nil", tostring(thrown(async.await, task)))
  end)
end)

describe("the name of a task", function()
  it("is Task-N, counted up", function()
    local a = async.create_task(print)
    local b = async.create_task(print)
    a:cancel()
    b:cancel()
    local n = math.tointeger(a:get_name():match("^Task%-(%d+)$"))
    assert.equal("Task-" .. n + 1, b:get_name())
    async.wait { a, b }
    assert.equal("Task-" .. n, a:get_name())
  end)

  it("can be set, any time", function()
    local task = async.create_task(function() return async.current_task():get_name() end)
    assert.equal(task, task:set_name("first"))
    assert.equal("first", task:get_name())
    assert.equal("first", async.await(task))
    task:set_name("")
    assert.equal("", task:get_name())
    task = async.create_task(error, "failed")
    pcall(async.await, task)
    task:set_name("late")
    assert.equal("late", task:get_name())
    assert.truthy(tostring(task):find("name='late'", 1, true))
    assert.truthy(task:traceback())
  end)

  it("is a string", function()
    local task = async.create_task(function() end)
    for _, bad in ipairs { false, 42, {}, print } do
      refuses("TypeError", { "set_name", "string expected, got " }, task.set_name, task, bad)
    end
    refuses("TypeError", { "set_name", "string expected, got n" }, task.set_name, task)
    assert.equal("bad argument #1 to 'set_name' (string expected, got table)",
      thrown(function() task:set_name {} end).message)
    async.await(task)
  end)
end)

describe("tostring of a task", function()
  local function shape(task, ...)
    local s = tostring(task)
    for _, part in ipairs { ... } do assert.truthy(s:find(part), s .. " lacks " .. part) end
  end
  local where = " fn=<[^>]*task_spec%.lua:%d+>"

  it("tells name, function, state and what it waits for", function()
    local f = async.Future()
    local task = async.create_task(function() return async.await(f) end):set_name("worker")
    shape(task, "^<Task pending name='worker'" .. where .. ">$")
    turns(1)
    shape(task, "^<Task pending name='worker'" .. where .. " wait_for=<Future pending.*>>$")
    local outer = async.create_task(function() return async.await(task) end)
    turns(1)
    shape(outer, " wait_for=<Task pending name='worker'.*>>$")
    f:set_result(42)
    async.await(outer)
    shape(task, "^<Task finished name='worker'" .. where .. " result=42>$")
  end)

  it("tells the error, and that it was cancelled", function()
    local task = async.create_task(function() error(async.ValueError("text")) end):set_name("bad")
    async.wait { task }
    shape(task, "^<Task finished name='bad'" .. where .. " exception=ValueError: text>$")
    task:exception()
    task = async.create_task(function() async.sleep(5) end):set_name("gone")
    task:cancel()
    async.wait { task }
    shape(task, "^<Task cancelled name='gone'" .. where .. ">$")
  end)

  it("works for C functions, main, sleepers and hostile results", function()
    local task = async.create_task(async.sleep, 0)
    shape(task, "^<Task pending name='Task%-%d+' fn=<.+>.*>$")
    async.await(task)
    shape(async.current_task(), "^<Task pending name=")
    task = async.create_task(function() return setmetatable({}, { __tostring = function() error("no") end }) end)
    async.await(task)
    shape(task, "^<Task finished .* result=.*>$")
    task = async.create_task(function() async.sleep(60) end)
    turns(2)
    shape(task, "^<Task pending")
    task:cancel()
    async.wait { task }
  end)
end)

describe("current_task and all_tasks", function()
  it("know the running task, and none in a callback", function()
    local me = async.current_task()
    assert.truthy(me)
    local task, inside
    task = async.create_task(function()
      inside = async.current_task()
      turns(1)
      return inside == async.current_task()
    end)
    assert.is_true(async.await(task))
    assert.equal(task, inside)
    assert.equal(me, async.current_task())
    local seen = "unset"
    async.get_running_loop():call_soon(function() seen = async.current_task() end)
    turns(1)
    assert.is_nil(seen)
  end)

  it("list the unfinished ones in order of creation", function()
    local f = async.Future()
    local before = async.all_tasks()
    assert.equal(async.current_task(), before[#before])
    local made = {}
    for i = 1, 20 do made[i] = async.create_task(i % 3 == 0 and print or function() return async.await(f) end) end
    for i = 3, 20, 3 do made[i]:cancel() end
    local list = async.all_tasks()
    assert.equal(#before + 20, #list)
    for i = 1, 20 do assert.equal(made[i], list[#before + i]) end
    turns(2)
    list = async.all_tasks()
    assert.equal(#before + 14, #list)
    assert.equal(made[1], list[#before + 1])
    assert.equal(made[4], list[#before + 3])
    f:set_result()
    async.wait(made)
    assert.equal(#before, #async.all_tasks())
    assert.same(async.all_tasks(), async.all_tasks(async.get_running_loop()))
  end)

  it("outside of a loop there is none", function()
    helper.plain [[
      eq(nil, async.current_task())
      refuses("RuntimeError", {}, async.all_tasks)
      local loop = async.new_event_loop()
      eq(0, #async.all_tasks(loop))
      local task = loop:create_task(function() return #async.all_tasks(), async.all_tasks()[1] end)
      eq(1, #async.all_tasks(loop))
      eq(task, async.all_tasks(loop)[1])
      local n, first = loop:run_until_complete(task)
      eq(1, n) eq(task, first)
      eq(nil, async.current_task())
      loop:close()
      refuses("RuntimeError", "closed", async.all_tasks, loop)
    ]]
    for _, bad in ipairs { false, 42, "text", {} } do
      refuses("TypeError", { "all_tasks", "Loop expected" }, async.all_tasks, bad)
    end
  end)
end)

describe("get_coro", function()
  it("is the thread of the task", function()
    local inside
    local task = async.create_task(function()
      inside = async.coroutine.running()
      turns(1)
    end)
    local thread = task:get_coro()
    assert.equal("thread", type(thread))
    turns(1)
    assert.equal(thread, inside)
    assert.equal(thread, task:get_coro())
    async.await(task)
    assert.equal(inside, async.await(async.create_task(function() return inside end)))
  end)

  it("of a task that never starts is dead in the end", function()
    local task = async.create_task(error, "never")
    local thread = task:get_coro()
    task:cancel("early")
    assert.equal("CancelledError: early", tostring(thrown(async.await, task)))
    assert.equal("dead", async.coroutine.status(thread))
    local other = async.create_task(function() return (async.coroutine.running()) end)
    assert.not_equal(thread, (async.await(other)))
  end)

  it("is not used again for another task while somebody has it", function()
    local task = async.create_task(function() end)
    local thread = task:get_coro()
    async.await(task)
    for _ = 1, 20 do
      local other = async.create_task(function() return (async.coroutine.running()) end)
      assert.not_equal(thread, (async.await(other)))
    end
  end)

  it("when it is closed from outside, the task fails with a clear error", function()
    helper.plain [[
      local closed, f
      async.run(function()
        f = async.Future()
        local task = async.create_task(function()
          local _ <close> = setmetatable({}, { __close = function() closed = true end })
          async.await(f)
        end)
        turns(2)
        eq(true, coroutine.close(task:get_coro()))
        eq(true, closed)
        f:set_result()
        local e = thrown(async.await, task)
        eq("RuntimeError", e.name)
        assert(e.message:find("closed", 1, true), e.message)
        -- one that sleeps
        task = async.create_task(async.sleep, 0.005)
        turns(2)
        coroutine.close(task:get_coro())
        eq("RuntimeError", thrown(async.await, task).name)
        -- one that has not started
        task = async.create_task(function() return "not reached?" end)
        coroutine.close(task:get_coro())
        pcall(async.await, task)
        eq(true, task:done())
        -- resumed by somebody else: an error, not a crash; the task comes to an end
        task = async.create_task(function() return async.sleep(0.005, "slept") end)
        turns(2)
        coroutine.resume(task:get_coro())
        pcall(async.await, task)
        eq(true, task:done())
        eq("whole", async.sleep(0.001, "whole"))
      end)
    ]]
  end)
end)

describe("traceback of a task", function()
  it("is nil unless it failed", function()
    local task = async.create_task(function() end)
    assert.is_nil(task:traceback())
    async.await(task)
    assert.is_nil(task:traceback())
    task = async.create_task(print)
    task:cancel()
    async.wait { task }
    assert.is_nil(task:traceback())
  end)

  it("has the place of the throw, then each await it crossed", function()
    local thrown_at, first_at, second_at
    local inner = async.create_task(function()
      turns(1)
      thrown_at = line() + 1
      error(async.ValueError("boom"))
    end)
    local middle = async.create_task(function()
      first_at = line() + 1
      async.await(inner)
    end)
    local outer = async.create_task(function()
      second_at = line() + 1
      async.await(middle)
    end)
    local e = thrown(async.await, outer)
    local function position(text, at) return text:find("task_spec.lua:" .. at .. ":", 1, true) end
    local text = outer:traceback()
    assert.truthy(position(text, thrown_at))
    assert.is_true(position(text, thrown_at) < position(text, first_at))
    assert.is_true(position(text, first_at) < position(text, second_at))
    assert.truthy(position(inner:traceback(), thrown_at))
    assert.is_nil(position(inner:traceback(), first_at))
    assert.truthy(position(async.traceback(e), thrown_at))
  end)

  it("is there for errors that are strings, for runtime errors and for closers", function()
    local at
    local task = async.create_task(function()
      at = line() + 2
      local t = nil
      return t.field
    end)
    thrown(async.await, task)
    assert.truthy(task:traceback():find("task_spec.lua:" .. at .. ":", 1, true))
    task = async.create_task(function()
      local _ <close> = setmetatable({}, { __close = function()
        at = line() + 1
        error("closer")
      end })
      error("body")
    end)
    thrown(async.await, task)
    assert.truthy(task:traceback():find("task_spec.lua:" .. at .. ":", 1, true))
  end)
end)

describe("get_stack", function()
  it("tells where the task is suspended now", function()
    local f, at = async.Future(), nil
    local function inside()
      at = line() + 1
      async.await(f)
    end
    local task = async.create_task(function() inside() end)
    assert.equal("", task:get_stack())
    turns(1)
    assert.truthy(task:get_stack():find("task_spec.lua:" .. at .. ":", 1, true))
    f:set_result()
    async.await(task)
    assert.equal("", task:get_stack())
    assert.is_string(async.current_task():get_stack())
  end)
end)

describe("bad input to tasks", function()
  it("is refused by every method", function()
    local task = async.create_task(function() end)
    for _, name in ipairs {
      "get_name", "set_name", "get_coro", "cancelling", "uncancel", "traceback", "get_stack",
    } do
      for _, self in ipairs { false, 42, "text", {}, print, async.Future(), async.get_running_loop() } do
        refuses("TypeError", { name, "Task expected" }, task[name], self)
      end
      refuses("TypeError", { name, "Task expected" }, task[name])
    end
    for _, name in ipairs { "done", "result", "cancel", "add_done_callback" } do
      refuses("TypeError", { name, "expected" }, task[name], {})
    end
    async.await(task)
  end)
end)
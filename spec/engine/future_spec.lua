-- async.Future: a result or an error, once; who hears of it, and in which order.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns
local unpack = table.unpack

-- A value whose tostring fails.
local function hostile()
  return setmetatable({}, { __tostring = function() error("no text for you", 0) end })
end

describe("a future", function()
  it("is pending at first", function()
    local f = async.Future()
    assert.is_false(f:done())
    assert.is_false(f:cancelled())
    refuses("InvalidStateError", {}, f.result, f)
    refuses("InvalidStateError", {}, f.exception, f)
    assert.equal("<Future pending>", tostring(f))
  end)

  it("belongs to the running loop, or to the one that is named", function()
    local loop = async.get_running_loop()
    assert.equal(loop, async.Future():get_loop())
    assert.equal(loop, async.Future(loop):get_loop())
    assert.equal(loop, loop:create_future():get_loop())
    local other = async.new_event_loop()
    local f, g = other:create_future(), async.Future(other)
    assert.equal(other, f:get_loop())
    assert.equal(other, g:get_loop())
    other:close()
    assert.equal(other, f:get_loop())
    refuses("RuntimeError", "closed", async.Future, other)
    refuses("RuntimeError", "closed", other.create_future, other)
  end)

  it("keeps its loop alive", function()
    local f = async.new_event_loop():create_future()
    collectgarbage()
    collectgarbage()
    assert.is_false(f:get_loop():is_closed())
    f:set_result("works")
    assert.equal("works", f:result())
    f:get_loop():close()
  end)

  it("is collected when nobody waits for it", function()
    local weak = setmetatable({}, { __mode = "v" })
    weak.pending = async.Future()
    weak.done = async.Future()
    weak.done:set_result({})
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.pending)
    assert.is_nil(weak.done)
  end)

  describe("with a result", function()
    it("gives all of it, to result and to every await", function()
      for _, values in ipairs {
        { n = 0 }, { n = 1, "x" }, { n = 1, nil }, { n = 1, false }, { n = 3, nil, 2, nil }, { n = 2, "a", nil },
        { n = 4, nil, nil, nil, nil }, { n = 3, {}, print, false },
      } do
        local f = async.Future()
        f:set_result(unpack(values, 1, values.n))
        assert.is_true(f:done())
        assert.is_false(f:cancelled())
        assert.is_nil(f:exception())
        for _ = 1, 2 do
          for _, got in ipairs { table.pack(f:result()), table.pack(async.await(f)) } do
            assert.equal(values.n, got.n)
            for i = 1, values.n do assert.is_true(rawequal(values[i], got[i])) end
          end
        end
      end
    end)

    it("may be many values", function()
      for _, n in ipairs { 250, 100000 } do
        local values = {}
        for i = 1, n do values[i] = i end
        local f = async.Future()
        f:set_result(unpack(values))
        assert.equal(n, select("#", f:result()))
        assert.equal(n, (select(n, async.await(f))))
      end
    end)

    it("cannot get another one", function()
      local f = async.Future()
      f:set_result("first")
      refuses("InvalidStateError", "set_result", f.set_result, f, "second")
      refuses("InvalidStateError", "set_exception", f.set_exception, f, async.ValueError("e"))
      assert.is_false(f:cancel())
      assert.equal("first", f:result())
      assert.is_false(f:cancelled())
    end)
  end)

  describe("with an error", function()
    it("throws it from result, and gives it from exception, whatever value it is", function()
      for _, e in ipairs { "text", 42, 1.5, {}, false, true, print, hostile(), async.ValueError("typed") } do
        local f = async.Future()
        f:set_exception(e)
        assert.is_true(f:done())
        assert.is_false(f:cancelled())
        assert.is_true(rawequal(e, f:exception()))
        assert.is_true(rawequal(e, thrown(f.result, f)))
        assert.is_true(rawequal(e, thrown(async.await, f)))
        assert.is_true(rawequal(e, thrown(async.await, f)))
      end
    end)

    it("makes an Error of nil, the same one for everybody", function()
      local f = async.Future()
      f:set_exception(nil)
      local e = f:exception()
      assert.equal("Error", e.name)
      assert.equal("nil", e.message)
      assert.equal(e, thrown(f.result, f))
      assert.equal(e, thrown(async.await, f))
      local g = async.Future()
      g:set_exception()
      assert.equal("nil", g:exception().message)
    end)

    it("cannot get another one, nor a result", function()
      local f = async.Future()
      f:set_exception("first")
      refuses("InvalidStateError", "set_result", f.set_result, f, 1)
      refuses("InvalidStateError", "set_exception", f.set_exception, f, "second")
      assert.is_false(f:cancel())
      assert.equal("first", f:exception())
    end)

    it("is cancelled if that is a CancelledError", function()
      local f = async.Future()
      local e = async.CancelledError("by hand")
      f:set_exception(e)
      assert.is_true(f:cancelled())
      assert.equal(e, thrown(f.result, f))
      assert.equal(e, thrown(f.exception, f))
      assert.equal(e, thrown(async.await, f))
      local Derived = async.exception("Derived", async.CancelledError)
      f = async.Future()
      f:set_exception(Derived("d"))
      assert.is_true(f:cancelled())
    end)
  end)

  describe("cancelled", function()
    it("throws a CancelledError from result and exception", function()
      local f = async.Future()
      assert.is_true(f:cancel())
      assert.is_true(f:done())
      assert.is_true(f:cancelled())
      refuses("CancelledError", {}, f.result, f)
      refuses("CancelledError", {}, f.exception, f)
      refuses("CancelledError", {}, async.await, f)
    end)

    it("hands the message to everybody who asks, every time", function()
      local f = async.Future()
      local got = {}
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = async.create_task(function() got[i] = thrown(async.await, f).message end)
      end
      turns(2)
      f:cancel("the reason")
      async.wait(tasks)
      assert.same({ "the reason", "the reason", "the reason" }, got)
      for _ = 1, 2 do
        assert.equal("the reason", thrown(f.result, f).message)
        assert.equal("the reason", thrown(f.exception, f).message)
        assert.equal("the reason", thrown(async.await, f).message)
      end
    end)

    it("takes any value as a message", function()
      local message = {}
      local f = async.Future()
      f:cancel(message)
      assert.equal(message, thrown(f.result, f).message)
      f = async.Future()
      f:cancel(false)
      assert.is_false(thrown(f.result, f).message)
      f = async.Future()
      f:cancel()
      assert.is_nil(thrown(f.result, f).message)
    end)

    it("cannot be settled or cancelled again", function()
      local f = async.Future()
      f:cancel("one")
      assert.is_false(f:cancel("two"))
      assert.equal("one", thrown(f.result, f).message)
      refuses("InvalidStateError", {}, f.set_result, f, 1)
      refuses("InvalidStateError", {}, f.set_exception, f, "e")
    end)

    it("wakes all its waiters, whose own counts stay at zero", function()
      local f = async.Future()
      local a = async.create_task(async.await, f)
      local b = async.create_task(async.await, f)
      turns(2)
      f:cancel()
      async.wait { a, b }
      assert.is_true(a:cancelled())
      assert.is_true(b:cancelled())
      assert.equal(0, a:cancelling())
      assert.equal(0, b:cancelling())
    end)
  end)

  it("can be set by a callback, by a task, and before anybody waits", function()
    local loop = async.get_running_loop()
    local f = async.Future()
    loop:call_soon(function() f:set_result("callback") end)
    assert.equal("callback", async.await(f))
    f = async.Future()
    async.create_task(function() f:set_exception("task") end)
    assert.equal("task", thrown(async.await, f))
  end)

  it("wakes every task that waits for it", function()
    local f = async.Future()
    local got, tasks = {}, {}
    for i = 1, 50 do
      tasks[i] = async.create_task(function() got[i] = { async.await(f) } end)
    end
    turns(2)
    f:set_result("a", "b")
    async.wait(tasks)
    for i = 1, 50 do assert.same({ "a", "b" }, got[i]) end
  end)
end)

describe("done callbacks", function()
  it("are called soon, not at once, in order, with the future", function()
    local f = async.Future()
    local log = {}
    for i = 1, 5 do
      f:add_done_callback(function(...)
        assert.equal(1, select("#", ...))
        log[#log + 1] = rawequal(f, ...) and i
      end)
    end
    f:set_result(1)
    assert.same({}, log)
    turns(1)
    assert.same({ 1, 2, 3, 4, 5 }, log)
    turns(3)
    assert.equal(5, #log)
  end)

  it("are called for errors and for cancellations", function()
    local log = {}
    local function note(f) log[#log + 1] = f:cancelled() and "cancelled" or f:exception() end
    local f, g = async.Future(), async.Future()
    f:add_done_callback(note)
    g:add_done_callback(note)
    f:set_exception("error")
    g:cancel()
    turns(1)
    assert.same({ "error", "cancelled" }, log)
  end)

  it("are called soon, too, if the future is done already", function()
    local f = async.Future()
    f:set_result(1)
    local calls = 0
    f:add_done_callback(function() calls = calls + 1 end)
    assert.equal(0, calls)
    turns(1)
    assert.equal(1, calls)
  end)

  it("may be the same function twice, and then run twice", function()
    local f = async.Future()
    local calls = 0
    local function cb() calls = calls + 1 end
    f:add_done_callback(cb)
    f:add_done_callback(cb)
    f:set_result()
    turns(1)
    assert.equal(2, calls)
  end)

  it("may be a value with __call", function()
    local f = async.Future()
    local got
    local callable = setmetatable({}, { __call = function(self, fut) got = { self, fut } end })
    f:add_done_callback(callable)
    f:set_result()
    turns(1)
    assert.equal(callable, got[1])
    assert.equal(f, got[2])
  end)

  it("are removed by the number, and not once the future is done", function()
    local f = async.Future()
    local log = {}
    local function a() log[#log + 1] = "a" end
    local function b() log[#log + 1] = "b" end
    for _, cb in ipairs { a, b, a, b, a } do f:add_done_callback(cb) end
    assert.equal(3, f:remove_done_callback(a))
    assert.equal(0, f:remove_done_callback(a))
    assert.equal(0, f:remove_done_callback(print))
    f:set_result()
    assert.equal(0, f:remove_done_callback(b))
    turns(1)
    assert.same({ "b", "b" }, log)
  end)

  it("share one list with the tasks that wait", function()
    local f = async.Future()
    local log = {}
    f:add_done_callback(function() log[#log + 1] = "before" end)
    local task = async.create_task(function()
      async.await(f)
      log[#log + 1] = "task"
    end)
    turns(1)
    f:add_done_callback(function() log[#log + 1] = "after" end)
    f:set_result()
    async.await(task)
    turns(1)
    assert.same({ "before", "task", "after" }, log)
  end)

  it("do not disturb each other when they throw", function()
    local f = async.Future()
    local log = {}
    local reports = helper.reports(function()
      f:add_done_callback(function() error(async.ValueError("one")) end)
      f:add_done_callback(function() log[1] = "runs" end)
      f:add_done_callback(function() error("two", 0) end)
      f:set_result("r")
      turns(2)
    end)
    assert.same({ "runs" }, log)
    assert.equal(2, #reports)
    assert.equal("one", reports[1].exception.message)
    assert.equal("two", reports[2].exception)
    for _, context in ipairs(reports) do
      assert.equal("callback", context.kind)
      assert.truthy(context.message:find("^Exception in callback <.*future_spec.lua:%d+>"))
      assert.equal(f, context.future)
      assert.truthy(context.handle)
      assert.truthy(context.traceback:find("future_spec.lua", 1, true))
    end
    assert.equal("r", f:result())
  end)

  it("have no current task and cannot await", function()
    local f, g = async.Future(), async.Future()
    local current, e = true, nil
    f:add_done_callback(function()
      current = async.current_task()
      e = thrown(async.await, g)
    end)
    f:set_result()
    turns(1)
    assert.is_nil(current)
    assert.equal("RuntimeError", e.name)
  end)

  it("are let go with the future", function()
    local weak = setmetatable({}, { __mode = "k" })
    local f = async.Future()
    do
      local cb = function() end
      weak[cb] = true
      f:add_done_callback(cb)
    end
    f:set_result()
    turns(2)
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  it("keep nothing that was removed", function()
    local weak = setmetatable({}, { __mode = "k" })
    local f = async.Future()
    do
      local cb = function() end
      weak[cb] = true
      f:add_done_callback(cb)
      f:remove_done_callback(cb)
    end
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  it("added or removed inside one of them", function()
    local f = async.Future()
    local log = {}
    local function late() log[#log + 1] = "late" end
    f:add_done_callback(function()
      log[#log + 1] = "first"
      f:add_done_callback(late)
    end)
    f:add_done_callback(function() log[#log + 1] = "second" end)
    f:set_result()
    turns(3)
    assert.same({ "first", "second", "late" }, log)
  end)

  it("hold no cancellation up: they are no waiters", function()
    local f = async.Future()
    f:add_done_callback(function() end)
    local task = async.create_task(async.await, f)
    turns(2)
    task:cancel()
    assert.is_true(f:cancelled())
    async.wait { task }
  end)
end)

describe("tostring of a future", function()
  it("tells its state and what came of it", function()
    local f = async.Future()
    f:set_result(42, "more")
    assert.truthy(tostring(f):find("^<Future finished result=42"))
    f = async.Future()
    f:set_exception(async.ValueError("text"))
    assert.equal("<Future finished exception=ValueError: text>", tostring(f))
    f:exception()
    f = async.Future()
    f:cancel()
    assert.equal("<Future cancelled>", tostring(f))
    f = async.Future()
    f:set_result()
    assert.equal("<Future finished>", tostring(f))
  end)

  it("does not fail because of what is in it", function()
    local f = async.Future()
    f:set_result(hostile())
    assert.truthy(tostring(f):find("^<Future finished result=.*>$"))
    f = async.Future()
    f:set_exception(hostile())
    assert.truthy(tostring(f):find("^<Future finished exception=.*>$"))
    f:exception()
    f = async.Future()
    f:set_result(("x"):rep(1e6))
    assert.is_true(#tostring(f) < 1000)
    f = async.Future()
    f:set_result(f)
    f = async.Future()
    f:set_result(setmetatable({}, { __tostring = function() return 42 end }))
    assert.truthy(tostring(f):find("^<Future finished"))
  end)
end)

describe("bad input to futures", function()
  local METHODS = {
    "done", "cancelled", "result", "exception", "cancel", "set_result", "set_exception", "add_done_callback",
    "remove_done_callback", "get_loop",
  }

  it("is refused by every method", function()
    local f = async.Future()
    local loop = async.get_running_loop()
    for _, name in ipairs(METHODS) do
      for _, self in ipairs { false, 42, "text", {}, print, loop, io.stdout } do
        refuses("TypeError", { name, "Future expected" }, f[name], self)
      end
      refuses("TypeError", { name, "Future expected, got" }, f[name])
    end
    local e = thrown(function() f.done({}) end)
    assert.truthy(e.message:find("#1 to 'done' (Future expected, got table)", 1, true))
  end)

  it("is refused as a callback", function()
    local f = async.Future()
    for _, name in ipairs { "add_done_callback", "remove_done_callback" } do
      for _, bad in ipairs { false, 42, "text", {}, f } do
        refuses("TypeError", { name, "function expected, got " }, f[name], f, bad)
      end
      refuses("TypeError", { name, "function expected, got n" }, f[name], f)
    end
    local e = thrown(function() f:add_done_callback(7) end)
    assert.truthy(e.message:find("#1 to 'add_done_callback' (function expected, got number)", 1, true))
  end)

  it("is refused as a loop", function()
    for _, bad in ipairs { false, 42, "text", {}, print, async.Future() } do
      refuses("TypeError", { "Future", "Loop expected, got " }, async.Future, bad)
    end
  end)

  it("is refused outside of a loop", function()
    helper.plain [[
      refuses("RuntimeError", "no running event loop", async.Future)
      local loop <close> = setmetatable({}, { __close = function(t) t.loop:close() end })
      loop.loop = async.new_event_loop()
      eq(false, async.Future(loop.loop):done())
      refuses("RuntimeError", {}, async.await, async.Future(loop.loop))
    ]]
  end)
end)

-- A collection runs finalisers inside any allocation, and they may call what they like. In a process of its own, whose
-- small heap is collected again and again.
describe("finalisers that settle a future", function()
  local PROGRAM = [[
    collectgarbage("setpause", 10)
    collectgarbage("setstepmul", 1000)
    local function storm(act, fn)
      for _ = 1, h.scaled(1000, 100) do
        local f = async.Future()
        for _ = 1, 3 do setmetatable({}, { __gc = function() act(f) end }) end
        fn(f)
        eq(true, f:done())
      end
    end
    async.run(function() %s end)
  ]]

  it("while it gets several results", function()
    helper.plain(PROGRAM:format [[
      storm(function(f) pcall(f.set_result, f, "finaliser") end, function(f) pcall(f.set_result, f, 1, 2, 3, 4, 5) end)
    ]])
  end)

  it("while it fails", function()
    helper.plain(PROGRAM:format [[
      storm(function(f) if not f:done() then f:set_result("finaliser") end end, function(f)
        if pcall(f.set_exception, f, async.ValueError("e")) then f:exception() end
      end)
    ]])
  end)

  it("while it is cancelled", function()
    helper.plain(PROGRAM:format [[
      storm(function(f) f:cancel("finaliser") end, function(f)
        if not f:cancel("by hand") then eq("finaliser", thrown(f.result, f).message) end
      end)
    ]])
  end)

  it("while it is cancelled and gets a result", function()
    helper.plain(PROGRAM:format [[
      storm(function(f) f:cancel("finaliser") end, function(f) pcall(f.set_result, f, 1, nil, 3) end)
    ]])
  end)
end)

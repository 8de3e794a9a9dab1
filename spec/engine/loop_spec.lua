-- The loop object: callbacks, timers, driving it, closing it, and what happens when it is misused.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns

describe("call_soon", function()
  it("calls first in, first out, on the next turn", function()
    local loop = async.get_running_loop()
    local log = {}
    for i = 1, 10 do
      loop:call_soon(function()
        log[#log + 1] = i
        loop:call_soon(function() log[#log + 1] = i + 10 end)
      end)
    end
    assert.same({}, log)
    turns(2)
    for i = 1, 20 do assert.equal(i, log[i]) end
  end)

  it("hands the arguments over, holes included", function()
    local loop = async.get_running_loop()
    for _, args in ipairs { { n = 0 }, { n = 1, nil }, { n = 3, nil, "x", nil }, { n = 2, false, {} } } do
      local got
      loop:call_soon(function(...) got = table.pack(...) end, table.unpack(args, 1, args.n))
      turns(1)
      assert.equal(args.n, got.n)
      for i = 1, args.n do assert.is_true(rawequal(args[i], got[i])) end
    end
    local n
    local many = {}
    for i = 1, 10000 do many[i] = i end
    loop:call_soon(function(...) n = select("#", ...) end, table.unpack(many))
    turns(1)
    assert.equal(10000, n)
  end)

  it("takes values with __call and C functions", function()
    local loop = async.get_running_loop()
    local got
    loop:call_soon(setmetatable({}, { __call = function(_, x) got = x end }), "called")
    local t = {}
    loop:call_soon(table.insert, t, "inserted")
    turns(1)
    assert.equal("called", got)
    assert.same({ "inserted" }, t)
  end)

  it("goes on after a callback that throws", function()
    local loop = async.get_running_loop()
    local ran = false
    local reports = helper.reports(function()
      loop:call_soon(function() error(async.ValueError("bad")) end)
      loop:call_soon(function() ran = true end)
      turns(1)
      assert.is_true(ran)
    end)
    assert.equal(1, #reports)
  end)

  it("works on a loop that does not run yet", function()
    helper.plain [[
      local loop = async.new_event_loop()
      local log = {}
      loop:call_soon(function() log[#log + 1] = "first" end)
      loop:call_later(0, function() log[#log + 1] = "timer" loop:stop() end)
      loop:call_soon(function() log[#log + 1] = "second" end)
      loop:run_forever()
      eq("first second timer", table.concat(log, " "))
      loop:close()
    ]]
  end)
end)

describe("time", function()
  it("goes on, in seconds", function()
    local loop = async.get_running_loop()
    local a = loop:time()
    local b = loop:time()
    assert.is_true(b >= a)
    assert.equal("float", math.type(a))
    async.sleep(0.003)
    assert.is_true(loop:time() >= a + 0.003 - 1e-9) -- a sum of floats is not exact
  end)
end)

describe("the running loop", function()
  it("is known, and says so", function()
    local loop = async.get_running_loop()
    assert.is_true(loop:is_running())
    assert.is_false(loop:is_closed())
    assert.equal("<Loop running>", tostring(loop))
    assert.equal(loop, async.get_running_loop())
  end)

  it("lets no other run in its Lua state, and goes on", function()
    local loop = async.get_running_loop()
    local other = async.new_event_loop()
    local function never() error("must not run") end
    refuses("RuntimeError", "running", other.run_until_complete, other, never)
    refuses("RuntimeError", "running", other.run_forever, other)
    refuses("RuntimeError", "running", loop.run_until_complete, loop, never)
    refuses("RuntimeError", "running", loop.run_forever, loop)
    refuses("RuntimeError", "running", async.run, never)
    other:close()
    local seen
    loop:call_soon(function() seen = thrown(async.run, never) end)
    turns(1)
    assert.equal("RuntimeError", seen.name)
    assert.equal(0, #helper.reports(function() turns(2) end))
  end)

  it("is not disturbed when another one is closed, with tasks and errors of its own", function()
    helper.plain [[
      async.run(function()
        local loop = async.get_running_loop()
        local other, reports = async.new_event_loop(), {}
        other:set_exception_handler(function(_, context) reports[#reports + 1] = context.message end)
        other:create_task(print)
        other:create_future():set_exception("lost")
        other:close()
        eq(true, other:is_closed())
        eq(loop, async.get_running_loop())
        assert(async.current_task())
        eq("whole", async.sleep(0.001, "whole"))
        table.sort(reports)
        eq("Future exception was never retrieved,Task was destroyed but it is pending!", table.concat(reports, ","))
      end)
    ]]
  end)

  it("cannot be closed", function()
    refuses("RuntimeError", "running", async.get_running_loop().close, async.get_running_loop())
    assert.equal("whole", async.sleep(0, "whole"))
  end)
end)

describe("run_until_complete", function()
  it("runs a function, a future, a task; gives results and throws errors", function()
    helper.plain [[
      local loop = async.new_event_loop()
      eq(false, loop:is_running())
      eq("<Loop idle>", tostring(loop))
      local function n(...) return select("#", ...), ... end
      eq(4, (n(loop:run_until_complete(function() return 1, nil, 3, nil end))))
      eq(0, (n(loop:run_until_complete(function() end))))
      eq("slept", loop:run_until_complete(function() return async.sleep(0.001, "slept") end))
      local f = loop:create_future()
      loop:call_later(0.001, function() f:set_result("future") end)
      eq("future", loop:run_until_complete(f))
      eq("future", loop:run_until_complete(f))
      local task = loop:create_task(function(x) return x end, "task")
      eq("task", loop:run_until_complete(task))
      local aw = setmetatable({}, { __await = function() return async.sleep(0, "awaited") end })
      eq("awaited", loop:run_until_complete(aw))
      for _, e in ipairs { "text", 42, {}, false, async.ValueError("v") } do
        eq(e, thrown(loop.run_until_complete, loop, function() error(e, 0) end))
        local g = loop:create_future()
        g:set_exception(e)
        eq(e, thrown(loop.run_until_complete, loop, g))
      end
      eq("nil", thrown(loop.run_until_complete, loop, error).message)
      local gone = loop:create_task(async.sleep, 60)
      gone:cancel("gone")
      eq("gone", thrown(loop.run_until_complete, loop, gone).message)
      eq(false, loop:is_running())
      loop:close()
      eq("<Loop closed>", tostring(loop))
    ]]
  end)

  it("leaves the rest of the loop as it is for the next run", function()
    helper.plain [[
      local loop = async.new_event_loop()
      local ticks = 0
      local ticker = loop:create_task(function() while true do async.sleep(0) ticks = ticks + 1 end end)
      loop:run_until_complete(function() turns(5) end)
      local before = ticks
      assert(before >= 3)
      loop:run_until_complete(function() turns(5) end)
      assert(ticks > before)
      ticker:cancel()
      thrown(loop.run_until_complete, loop, ticker)
      -- done callbacks of what ended the run are still served in the next one
      local called = false
      local f = loop:create_future()
      f:add_done_callback(function() called = true end)
      loop:call_soon(function() f:set_result() end)
      loop:run_until_complete(f)
      loop:run_until_complete(function() end)
      eq(true, called)
      loop:close()
    ]]
  end)

  it("throws RuntimeError when the loop is stopped before", function()
    helper.plain [[
      local loop = async.new_event_loop()
      local task = loop:create_task(async.sleep, 60)
      loop:call_soon(function() loop:stop() end)
      refuses("RuntimeError", "stopped", loop.run_until_complete, loop, task)
      eq(false, task:done())
      task:cancel()
      refuses("CancelledError", {}, loop.run_until_complete, loop, task)
      loop:close()
    ]]
  end)
end)

describe("stop and run_forever", function()
  it("stop ends the run after the turn", function()
    helper.plain [[
      local loop, log = async.new_event_loop(), {}
      local function note(x) log[#log + 1] = x end
      loop:call_soon(function()
        note "a"
        loop:stop()
        loop:call_soon(note, "next turn")
      end)
      loop:call_soon(note, "b")
      loop:run_forever()
      eq("a b", table.concat(log, " "))
      loop:stop()
      loop:run_forever()
      eq("a b next turn", table.concat(log, " "))
      loop:close()
    ]]
  end)

  it("stop before the run gives exactly one turn", function()
    helper.plain [[
      local loop, n = async.new_event_loop(), 0
      local function again() n = n + 1 loop:call_soon(again) end
      again()
      loop:stop()
      loop:run_forever()
      eq(2, n)
      loop:stop()
      loop:run_forever()
      eq(3, n)
      loop:close()
    ]]
  end)

  it("stop by a task, a timer and a done callback", function()
    helper.plain [[
      local loop = async.new_event_loop()
      loop:create_task(function() async.sleep(0) loop:stop() end)
      loop:run_forever()
      loop:call_later(0.001, loop.stop, loop)
      loop:run_forever()
      local f = loop:create_future()
      f:add_done_callback(function() loop:stop() end)
      f:set_result()
      loop:run_forever()
      loop:close()
    ]]
  end)
end)

describe("a closed loop", function()
  it("refuses work, and may be closed again", function()
    local loop = async.new_event_loop()
    local f = loop:create_future()
    local handle = loop:call_later(60, print)
    loop:close()
    loop:close()
    assert.is_true(loop:is_closed())
    assert.is_false(loop:is_running())
    for name, args in pairs {
      run_until_complete = { print }, run_forever = {}, stop = {}, create_task = { print }, create_future = {},
      call_soon = { print }, call_later = { 1, print }, call_at = { 1, print },
    } do
      refuses("RuntimeError", "closed", loop[name], loop, table.unpack(args))
    end
    refuses("RuntimeError", "closed", async.all_tasks, loop)
    refuses("RuntimeError", "closed", f.add_done_callback, f, print)
    assert.is_false(f:cancel())
    handle:cancel()
    assert.is_boolean(loop:get_debug())
    assert.is_number(loop:time())
    assert.is_string(tostring(loop))
    loop:set_exception_handler(print)
    loop:set_exception_handler(nil)
  end)

  it("was closed with all that was in it", function()
    helper.plain [[
      local loop, weak = async.new_event_loop(), setmetatable({}, { __mode = "k" })
      local function fn() end
      do
        local a, b, c = function() end, function() end, function() end
        weak[a], weak[b], weak[c] = true, true, true
        loop:call_soon(a)
        loop:call_later(60, b)
        loop:create_future():add_done_callback(c)
      end
      loop:close()
      loop = nil
      for _ = 1, 4 do collectgarbage() end
      eq(nil, (next(weak)))
    ]]
  end)
end)

describe("new_event_loop", function()
  it("without descriptors says so, and leaves none open", function()
    helper.plain([[
      async.new_event_loop():close() -- what libuv opens once for the process is open now
      local files = {}
      repeat
        local file = io.open("/dev/null")
        files[#files + 1] = file
      until not file
      local e = refuses("OSError", "uv_loop_init", async.new_event_loop)
      eq("EMFILE", e.code)
      for _, file in ipairs(files) do file:close() end
      for _ = 1, 3 do collectgarbage() end
      for _ = 1, 20 do async.new_event_loop():close() end
    ]], { prefix = { "sh", "-c", 'ulimit -n 40; exec "$@"', "sh" } })
  end)
end)

describe("the options of new_event_loop", function()
  it("are taken", function()
    local loop = async.new_event_loop { debug = true, clock = "virtual", seed = 7, shutdown_grace = 1 }
    assert.is_true(loop:get_debug())
    assert.is_true(loop:time() < 1)
    loop:close()
    local handler = function() end
    loop = async.new_event_loop { exception_handler = handler }
    assert.equal(handler, loop:get_exception_handler())
    assert.is_false(loop:get_debug())
    loop:close()
    async.new_event_loop({}):close()
    async.new_event_loop(nil):close()
  end)

  it("are checked", function()
    for _, make in ipairs { async.new_event_loop, async.Runner } do
      for _, bad in ipairs { 42, "text", true, print } do
        refuses("TypeError", { "table expected, got " }, make, bad)
      end
      refuses("TypeError", "debug", make, { debug = 1 })
      refuses("TypeError", "clock", make, { clock = 1 })
      refuses("ValueError", "clock", make, { clock = "fast" })
      refuses("TypeError", "seed", make, { seed = "x" })
      refuses("TypeError", "seed", make, { seed = 1.5 })
      refuses("TypeError", "exception_handler", make, { exception_handler = 42 })
      refuses("TypeError", "shutdown_grace", make, { shutdown_grace = "10" })
      refuses("TypeError", "shutdown_grace", make, { shutdown_grace = 0 / 0 })
      refuses("ValueError", "shutdown_grace", make, { shutdown_grace = -1 })
    end
  end)
end)

describe("debug flags", function()
  it("can be read and set", function()
    local loop = async.get_running_loop()
    assert.is_false(loop:get_debug())
    loop:set_debug(true)
    assert.is_true(loop:get_debug())
    loop:set_debug(false)
    assert.equal(0.1, loop.slow_callback_duration)
    loop.slow_callback_duration = 0.25
    assert.equal(0.25, loop.slow_callback_duration)
    loop.slow_callback_duration = 0.1
    for _, bad in ipairs { 42, "true", {} } do
      refuses("TypeError", { "set_debug", "boolean expected" }, loop.set_debug, loop, bad)
    end
    refuses("TypeError", { "set_debug", "boolean expected" }, loop.set_debug, loop)
    refuses("TypeError", "number expected", function() loop.slow_callback_duration = "x" end)
    refuses("TypeError", "other", function() loop.other = 1 end)
    assert.is_nil(loop.other)
    refuses("TypeError", "no field 'number'", function() loop[1] = 1 end)
    refuses("TypeError", "no field 'boolean'", function() loop[true] = 1 end)
    assert.is_nil(loop[1])
  end)

  it("a slow callback is told in debug mode alone", function()
    local program = [[
      local runner <close> = async.Runner { debug = %s }
      local loop = runner:get_loop()
      loop.slow_callback_duration = 0.01
      local function busy()
        local from = os.clock()
        while os.clock() - from < 0.03 do end
      end
      runner:run(function()
        loop:call_soon(busy)
        async.await(async.create_task(function() busy() end))
        async.sleep(0.001)
      end)
    ]]
    local stdout, stderr, code = helper.execute(program:format("false"))
    assert.equal("", stderr)
    assert.equal(0, code, stdout)
    stdout, stderr, code = helper.execute(program:format("true"))
    assert.equal(0, code, stdout)
    local _, n = stderr:gsub("took %d+%.%d+", "")
    assert.is_true(n >= 2, "nothing was told of a slow callback and a slow step: " .. stderr)
  end)
end)

describe("stats", function()
  it("count what lives", function()
    local loop = async.get_running_loop()
    local before = loop:stats()
    for _, name in ipairs {
      "tasks", "sleepers", "timers", "callbacks", "handles", "requests", "ready", "held", "spawned", "suspensions",
        "turns",
      "polls",
    } do
      assert.equal("integer", math.type(before[name]), name)
    end
    local task, handle = async.create_task(async.sleep, 60), loop:call_later(60, print)
    loop:call_soon(print)
    loop:call_soon(print):cancel()
    turns(1)
    local now = loop:stats()
    assert.equal(before.tasks + 1, now.tasks)
    assert.equal(before.sleepers + 1, now.sleepers)
    assert.equal(before.timers + 2, now.timers)
    assert.equal(before.callbacks + 1, now.callbacks)
    assert.equal(before.spawned + 1, now.spawned)
    assert.is_true(now.suspensions > before.suspensions)
    assert.is_true(now.turns > before.turns)
    task:cancel()
    handle:cancel()
    async.wait { task }
    now = loop:stats()
    for _, name in ipairs { "tasks", "sleepers", "timers", "callbacks" } do assert.equal(before[name], now[name]) end
  end)
end)

describe("bad input to loops", function()
  local loop = async.get_running_loop()

  it("is refused as self by every method", function()
    for _, name in ipairs {
      "run_until_complete", "run_forever", "stop", "close", "is_running", "is_closed", "time", "create_task",
      "create_future", "call_soon", "call_later", "call_at", "set_debug", "get_debug", "stats", "set_exception_handler",
      "get_exception_handler", "call_exception_handler", "default_exception_handler",
    } do
      for _, self in ipairs { false, 42, "text", {}, print, async.Future(), io.stdout } do
        refuses("TypeError", { name, "Loop expected" }, loop[name], self)
      end
      refuses("TypeError", { name, "Loop expected" }, loop[name])
    end
  end)

  it("is refused as a callback", function()
    for _, bad in ipairs { false, 42, "text", {}, async.Future() } do
      refuses("TypeError", { "call_soon", "function expected, got " }, loop.call_soon, loop, bad)
      refuses("TypeError", { "call_later", "function expected, got " }, loop.call_later, loop, 1, bad)
      refuses("TypeError", { "call_at", "function expected, got " }, loop.call_at, loop, 1, bad)
      refuses("TypeError", { "set_exception_handler", "function expected, got " }, loop.set_exception_handler, loop,
        bad)
      refuses("TypeError", { "call_exception_handler", "table expected, got " },
        loop.call_exception_handler, loop, type(bad) == "table" and 1 or bad)
    end
    assert.equal("bad argument #1 to 'call_soon' (function expected, got no value)",
      thrown(function() loop:call_soon() end).message)
    assert.equal("bad argument #2 to 'call_later' (function expected, got no value)",
      thrown(function() loop:call_later(1) end).message)
    refuses("TypeError", { "run_until_complete", "awaitable expected" }, loop.run_until_complete, loop, 42)
    refuses("TypeError", { "run_until_complete", "awaitable expected" }, loop.run_until_complete, loop)
  end)

  it("is refused as a time", function()
    for _, bad in ipairs { "1", {}, true, print } do
      refuses("TypeError", { "call_later", "number expected, got " }, loop.call_later, loop, bad, print)
      refuses("TypeError", { "call_at", "number expected, got " }, loop.call_at, loop, bad, print)
    end
    refuses("TypeError", { "call_later", "NaN" }, loop.call_later, loop, 0 / 0, print)
    refuses("TypeError", { "call_at", "NaN" }, loop.call_at, loop, 0 / 0, print)
    refuses("TypeError", { "call_later", "number expected, got n" }, loop.call_later, loop)
    for _, extreme in ipairs { math.maxinteger, math.mininteger, 1e308, -1e308 } do
      loop:call_at(extreme, function() end):cancel()
      loop:call_later(extreme, function() end):cancel()
    end
  end)

  it("get_running_loop throws without a loop", function()
    helper.plain [[
      refuses("RuntimeError", "no running event loop", async.get_running_loop)
      local loop = async.new_event_loop()
      refuses("RuntimeError", "no running event loop", async.get_running_loop)
      loop:close()
    ]]
  end)
end)
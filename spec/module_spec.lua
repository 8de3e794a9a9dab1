-- The module in an interpreter that is not ours: loading, loops one after the other, coroutines, the end of the state.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"

describe("require \"lunation\" in the stock interpreter", function()
  it("has modules of its own as fields, loaded on first use", function()
    helper.plain [[
      for _, name in ipairs { "net", "testing" } do
        eq(nil, rawget(async, name))
        eq(nil, package.loaded["lunation." .. name])
        local module = async[name]
        eq("table", type(module))
        eq(module, require("lunation." .. name))
        eq(module, rawget(async, name))
      end
      for _, name in ipairs { "probe", "memory", "test", "busted", "nothing", 1, async } do eq(nil, async[name]) end
    ]]
    helper.plain [[eq(require "lunation.testing", async.testing)]]
  end)

  it("gives one table, the same each time", function()
    helper.plain [[
      eq(async, require "lunation")
      eq(async, package.loaded.lunation)
      eq("string", type(async._VERSION))
      for _, name in ipairs {
        "run", "Runner", "await", "create_task", "current_task", "all_tasks", "sleep", "Future", "gather", "wait",
        "wait_for", "timeout", "timeout_at", "shield", "as_completed", "TaskGroup", "map", "race", "wrap", "pcall",
          "xpcall",
        "defer", "exception", "isinstance", "traceback", "print_exception", "dump", "get_running_loop",
          "new_event_loop",
        "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier", "Queue", "PriorityQueue", "LifoQueue",
      } do
        eq("function", type(async[name]), name)
      end
      for _, name in ipairs {
        "BaseError", "CancelledError", "KeyboardInterrupt", "Error", "TypeError", "ValueError", "RuntimeError",
        "InvalidStateError", "TimeoutError", "QueueEmpty", "QueueFull", "QueueShutDown", "BrokenBarrierError",
        "IncompleteReadError", "LimitOverrunError", "OSError", "HTTPError", "ExceptionGroup",
      } do
        eq(name, async[name].name)
      end
      for _, name in ipairs { "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED" } do assert(async[name] ~= nil,
        name) end
      eq("table", type(async.coroutine))
      eq(nil, async.no_such_thing)
    ]]
  end)

  it("changes nothing outside of its table", function()
    local stdout, stderr, code = command.run {
      "sh", "-c", (os.getenv("LUNATION_LUA") or "lua5.4") .. " -", env = {
        LUA_CPATH = (os.getenv("LUNATION_MODULE") or command.libdir .. "/lua") .. "/?.so",
      },
    }
    assert.equal(0, code, stdout .. stderr)
    helper.plain [[
      eq("function", type(coroutine.wrap))
      assert(coroutine ~= async.coroutine)
      assert(require ~= async.require)
      for k in pairs(_G) do
        assert(({
          _G = 1, _VERSION = 1, arg = 1, assert = 1, collectgarbage = 1, coroutine = 1, debug = 1, dofile = 1,
            error = 1,
          getmetatable = 1, io = 1, ipairs = 1, load = 1, loadfile = 1, math = 1, next = 1, os = 1, package = 1,
            pairs = 1,
          pcall = 1, print = 1, rawequal = 1, rawget = 1, rawlen = 1, rawset = 1, require = 1, select = 1,
            setmetatable = 1,
          string = 1, table = 1, tonumber = 1, tostring = 1, type = 1, utf8 = 1, warn = 1, xpcall = 1,
        })[k], k)
      end
      -- nor does the script's doing disturb it
      string.format = nil
      getmetatable("").__index = nil
      table.unpack, table.pack, table.insert, pcall_, select = nil, nil, nil, nil, nil
      _G.error, _G.type, _G.tostring, _G.setmetatable = nil, nil, nil, nil
      local text = async.run(function()
        async.sleep(0.001)
        local ok, e = pcall(async.await, 42)
        return e.message
      end)
      assert(text == "bad argument #1 to 'await' (awaitable expected, got number)", text)
    ]]
  end)

  it("loaded again after package.loaded was cleared, shares its state", function()
    helper.plain [[
      package.loaded.lunation = nil
      local again = require "lunation"
      eq("r", async.run(function()
        assert(again.current_task() == async.current_task())
        eq("slept", again.sleep(0.001, "slept"))
        eq("x", again.await(async.create_task(function() return "x" end)))
        local e = thrown(again.await, async.create_task(function() error(async.ValueError("v")) end))
        eq(true, async.isinstance(e, async.ValueError))
        refuses("RuntimeError", "running", again.run, print)
        return "r"
      end))
    ]]
  end)

  it("loaded in a coroutine that is gone", function()
    local stdout, stderr, code = helper.execute [[
      package.loaded.lunation = nil
      local fresh
      coroutine.wrap(function() fresh = require "lunation" end)()
      for _ = 1, 4 do collectgarbage() end
      eq("r", fresh.run(function() return fresh.sleep(0.001, "r") end))
    ]]
    assert.equal("", stderr)
    assert.equal(0, code, stdout)
  end)
end)

describe("loops in one interpreter", function()
  it("one after the other", function()
    helper.plain [[
      local a = async.new_event_loop()
      eq(1, a:run_until_complete(function() return async.sleep(0.001, 1) end))
      a:close()
      local b = async.new_event_loop()
      eq(2, b:run_until_complete(function() return async.sleep(0.001, 2) end))
      -- two open at a time, run in turn
      local c = async.new_event_loop()
      local fb, fc = b:create_future(), c:create_future()
      local tb, tc = b:create_task(async.await, fb), c:create_task(async.await, fc)
      for _ = 1, 3 do
        b:run_until_complete(function() eq(b, async.get_running_loop()) turns(2) end)
        c:run_until_complete(function() eq(c, async.get_running_loop()) turns(2) end)
      end
      -- settled while another one runs
      b:run_until_complete(function() fc:set_result("for c") fb:set_result("for b") turns(2) end)
      eq("for b", b:run_until_complete(tb))
      eq("for c", c:run_until_complete(tc))
      eq(3, async.run(function() return 3 end))
      b:close()
      c:close()
    ]]
  end)

  it("tasks of one cancelled, and their callbacks added, while another one runs", function()
    helper.plain [[
      local a, b = async.new_event_loop(), async.new_event_loop()
      local task = a:create_task(async.sleep, 60)
      a:run_until_complete(function() turns(2) end)
      local called
      b:run_until_complete(function()
        eq(true, task:cancel("from elsewhere"))
        task:add_done_callback(function() called = async.get_running_loop() end)
        turns(3)
      end)
      eq(false, task:done())
      eq("from elsewhere", thrown(a.run_until_complete, a, task).message)
      a:run_until_complete(function() turns(1) end)
      eq(a, called)
      a:close()
      b:close()
    ]]
  end)

  it("run from coroutines, one inside the other's generator", function()
    helper.plain [[
      local function source(n)
        return coroutine.wrap(function()
          for i = 1, n do coroutine.yield(async.run(function() return async.sleep(0, i) end)) end
        end)
      end
      local sum = 0
      for v in source(5) do
        sum = sum + v
        sum = sum + coroutine.wrap(function() return async.run(function() return 10 end) end)()
      end
      eq(65, sum)
      -- a loop driven from a coroutine that is dropped half way through
      local loop = async.new_event_loop()
      local co = coroutine.create(function()
        loop:run_until_complete(function() return 1 end)
        coroutine.yield()
      end)
      coroutine.resume(co)
      co = nil
      for _ = 1, 3 do collectgarbage() end
      eq(2, loop:run_until_complete(function() return async.sleep(0.001, 2) end))
      loop:close()
    ]]
  end)

  it("a loop inside a task's coroutine is refused, and the task goes on", function()
    helper.plain [[
      async.run(function()
        refuses("RuntimeError", {}, coroutine.wrap(function() return async.run(print) end))
        local loop = async.new_event_loop()
        refuses("RuntimeError", {}, loop.run_until_complete, loop, print)
        eq(false, loop:is_running())
        eq("on", async.sleep(0, "on"))
        loop:close()
      end)
    ]]
  end)

  it("yielding out of a run is refused, not a crash", function()
    local stdout, stderr, code = helper.execute [[
      local co = coroutine.create(function()
        async.run(function()
          async.get_running_loop():call_soon(function()
            print(pcall(coroutine.yield, "out of the loop"))
          end)
          return async.sleep(0.001)
        end)
        return "end"
      end)
      local ok, v = coroutine.resume(co)
      print(ok, v)
    ]]
    assert.equal(0, code, stderr)
    assert.truthy(stdout:find("^false\tattempt to yield across a C%-call boundary\ntrue\tend\n$"), stdout .. stderr)
  end)
end)

describe("the end of the Lua state", function()
  -- Under the sanitizers these also show that nothing is lost.
  it("with a loop that was never run, or never closed", function()
    helper.plain [[ _G.loop = async.new_event_loop() ]]
    helper.plain [[ _G.runner = async.Runner() ]]
    helper.plain [[
      local loop = async.new_event_loop()
      loop:create_task(print)
      loop:call_later(60, print)
      loop:call_soon(print)
      _G.f = loop:create_future()
      f:add_done_callback(print)
      _G.loop = loop
    ]]
  end)

  it("with pending tasks, suspended in every way", function()
    helper.plain [[
      local loop = async.new_event_loop()
      _G.loop = loop
      loop:run_until_complete(function()
        local f, lock, queue, event = async.Future(), async.Lock(), async.Queue(), async.Event()
        lock:acquire()
        for _, fn in ipairs {
          function() async.sleep(60) end,
          function() async.await(f) end,
          function() async.gather { f, function() async.sleep(60) end } end,
          function() async.wait { f } end,
          function() async.wait_for(f, 60) end,
          function() lock:acquire() end,
          function() queue:get() end,
          function() event:wait() end,
          function() local t <close> = async.timeout(60) async.sleep(60) end,
          function() local tg <close> = async.TaskGroup() tg:create_task(async.sleep, 60) end,
          function() async.await(async.shield(f)) end,
          function() async.coroutine.wrap(function() async.sleep(60) end)() end,
          function() coroutine.yield(f) end,
          function() for _ in async.as_completed { f } do end end,
          function() while true do pcall(async.sleep, 60) end end,
        } do
          async.create_task(fn)
        end
        turns(3)
      end)
    ]]
  end)

  it("with errors that nobody looked at", function()
    local stdout, stderr, code = helper.execute [[
      local loop = async.new_event_loop()
      _G.loop = loop
      loop:run_until_complete(function()
        _G.task = async.create_task(error, "kept till the end", 0)
        turns(2)
      end)
    ]]
    assert.equal("", stdout)
    assert.equal(0, code, stderr)
    assert.is_true(select(2, stderr:gsub("\nkept till the end", "")) <= 1, stderr)
  end)

  it("with finalisers that use it", function()
    helper.plain [[
      local function noop() end
      for i = 1, 20 do
        setmetatable({}, { __gc = function()
          pcall(async.create_task, noop)
          pcall(async.sleep, 0)
          pcall(function() if _G.loop then _G.loop:call_soon(noop) _G.f:set_result() end end)
          pcall(function() if _G.loop then _G.loop:create_task(noop) end end)
          pcall(function() if _G.loop then _G.loop:close() end end)
          pcall(async.run, noop)
        end })
        if i == 10 then
          _G.loop = async.new_event_loop { exception_handler = noop }
          _G.f = loop:create_future()
        end
      end
    ]]
  end)

  it("by os.exit with the state closed, from the outside of a loop", function()
    local _, stderr, code = helper.execute [[
      _G.loop = async.new_event_loop()
      loop:create_task(async.sleep, 60)
      loop:run_until_complete(function() turns(2) end)
      os.exit(3, true)
    ]]
    assert.equal("", stderr)
    assert.equal(3, code)
  end)

  it("by os.exit with the state closed, from a task and from a callback", function()
    for _, where in ipairs { "async.create_task", "function(f) async.get_running_loop():call_soon(f) end" } do
      local _, stderr, code = helper.execute(([[
        async.run(function()
          local f = async.Future()
          async.create_task(async.await, f)
          async.create_task(async.sleep, 60)
          turns(2);
          (%s)(function() os.exit(4, true) end)
          async.sleep(60)
        end)
      ]]):format(where), { env = { ASAN_OPTIONS = "detect_leaks=0" } }) -- the loop's C frames are left, not ended
      assert.equal(4, code, stderr)
    end
  end)

  it("by an error that nobody catches", function()
    local _, stderr, code = helper.execute [[
      async.run(function()
        async.create_task(async.sleep, 60)
        turns(1)
        error(async.ValueError("uncaught"))
      end)
    ]]
    assert.equal(1, code)
    assert.truthy(stderr:find("ValueError: uncaught", 1, true), stderr)
  end)

  it("dropped loops and their tasks are not kept for ever", function()
    helper.plain [[
      local function once()
        local loop = async.new_event_loop()
        loop:create_future()
        loop:run_until_complete(function() return 1 end)
        -- not closed
      end
      local before
      for i = 1, h.scaled(300, 60) do
        once()
        collectgarbage()
        if i == 30 then
          collectgarbage()
          before = collectgarbage("count")
        end
      end
      collectgarbage()
      collectgarbage()
      assert(collectgarbage("count") < before + 40, collectgarbage("count") - before)
    ]]
  end)
end)

describe("in the command", function()
  it("it is the same module, and the script is a task of a running loop", function()
    assert.equal(async, require "lunation")
    local stdout, stderr, code = helper.command [[
      assert(async.get_running_loop():is_running())
      assert(async.current_task())
      eq("await at top level", async.sleep(0.001, "await at top level"))
      eq(async.coroutine.wrap, coroutine.wrap)
      refuses("RuntimeError", "running", async.run, print)
      print "done"
    ]]
    assert.equal("", stderr)
    assert.equal("done\n", stdout)
    assert.equal(0, code)
  end)
end)

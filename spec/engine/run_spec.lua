-- async.run: the main task's outcome and the end of everything else. Each in a process of its own.
local helper = require "spec.helper"

-- What programs here share: `log` collects lines.
local COMMON = [[
  local log = {}
  local function note(x) log[#log + 1] = tostring(x) end
  local function noted(expected, what) eq(expected, table.concat(log, " "), what) end
]]

local function plain(text) return helper.plain(COMMON:gsub("\n", " ") .. text) end

describe("run", function()
  it("gives what main returns", function()
    plain [[
      local function n(...) return select("#", ...), ... end
      eq(0, (n(async.run(function() end))))
      local count, a, b, c = n(async.run(function(...) return ... end, nil, "x", nil))
      eq(3, count) eq(nil, a) eq("x", b) eq(nil, c)
      eq("slept", async.run(function() return async.sleep(0.001, "slept") end))
      eq("C", async.run(string.upper, "c"))
      eq("called", async.run(setmetatable({}, { __call = function() return "called" end })))
      eq(10000, select("#", async.run(function() return table.unpack({}, 1, 10000) end)))
    ]]
  end)

  it("throws what main throws", function()
    plain [[
      local hostile = setmetatable({}, { __tostring = function() error("no") end })
      for _, e in ipairs { "text", 42, {}, false, print, hostile, async.ValueError("v") } do
        eq(e, thrown(async.run, function() error(e, 0) end))
        eq(e, thrown(async.run, function() turns(3) error(e, 0) end))
      end
      eq("nil", thrown(async.run, error).message)
      local function deep() return 1 + deep() end
      assert(tostring(thrown(async.run, deep)):find("stack overflow"))
    ]]
  end)

  it("throws CancelledError if main was cancelled otherwise than by an interrupt", function()
    plain [[
      local e = thrown(async.run, function()
        local me = async.current_task()
        async.create_task(function() me:cancel("by a task") end)
        async.sleep(60)
      end)
      eq("CancelledError", e.name) eq("by a task", e.message)
      e = thrown(async.run, function() error(async.CancelledError("own")) end)
      eq("CancelledError", e.name) eq("own", e.message)
    ]]
  end)

  it("makes a new loop each time and closes it", function()
    plain [[
      local a = async.run(function() return async.get_running_loop() end)
      local b = async.run(function() return async.get_running_loop() end)
      assert(a ~= b)
      eq(true, a:is_closed()) eq(true, b:is_closed())
      refuses("RuntimeError", {}, async.get_running_loop)
      eq(nil, async.current_task())
      -- also when main failed
      local c
      thrown(async.run, function() c = async.get_running_loop() error("x") end)
      eq(true, c:is_closed())
      -- futures outlive it
      local f, t = async.run(function()
        local f = async.Future()
        f:set_result("kept")
        return f, async.current_task()
      end)
      eq("kept", f:result()) eq(true, t:done()) eq(f, (t:result()))
      eq(false, t:cancel())
    ]]
  end)

  it("refuses to run inside a run, and what is no function", function()
    plain [[
      async.run(function()
        refuses("RuntimeError", "running", async.run, print)
        async.get_running_loop():call_soon(function()
          refuses("RuntimeError", "running", async.run, print)
          note "callback"
        end)
        eq("whole", async.sleep(0.001, "whole"))
      end)
      noted "callback"
      for _, bad in ipairs { false, 42, "text", {} } do
        refuses("TypeError", { "run", "#1", "function expected, got " }, async.run, bad)
      end
      refuses("TypeError", { "run", "function expected, got n" }, async.run)
    ]]
  end)

  it("can be called in a coroutine", function()
    plain [[
      eq("r", coroutine.wrap(function() return async.run(function() return async.sleep(0.001, "r") end) end)())
      local gen = coroutine.wrap(function()
        for i = 1, 3 do
          local v = async.run(function() return async.sleep(0, i) end)
          coroutine.yield(v)
        end
      end)
      eq(1, gen()) eq(2, gen()) eq(3, gen())
      -- two, in turn, and from within each other's coroutines
      local a = coroutine.wrap(function() coroutine.yield(async.run(function() return "a" end)) return "end" end)
      eq("a", a())
      eq("b", async.run(function() return "b" end))
      eq("end", a())
    ]]
  end)

  it("leaves nothing behind, however often", function()
    plain [[
      local function descriptors()
        local n = 0
        local pipe = io.popen("ls /proc/$PPID/fd")
        for _ in pipe:lines() do n = n + 1 end
        pipe:close()
        return n
      end
      local function once()
        async.run(function()
          async.create_task(async.sleep, 60)
          async.get_running_loop():call_later(60, print)
          async.get_running_loop():call_soon(print, "must not run")
          async.create_task(function() pcall(async.sleep, 60) async.sleep(0) end)
          local f = async.Future()
          f:add_done_callback(print)
        end)
      end
      print = function() end
      local before, fds
      for i = 1, h.scaled(600, 60) do
        once()
        if i == 30 then
          collectgarbage() collectgarbage()
          before, fds = collectgarbage("count"), descriptors()
        end
      end
      collectgarbage() collectgarbage()
      assert(descriptors() < fds + 10, "descriptors are left open")
      local grown = collectgarbage("count") - before
      assert(grown < 60, ("%.0f KiB more"):format(grown))
    ]]
  end)
end)

describe("the tasks left when main ends", function()
  it("are cancelled newest first, and awaited", function()
    plain [[
      eq("value", async.run(function()
        for _, name in ipairs { "a", "b", "c" } do
          async.create_task(function()
            local e = thrown(async.sleep, 60)
            note(name)
            async.sleep(name == "a" and 0 or 0.002)
            note(name .. "!")
            error(e)
          end)
        end
        turns(1)
        return "value"
      end))
      eq("c b a a!", table.concat(log, " ", 1, 4))
      eq(6, #log)
    ]]
  end)

  it("that main made as its last act have had their first turn", function()
    plain [[
      async.run(function()
        async.create_task(function() note "task" thrown(async.sleep, 60) note "cancelled" end)
        async.get_running_loop():call_soon(note, "callback")
        async.get_running_loop():call_later(60, note, "timer")
      end)
      noted "task callback cancelled"
    ]]
  end)

  it("hear of it innermost first, as with any request", function()
    plain [[
      async.run(function()
        local inner = async.create_task(function()
          local e = thrown(async.sleep, 60)
          async.sleep(0.002)
          note "inner"
          error(e)
        end)
        async.create_task(function()
          local e = thrown(async.await, inner)
          note "outer"
          error(e)
        end)
        turns(2)
      end)
      noted "inner outer"
    ]]
  end)

  it("may spawn others: they end in rounds", function()
    plain [[
      local function spawn(depth)
        async.create_task(function()
          local _ <close> = async.defer(function()
            note(depth)
            if depth > 0 then
              spawn(depth - 1)
              async.await(async.create_task(async.sleep, 0.001))
            end
          end)
          async.sleep(60)
        end)
        turns(2)
      end
      async.run(function() spawn(5) end)
      noted "5 4 3 2 1 0"
    ]]
  end)

  it("end also if they catch the request and return", function()
    plain [[
      async.run(function()
        for i = 1, 3 do async.create_task(function() pcall(async.sleep, 60) note(i) end) end
        turns(1)
      end)
      eq(3, #log)
    ]]
  end)

  it("may wait for each other, for futures and in combinators", function()
    plain [[
      async.run(function()
        local f = async.Future()
        local a = async.create_task(async.await, f)
        local b = async.create_task(async.await, f)
        local c = async.create_task(function() return async.gather { a, b, function() async.sleep(60) end } end)
        async.create_task(function() return async.wait { a, c } end)
        async.create_task(async.wait_for, c, 60)
        async.create_task(function()
          local tg <close> = async.TaskGroup()
          tg:create_task(async.sleep, 60)
          tg:create_task(async.await, async.shield(b))
        end)
        async.create_task(function() local t <close> = async.timeout(60) async.sleep(60) end)
        async.create_task(function() for _ in async.as_completed { a, b } do end end)
        local lock = async.Lock()
        lock:acquire()
        for _ = 1, 3 do async.create_task(lock.acquire, lock) end
        local queue = async.Queue()
        for _ = 1, 3 do async.create_task(queue.get, queue) end
        turns(6)
        note(#async.all_tasks() > 10)
      end)
      noted "true"
    ]]
  end)

  it("report their errors; main's outcome stays", function()
    plain [[
      local main_error = async.TypeError("main")
      local contexts = {}
      local e = thrown(async.run, function()
        async.get_running_loop():set_exception_handler(function(_, context) contexts[#contexts + 1] = context end)
        for _, name in ipairs { "a", "b" } do
          async.create_task(function()
            pcall(async.sleep, 60)
            error(async.ValueError(name))
          end):set_name(name)
        end
        turns(1)
        error(main_error)
      end)
      eq(main_error, e)
      eq(2, #contexts)
      local seen = {}
      for _, context in ipairs(contexts) do
        eq("unhandled exception during loop shutdown", context.message)
        eq("shutdown", context.kind)
        eq(context.task, context.future)
        eq(context.exception.message, context.task:get_name())
        assert(context.traceback:find(":%d+:"), context.traceback)
        seen[context.task:get_name()] = true
      end
      eq(true, seen.a and seen.b)
    ]]
  end)

  it("do not report an error that another one got", function()
    plain [[
      local n = 0
      async.run(function()
        async.get_running_loop():set_exception_handler(function() n = n + 1 end)
        local a = async.create_task(function() pcall(async.sleep, 60) error("a's") end)
        async.create_task(function() note(select(2, pcall(async.await, a)) ~= nil) end)
        turns(2)
      end)
      noted "true"
      eq(0, n)
    ]]
  end)

  it("errors of tasks that failed before main ended are reported as never retrieved", function()
    plain [[
      local messages = {}
      async.run(function()
        async.get_running_loop():set_exception_handler(function(_, c) messages[#messages + 1] = c.message end)
        local kept = async.create_task(error, "kept")
        turns(2)
        eq(0, #messages)
        _G.kept = nil
      end)
      eq("Task exception was never retrieved", table.concat(messages, ","))
    ]]
  end)

  it("callbacks that were to be called soon are called, but not for ever", function()
    plain [[
      local n = 0
      async.run(function()
        local loop = async.get_running_loop()
        local function again()
          n = n + 1
          loop:call_soon(again)
        end
        again()
        for _ = 1, 5 do loop:call_soon(loop.call_soon, loop, note, "second") end
      end)
      noted("second second second second second")
      if n < 5 or n > 50 then error(n) end
    ]]
  end)

  it("a handler that reports for ever ends, and what it reports last is printed", function()
    local out, err, code = helper.execute [[
      local n = 0
      async.run(function()
        local loop = async.get_running_loop()
        loop:set_exception_handler(function(_, c)
          n = n + 1
          loop:call_exception_handler { message = "report " .. n }
        end)
        loop:call_exception_handler { message = "first" }
      end)
      print(n)
    ]]
    assert.equal(0, code, err)
    local n = math.tointeger(tonumber(out))
    assert.is_true(n > 1 and n < 100)
    assert.equal("report " .. n .. "\n", err)
  end)

  it("10,000 of them are no problem", function()
    plain [[
      local n = 0
      async.run(function()
        for _ = 1, h.scaled(10000, 1000) do
          async.create_task(function() local ok, e = pcall(async.sleep, 60) n = n + 1 error(e) end)
        end
        turns(1)
      end)
      eq(h.scaled(10000, 1000), n)
    ]]
  end)

  it("closers of main run before the rest is cancelled, and see a live loop", function()
    plain [[
      async.run(function()
        async.create_task(function() pcall(async.sleep, 60) note "leftover" end)
        turns(1)
        local _ <close> = async.defer(function()
          async.sleep(0.001)
          note "main's closer"
        end)
      end)
      noted "main's closer leftover"
    ]]
  end)
end)

describe("a task that refuses to end", function()
  it("is closed by force after the grace, and reported", function()
    plain [[
      local contexts, closed, from = {}, false, os.time()
      local runner = async.Runner {
        shutdown_grace = 0.03, exception_handler = function(_, context) contexts[#contexts + 1] = context end,
      }
      eq("main's", runner:run(function()
        async.create_task(function()
          local _ <close> = setmetatable({}, { __close = function() closed = true end })
          while true do pcall(async.sleep, 60) end
        end):set_name("refuser")
        turns(1)
        return "main's"
      end))
      runner:close()
      assert(os.time() - from <= 5)
      eq(1, #contexts)
      eq("Task was destroyed but it is pending!", contexts[1].message)
      eq("destroyed", contexts[1].kind)
      eq("refuser", contexts[1].task:get_name())
      eq(contexts[1].task, contexts[1].future)
      eq(nil, contexts[1].exception)
      assert(contexts[1].traceback:find(":%d+:"), contexts[1].traceback)
      eq(true, contexts[1].task:done())
      eq(true, closed)
    ]]
  end)

  it("busily, without ever sleeping, is closed as well", function()
    plain [[
      local n, contexts = 0, {}
      local runner = async.Runner {
        shutdown_grace = 0.02, exception_handler = function(_, context) contexts[#contexts + 1] = context.message end,
      }
      runner:run(function()
        async.create_task(function() while true do pcall(async.sleep, 0) n = n + 1 end end)
        turns(1)
      end)
      runner:close()
      assert(n > 0)
      eq("Task was destroyed but it is pending!", table.concat(contexts, ","))
    ]]
  end)

  it("with a grace of zero is closed at once; the obedient end in order", function()
    plain [[
      local contexts = {}
      local runner = async.Runner {
        shutdown_grace = 0.02, exception_handler = function(_,
          context) contexts[#contexts + 1] = context.task:get_name() end,
      }
      runner:run(function()
        async.create_task(function() while true do pcall(async.sleep, 60) end end):set_name("bad")
        async.create_task(function() pcall(async.sleep, 60) async.sleep(0) note "obedient" end)
        turns(1)
      end)
      runner:close()
      eq("bad", table.concat(contexts, " "))
      noted "obedient"
    ]]
  end)

  it("those who wait for it are settled consistently", function()
    plain [[
      local contexts = {}
      local runner = async.Runner {
        shutdown_grace = 0.02, exception_handler = function(_, context) contexts[#contexts + 1] = context.message end,
      }
      local refuser, waiter, outer
      runner:run(function()
        refuser = async.create_task(function() while true do pcall(async.sleep, 60) end end)
        waiter = async.create_task(async.await, refuser)
        outer = async.create_task(function() return async.gather { waiter, refuser } end)
        turns(3)
      end)
      runner:close()
      for _, task in ipairs { refuser, waiter, outer } do eq(true, task:done()) end
      assert(#contexts >= 1 and #contexts <= 3)
      for _, message in ipairs(contexts) do eq("Task was destroyed but it is pending!", message) end
    ]]
  end)

  it("that spawns when it is closed by force does not go on for ever", function()
    plain [[
      local n = 0
      local runner = async.Runner { shutdown_grace = 0.01, exception_handler = function() end }
      runner:run(function()
        local function refuser()
          n = n + 1
          local _ <close> = setmetatable({}, { __close = function() if n < 5 then async.create_task(refuser) end end })
          while true do pcall(async.sleep, 60) end
        end
        async.create_task(refuser)
        turns(1)
      end)
      runner:close()
      eq(true, runner ~= nil)
    ]]
  end)
end)

describe("KeyboardInterrupt", function()
  it("thrown in a callback, a task, a timer, a done callback or a handler leaves the run at once", function()
    plain [[
      local KI = async.KeyboardInterrupt
      for name, throw in pairs {
        callback = function(e) async.get_running_loop():call_soon(function() error(e) end) end,
        timer = function(e) async.get_running_loop():call_later(0.001, function() error(e) end) end,
        task = function(e) async.create_task(error, e) end,
        suspended_task = function(e) async.create_task(function() async.sleep(0.001) error(e) end) end,
        done_callback = function(e)
          local f = async.Future()
          f:add_done_callback(function() error(e) end)
          f:set_result()
        end,
        handler = function(e)
          async.get_running_loop():set_exception_handler(function() error(e) end)
          async.get_running_loop():call_soon(error, "any")
        end,
        closer = function(e)
          async.create_task(function()
            local _ <close> = setmetatable({}, { __close = function() error(e) end })
          end)
        end,
        main = function(e) error(e) end,
      } do
        local e, cleaned, other = KI(name), false, false
        local got = thrown(async.run, function()
          async.create_task(function() pcall(async.sleep, 60) other = true end)
          turns(1)
          local _ <close> = async.defer(function() async.sleep(0) cleaned = true end)
          throw(e)
          async.sleep(60)
        end)
        eq(e, got, name)
        eq(true, cleaned, name)
        eq(true, other, name)
        eq("again", async.run(function() return async.sleep(0.001, "again") end))
      end
    ]]
  end)

  it("leaves the rest of the turn queued", function()
    plain [[
      local loop = async.new_event_loop()
      loop:call_soon(function() error(async.KeyboardInterrupt()) end)
      loop:call_soon(note, "after")
      refuses("KeyboardInterrupt", {}, loop.run_forever, loop)
      noted ""
      loop:stop()
      loop:run_forever()
      noted "after"
      loop:close()
    ]]
  end)
end)

-- Every error is delivered to somebody or reported through the exception handler, once; what counts as delivered, when
-- reports come and in which order. What the handler itself is handed and prints is in fault_spec.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"

local thrown, turns, reports = helper.thrown, helper.turns, helper.reports

-- A task that has failed with an error of that message, and nobody knows.
local function failed(message)
  local task = async.create_task(function() error(async.ValueError(message)) end)
  turns(1)
  assert.is_true(task:done())
  return task
end

-- The messages of the exceptions that were reported while fn ran and what it dropped was collected.
local function reported(fn, ...)
  local list = {}
  for i, context in ipairs((reports(fn, ...))) do
    local e = context.exception
    list[i] = type(e) == "table" and e.message or tostring(e)
  end
  return list
end

-- Debug mode until what is given is closed.
local function debugging()
  local loop = async.get_running_loop()
  loop:set_debug(true)
  return async.defer(function() loop:set_debug(false) end)
end

describe("an error that nobody looked at", function()
  it("of a task is reported with all its keys", function()
    local sites = probe.sites(false)
    local _ <close> = async.defer(function() probe.sites(sites) end)
    local list = reports(function()
      async.create_task(function() error(async.ValueError("lost")) end):set_name("loser")
    end)
    assert.equal(1, #list)
    local context = list[1]
    assert.equal("Task exception was never retrieved", context.message)
    assert.equal("unretrieved", context.kind)
    assert.equal("lost", context.exception.message)
    assert.equal(context.task, context.future)
    assert.equal("loser", context.task:get_name())
    assert.is_true(context.task:done())
    assert.truthy(context.traceback:find("reports_spec.lua:%d+"))
    assert.is_nil(context.source_traceback)
  end)

  it("of a future is reported, without a task", function()
    local list = reports(function() async.Future():set_exception("lost") end)
    assert.equal(1, #list)
    assert.equal("Future exception was never retrieved", list[1].message)
    assert.equal("unretrieved", list[1].kind)
    assert.equal("lost", list[1].exception)
    assert.is_nil(list[1].task)
    assert.equal("<Future finished exception=lost>", tostring(list[1].future))
  end)

  it("is reported though the error delivered last was none that can be told from others", function()
    local list = reported(function()
      local task = async.create_task(function()
        async.sleep(0)
        error(async.ValueError("lost"))
      end)
      local shield = async.shield(task) -- refers to the task
      shield:set_exception(false)
      assert.is_false(shield:exception())
      turns(3)
    end)
    assert.same({ "lost" }, list)
  end)

  it("in debug mode tells where the task was made", function()
    local _ <close> = debugging()
    local list = reports(function() async.create_task(error, "lost") end)
    assert.equal(1, #list)
    assert.truthy(list[1].source_traceback:find("reports_spec.lua:%d+"))
    list = reports(function() async.await(async.create_task(async.create_task, error, "lost from C")) end)
    assert.equal(1, #list)
    assert.is_nil(list[1].source_traceback)
  end)

  it("in debug mode tells where the future and the callback were made, else not", function()
    local loop, sites = async.get_running_loop(), probe.sites(false)
    local _ <close> = async.defer(function() probe.sites(sites) end)
    local _ <close> = debugging()
    for _, debug in ipairs { true, false } do
      loop:set_debug(debug)
      local list = reports(function()
        loop:call_soon(error, "callback")
        local f = async.Future()
        f:add_done_callback(function() error("done", 0) end)
        f:set_result()
        async.Future():set_exception("lost")
        async.sleep(0)
      end)
      assert.equal(3, #list)
      for _, context in ipairs(list) do
        local place = context.source_traceback
        assert.equal(debug, place ~= nil and place:find("reports_spec.lua:%d+") ~= nil, context.message)
      end
    end
  end)

  it("may be any value", function()
    local hostile = setmetatable({}, { __tostring = function() error("no") end })
    for _, e in ipairs { "text", 42, {}, false, true, print, hostile } do
      local list = reports(function()
        async.create_task(error, e, 0)
        async.Future():set_exception(e)
      end)
      assert.equal(2, #list)
      assert.is_true(rawequal(e, list[1].exception))
      assert.is_true(rawequal(e, list[2].exception))
    end
    local list = reports(function() async.create_task(error) end)
    assert.equal("nil", list[1].exception.message)
  end)

  it("is not one that was cancelled", function()
    assert.same({}, reported(function()
      async.Future():cancel()
      async.create_task(async.sleep, 60):cancel()
      async.create_task(error, async.CancelledError())
    end))
  end)

  it("is reported once, in the order in which they failed", function()
    assert.same({ "1", "2", "3", "4", "5", "6" }, reported(function()
      local keep = {}
      for i = 1, 6 do keep[i] = failed(tostring(i)) end
      assert.equal(6, #keep)
    end))
    turns(2)
    collectgarbage()
    assert.same({}, reported(turns))
  end)

  it("is reported when it can no longer be reached, not before", function()
    local kept = failed("kept")
    assert.same({}, reported(async.sleep, 0.002))
    local holder = { kept }
    kept = nil -- luacheck: ignore
    assert.same({}, reported(async.sleep, 0.002))
    assert.equal(1, #holder)
    holder[1] = nil
    assert.same({ "kept" }, reported(async.sleep, 0.002))
  end)

  it("is not reported for the one that a closer's error took the place of", function()
    local kept = async.create_task(function()
      local _ <close> = async.defer(function() error("second", 0) end)
      error(async.ValueError("first"))
    end)
    async.wait { kept }
    assert.same({}, reported(async.sleep, 0.002))
    assert.equal("second", kept:exception())
  end)

  -- The collections of idle moments are rationed by the time that they take, which is no virtual one.
  it("is reported though the loop sits idle #real", function()
    local loop, message = async.get_running_loop(), nil
    local before = loop:get_exception_handler()
    loop:set_exception_handler(function(_, context) message = context.exception end)
    collectgarbage("stop")
    async.create_task(error, "idle")
    async.sleep(0.05 * helper.slow)
    collectgarbage("restart")
    loop:set_exception_handler(before)
    assert.equal("idle", message)
  end)

  it("at the latest when the loop closes, if it cannot be reached by then", function()
    helper.plain [[
      local list = {}
      collectgarbage("stop")
      local runner = async.Runner { exception_handler = function(_, c) list[#list + 1] = c.exception end }
      runner:run(function()
        async.create_task(error, "task", 0)
        async.get_running_loop():call_soon(function() async.Future():set_exception("future") end)
        turns(1)
      end)
      runner:close()
      eq("future task", table.concat(list, " ") == "task future" and "future task" or table.concat(list, " "))
      collectgarbage("restart")
      for _ = 1, 4 do collectgarbage() end
      eq(2, #list)
    ]]
  end)

  it("held longer than its loop lives, can still be delivered; dropped then, it is printed once", function()
    local stdout, stderr, code = helper.execute [[
      local list, asked, dropped = {}, nil, nil
      local runner = async.Runner { exception_handler = function(_, c) list[#list + 1] = c.exception end }
      runner:run(function()
        asked = async.create_task(error, "asked", 0)
        dropped = async.create_task(error, "dropped", 0)
        turns(2)
      end)
      runner:close()
      eq(0, #list)
      eq("asked", asked:exception())
      asked, dropped = nil, nil
      for _ = 1, 4 do collectgarbage() end
      eq(0, #list)
    ]]
    assert.equal("", stdout)
    assert.equal(0, code, stderr)
    assert.is_nil(stderr:find("asked", 1, true), stderr)
    assert.equal(1, select(2, stderr:gsub("\ndropped", "")), stderr)
  end)

  it("delivered one turn later is silent", function()
    assert.same({}, reported(function()
      local task = async.create_task(error, "late")
      turns(1)
      collectgarbage()
      turns(1)
      pcall(async.await, task)
    end))
  end)

  it("comes to the handler between turns, never inside the collector or another handler", function()
    local loop = async.get_running_loop()
    local before = loop:get_exception_handler()
    local depth, deepest, inside_gc, n = 0, 0, false, 0
    local collecting = false
    loop:set_exception_handler(function()
      n = n + 1
      depth = depth + 1
      deepest = math.max(deepest, depth)
      inside_gc = inside_gc or collecting
      if n < 5 then
        -- makes more of them, and collects
        async.create_task(error, "more")
        async.Future():set_exception("more")
        collectgarbage()
      end
      depth = depth - 1
    end)
    async.create_task(error, "first")
    for _ = 1, 12 do
      turns(2)
      collecting = true
      collectgarbage()
      collecting = false
      async.sleep(0.001)
    end
    loop:set_exception_handler(before)
    assert.equal(1, deepest)
    assert.is_false(inside_gc)
    assert.equal(9, n)
  end)

  it("stays one report when many fail in one gather", function()
    local n = helper.scaled(2000, 100)
    local list = reported(function()
      local tasks = {}
      for i = 1, n do tasks[i] = async.create_task(error, i, 0) end
      assert.equal(1, thrown(async.gather, tasks))
    end)
    assert.equal(n - 1, #list)
    for i, message in ipairs(list) do assert.equal(tostring(i + 1), message) end
  end)
end)

describe("an error counts as delivered by", function()
  local WAYS = {
    await = function(t) pcall(async.await, t) end,
    result = function(t) pcall(t.result, t) end,
    exception = function(t) t:exception() end,
    gather = function(t) pcall(async.gather, { t }) end,
    ["gather with return_exceptions"] = function(t) async.gather({ t }, { return_exceptions = true }) end,
    ["gather with cancel_on_error"] = function(t) pcall(async.gather, { t }, { cancel_on_error = true }) end,
    wait_for = function(t) pcall(async.wait_for, t, 60) end,
    ["wait_for without a timeout"] = function(t) pcall(async.wait_for, t, nil) end,
    shield = function(t) pcall(async.await, async.shield(t)) end,
    race = function(t) pcall(async.race, { t }) end,
    group = function(t) pcall(function() local tg <close> = async.TaskGroup() tg:create_task(async.await, t) end) end,
    map = function(t) pcall(async.map, { t }, async.await) end,
    as_completed = function(t) for x in async.as_completed { t } do x:exception() end end,
    yield = function(t) pcall(async.coroutine.yield, t) end,
    ["a done callback that asks"] = function(t) t:add_done_callback(function(x) x:exception() end) turns(1) end,
    ["an await that was there before"] = function() end,
  }
  for name, way in pairs(WAYS) do
    it(name, function()
      assert.same({}, reported(function()
        local task
        if name == "an await that was there before" then
          task = async.create_task(function() turns(2) error("delivered") end)
          pcall(async.await, task)
        else
          task = failed("delivered")
          way(task)
        end
      end))
    end)
  end
end)

describe("an error does not count as delivered by", function()
  local WAYS = {
    wait = function(t) async.wait { t } end,
    ["wait for the first exception"] = function(t) async.wait({ t }, { return_when = async.FIRST_EXCEPTION }) end,
    done = function(t) t:done() end,
    cancelled = function(t) t:cancelled() end,
    tostring = function(t) tostring(t) end,
    ["a refused cancel"] = function(t) t:cancel() end,
    traceback = function(t) t:traceback() end,
    as_completed = function(t) for _ in async.as_completed { t } do end end,
    ["a done callback that does not ask"] = function(t) t:add_done_callback(function() end) turns(1) end,
    ["a shield that nobody awaits"] = function(t) async.shield(t) turns(2) end,
    nothing = function() end,
  }
  for name, way in pairs(WAYS) do
    it(name, function()
      assert.same({ "owed" }, reported(function() way(failed("owed")) end))
    end)
  end

  it("gather, for those behind the first", function()
    assert.same({ "second", "third" }, reported(function()
      local tasks = {}
      for i, message in ipairs { "first", "second", "third" } do
        tasks[i] = async.create_task(function() error(async.ValueError(message)) end)
      end
      assert.equal("first", thrown(async.gather, tasks).message)
    end))
  end)

  it("an await that a cancel overtook", function()
    assert.same({ "not delivered" }, reported(function()
      local inner = async.create_task(function()
        async.sleep(0.002)
        error(async.ValueError("not delivered"))
      end)
      local other = async.create_task(function() async.wait { inner } end)
      local task = async.create_task(async.await, inner)
      turns(2)
      task:cancel()
      pcall(async.await, task)
      async.await(other)
    end))
  end)

  it("a shield whose awaiter was cancelled: reported once", function()
    assert.same({ "behind the shield" }, reported(function()
      local inner = async.create_task(function()
        async.sleep(0.002)
        error(async.ValueError("behind the shield"))
      end)
      local task = async.create_task(function() async.await(async.shield(inner)) end)
      turns(2)
      task:cancel()
      pcall(async.await, task)
      async.wait { inner }
    end))
  end)

  it("race, for the losers that fail", function()
    assert.same({ "loser" }, reported(function()
      async.race {
        function() return "winner" end,
        function() pcall(async.sleep, 60) error(async.ValueError("loser")) end,
      }
    end))
  end)
end)

describe("an error that was cancelled away in one turn", function()
  it("is delivered: value first", function()
    assert.same({}, reported(function()
      local f = async.Future()
      local task = async.create_task(async.await, f)
      turns(2)
      f:set_exception(async.ValueError("arrived"))
      task:cancel()
      assert.equal("arrived", thrown(async.await, task).message)
    end))
    assert.same({ "arrived" }, reported(function()
      local f = async.Future()
      local task = async.create_task(function() async.await(f) end)
      turns(2)
      f:set_exception(async.ValueError("arrived"))
      task:cancel()
      async.wait { task }
    end))
  end)
end)

describe("errors thrown anywhere reach exactly one place", function()
  -- A program throws `n` errors in all the places there are; those caught and those reported are counted.
  it("tasks, callbacks, timers, done callbacks, handlers, closers, finalisers", function()
    local stdout, stderr, code = helper.execute [[
      local seen, order = {}, {}
      local function boom(name) return function() error("<" .. name .. ">", 0) end end
      local function see(e, how)
        local name = tostring(e):match("<[^>]*>$")
        if name then
          seen[name] = (seen[name] or 0) + 1
          order[#order + 1] = how .. name
        end
      end
      local function catch(fn, ...) see(select(2, pcall(fn, ...)), "caught") end
      local function closing(fn) return setmetatable({}, { __close = fn }) end

      local places = {
        { "task awaited", function(f) catch(async.await, async.create_task(f)) end },
        { "task dropped", function(f) async.create_task(f) end },
        { "task suspended and dropped", function(f) async.create_task(function() turns(2) f() end) end },
        { "function awaited", function(f) catch(async.await, f) end },
        { "__await", function(f) catch(async.await, setmetatable({}, { __await = f })) end },
        { "soon", function(f) async.get_running_loop():call_soon(f) end },
        { "later", function(f) async.get_running_loop():call_later(0.001, f) end },
        { "done callback", function(f) local x = async.Future() x:add_done_callback(f) x:set_result() end },
        { "done callback of a task", function(f) async.create_task(function() end):add_done_callback(f) end },
        { "future", function(f, name) async.Future():set_exception("<" .. name .. ">") end },
        { "closer", function(f) async.create_task(function() local _ <close> = closing(f) end) end },
        { "closer of an error", function(f)
          async.create_task(function() local _ <close> = closing(f) error("replaced") end)
        end },
        { "closer in a cancel", function(f)
          local t = async.create_task(function() local _ <close> = closing(f) async.sleep(60) end)
          turns(2)
          t:cancel()
        end },
        { "closer of a callback", function(f)
          async.get_running_loop():call_soon(function() local _ <close> = closing(f) end)
        end },
        { "gather", function(f) catch(async.gather, { f, function() return 1 end }) end },
        { "gather return_exceptions", function(f)
          see(async.gather({ f }, { return_exceptions = true })[1], "result")
        end },
        { "wait_for", function(f) catch(async.wait_for, f, 10) end },
        { "shield", function(f) catch(async.await, async.shield(f)) end },
        { "shield dropped", function(f) async.shield(f) end },
        { "race", function(f) catch(async.race, { f, function() async.sleep(60) end }) end },
        { "map", function(f) catch(async.map, { 1 }, f) end },
        { "group", function(f)
          local ok, e = pcall(function() local tg <close> = async.TaskGroup() tg:create_task(f) end)
          for _, x in ipairs(e.errors) do see(x, "group") end
        end },
        { "generator", function(f) catch(async.coroutine.wrap(function() async.sleep(0) f() end)) end },
        { "sort", function(f) catch(table.sort, { 2, 1 }, f) end },
        { "metamethod", function(f) catch(function() return setmetatable({}, { __index = f }).x end) end },
        { "async.pcall", function(f) see(select(2, async.pcall(f)), "caught") end },
        { "async.xpcall", function(f) async.xpcall(f, function(e) see(e, "handler") return e end) end },
        { "defer", function(f) async.create_task(function() local _ <close> = async.defer(f) end) end },
        { "timeout", function(f) catch(function() local t <close> = async.timeout(10) f() end) end },
      }
      async.run(function()
        local loop = async.get_running_loop()
        loop:set_exception_handler(function(_, context) see(context.exception, "reported") end)
        for _, place in ipairs(places) do
          local name, fn = place[1], place[2]
          fn(boom(name), name)
          for _ = 1, 3 do
            turns(3)
            collectgarbage()
            async.sleep(0.002)
          end
          eq(1, seen["<" .. name .. ">"], name .. " was seen")
        end
        -- a finaliser's error is a warning of Lua's: no place of ours, and none is disturbed
        setmetatable({}, { __gc = boom "finaliser" })
        collectgarbage()
        collectgarbage()
        turns(3)
        eq(nil, seen["<finaliser>"])
        -- the handler's own goes to the default one, with what it was about
        loop:set_exception_handler(boom "handler")
        loop:call_soon(boom "first")
        turns(3)
      end)
      local n = 0
      for name, count in pairs(seen) do
        eq(1, count, name)
        n = n + 1
      end
      eq(#places, n)
      -- nothing comes later
      for _ = 1, 4 do collectgarbage() end
    ]]
    assert.equal("", stdout)
    assert.equal(0, code, stderr)
    assert.truthy(stderr:find("Unhandled error in exception handler", 1, true), stderr)
    assert.equal(1, select(2, stderr:gsub("<handler>", "")), stderr)
    assert.equal(1, select(2, stderr:gsub("<first>", "")), stderr)
  end)

  it("signal handlers", function()
    local list = reported(function()
      local loop = async.get_running_loop()
      loop:add_signal_handler("SIGUSR1", function() error("in the signal handler", 0) end)
      io.popen("kill -USR1 $PPID"):close()
      async.sleep(0.02 * helper.slow)
      loop:remove_signal_handler("SIGUSR1")
    end)
    assert.same({ "in the signal handler" }, list)
  end)
end)

describe("without a handler", function()
  it("reports go to stderr, errors that cannot be printed too", function()
    local _, stderr, code = helper.execute [[
      async.run(function()
        for _, e in ipairs {
          "a string", 42, false, setmetatable({}, { __tostring = function() error("no") end }),
            async.ValueError("typed"),
        } do
          async.create_task(error, e, 0):set_name("failed with a " .. type(e))
        end
        async.create_task(error):set_name("failed with nil")
        turns(2)
        collectgarbage()
        async.sleep(0.005)
      end)
    ]]
    assert.equal(0, code, stderr)
    assert.equal(6, select(2, stderr:gsub("Task exception was never retrieved", "")), stderr)
    for _, text in ipairs {
      "a string", "42", "false", "ValueError: typed", "Error: nil", "name='failed with a table'",
        "name='failed with nil'",
    } do
      assert.truthy(stderr:find(text, 1, true), text .. " is not in " .. stderr)
    end
  end)

  it("a run that ends with reports pending still prints them, before it returns", function()
    local stdout, stderr, code = helper.execute [[
      async.run(function() async.create_task(error, "lost", 0) turns(1) end)
      io.stderr:write("run has returned\n")
    ]]
    assert.equal("", stdout)
    assert.equal(0, code)
    local lost, returned = stderr:find("\nlost", 1, true), stderr:find("run has returned", 1, true)
    assert.truthy(lost and lost < returned, stderr)
  end)
end)

describe("idle moments", function()
  it("do not collect again and again for an error that is kept", function()
    helper.plain [[
      async.run(function()
        local heap = {}
        for i = 1, h.scaled(300000, 30000) do heap[i] = { i } end
        local kept = async.create_task(error, "kept")
        turns(2)
        async.sleep(0.001)
        local from = os.clock()
        local wall = async.get_running_loop():time()
        for _ = 1, 200 do async.sleep(0.001) end
        local cpu = os.clock() - from
        wall = async.get_running_loop():time() - wall
        assert(cpu < 0.5 * wall, ("%.3f s of CPU in %.3f s"):format(cpu, wall))
        pcall(kept.result, kept)
        eq(true, #heap > 0)
      end)
    ]]
  end)
end)

describe("in debug mode", function()
  it("a request that was delivered and swallowed is told", function()
    local _ <close> = debugging()
    local task
    local list = reports(function()
      task = async.create_task(function() pcall(async.sleep, 60) return "kept going" end)
      turns(2)
      task:cancel()
      assert.equal("kept going", async.await(task))
      -- taken back, it is none
      local fine = async.create_task(function() pcall(async.sleep, 60) async.current_task():uncancel() end)
      turns(2)
      fine:cancel()
      async.await(fine)
    end)
    assert.equal(1, #list)
    assert.equal("Cancellation was swallowed", list[1].message)
    assert.equal("swallowed", list[1].kind)
    assert.equal(task, list[1].future)
    assert.equal(task, list[1].task)
  end)
end)

-- lunation.probe, the part that looks: live, site, events; and destroy. Not swept itself: #nosweep.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"
local testing = require "lunation.testing"

local refuses, turns = helper.refuses, helper.turns
local loop = async.get_running_loop()

describe("probe.live and site #nosweep", function()
  it("have rows with kind, text, place and object", function()
    local before = probe.sites(true)
    local task = async.create_task(async.sleep, 60)
    local timer = loop:call_later(60, print)
    local soon = loop:call_soon(function() end)
    local rows = {}
    for _, row in ipairs(probe.live()) do
      if row.object then rows[row.object] = row end
    end
    assert.equal("task", rows[task].kind)
    assert.equal("integer", math.type(rows[task].number))
    assert.is_nil(rows[task].awaits)
    assert.equal(tostring(task), rows[task].text)
    assert.matches("alive_spec.lua:%d+$", rows[task].where)
    assert.equal(rows[task].where, probe.site(task))
    assert.equal("timer", rows[timer].kind)
    assert.equal(rows[timer].where, probe.site(timer))
    assert.equal("callback", rows[soon].kind)
    local me = rows[async.current_task()]
    assert.is_true(me.awaits)
    for _, other in ipairs { 1, "x", {}, print, true } do assert.is_nil(probe.site(other)) end
    assert.is_nil(probe.site())
    task:cancel()
    timer:cancel()
    probe.sites(before)
    turns()
  end)

  it("the place is the caller's, not the library's", function()
    local before = probe.sites(true)
    local places = {}
    local function note() places[#places + 1] = probe.site(async.current_task()) end
    local line = debug.getinfo(1, "l").currentline
    async.gather { note }
    async.map({ 1 }, note)
    async.wait_for(note, 1)
    async.race { note }
    do
      local tg <close> = async.TaskGroup()
      tg:create_task(note)
    end
    for i, at in ipairs { 1, 2, 3, 4, 7 } do
      assert.matches(("alive_spec.lua:%d$"):format(line + at), places[i])
    end
    -- A task that a module of ours makes is the caller's.
    testing.explore(note, { runs = 1 })
    assert.matches(("alive_spec.lua:%d$"):format(line + 13), places[6])
    probe.sites(before)
  end)

  it("futures remember, too, and say it when their error is lost", function()
    local before = probe.sites(true)
    local line = debug.getinfo(1, "l").currentline + 2
    local reports = helper.reports(function()
      async.Future():set_exception(async.ValueError("lost"))
    end)
    probe.sites(before)
    assert.equal(1, #reports)
    assert.matches(("alive_spec.lua:%d$"):format(line), reports[1].source_traceback)
  end)

  it("without sites there are no places", function()
    local before = probe.sites(false)
    local timer = loop:call_later(60, print)
    assert.is_nil(probe.site(timer))
    timer:cancel()
    probe.sites(before)
  end)

  it("name streams and servers that a task accepted or opened", function()
    local net = require "lunation.net"
    local before = testing.leaks()
    local server = net.listen("127.0.0.1", 0)
    local client = net.connect("127.0.0.1", server:address().port)
    local accepted = server:accept()
    local line = debug.getinfo(1, "l").currentline
    local places = {}
    for _, row in ipairs(testing.leaks(before)) do places[row.where:match("%d+$")] = row.kind end
    assert.same({ [tostring(line - 3)] = "handle", [tostring(line - 2)] = "handle", [tostring(line - 1)] = "handle" },
      places)
    for _, x in ipairs { server, client, accepted } do x:close() end
    assert.is_true(helper.eventually(function() return loop:stats().handles == 0 end))
    probe.sites(false)
  end)

  it("also in a callback, in a finaliser, with 300 tasks", function()
    local tasks = {}
    for i = 1, 300 do tasks[i] = async.create_task(async.sleep, 60) end
    local n = #probe.live()
    assert.is_true(n >= 301)
    local done = async.Future()
    loop:call_soon(function() done:set_result(#probe.live()) end)
    assert.equal(n, async.await(done) )
    local seen
    setmetatable({}, { __gc = function() seen = #probe.live() end })
    collectgarbage()
    collectgarbage()
    assert.is_true(seen >= n)
    assert.is_true(collectgarbage("isrunning"))
    for _, task in ipairs(tasks) do task:cancel() end
    turns()
  end)

  it("leave a stopped collector stopped", function()
    collectgarbage("stop")
    probe.live()
    assert.is_false(collectgarbage("isrunning"))
    collectgarbage("restart")
  end)
end)

describe("probe.events #nosweep", function()
  local function difference(fn)
    local a = probe.events()
    pcall(fn)
    local b, d = probe.events(), {}
    for name in pairs(a) do d[#d + 1] = ("%s %d"):format(name, b[name] - a[name]) end
    table.sort(d)
    return table.concat(d, ", ")
  end

  it("count locks and scopes", function()
    assert.equal("acquired 0, closed 0, opened 0, released 0", difference(function() async.sleep(0) end))
    assert.equal("acquired 1, closed 0, opened 0, released 1", difference(function()
      local lock = async.Lock()
      lock:acquire()
      lock:release()
    end))
    assert.equal("acquired 1, closed 0, opened 0, released 0", difference(function() async.Semaphore(2):acquire() end))
    assert.equal("acquired 0, closed 3, opened 3, released 0", difference(function()
      local _ <close> = async.timeout(1)
      local _ <close> = async.defer(function() end)
      local tg <close> = async.TaskGroup()
      error("x")
    end))
    assert.equal("acquired 0, closed 0, opened 1, released 0", difference(function() async.defer(function() end) end))
  end)
end)

describe("probe.destroy #nosweep", function()
  it("closes a task wherever it waits; its closers run but cannot await", function()
    local function waiting(wait)
      local log = {}
      local task = async.create_task(function()
        local _ <close> = setmetatable({}, { __close = function()
          log[1] = "closed"
          log[2] = select(2, pcall(async.sleep, 0)).name
        end })
        wait()
      end)
      turns()
      probe.destroy(task)
      assert.same({ "closed", "RuntimeError" }, log)
      assert.is_true(task:cancelled())
      probe.destroy(task)
    end
    local lock, queue, future = async.Lock(), async.Queue(), async.Future()
    lock:acquire()
    for _, wait in ipairs {
      function() async.sleep(60) end,
      function() while true do async.sleep(0) end end,
      function() async.await(future) end,
      function() queue:get() end,
      function() lock:acquire() end,
      function() coroutine.yield() while true do coroutine.yield() end end,
      function() async.gather { function() async.sleep(0.001) end } end,
      function() async.wait_for(future, 60) end,
      function() local _ <close> = async.timeout(60) async.sleep(60) end,
      function() async.coroutine.wrap(function() async.sleep(60) end)() end,
      function() testing.wait_all_blocked() while true do testing.wait_all_blocked() end end,
    } do waiting(wait) end
    lock:release()
    assert.is_false(lock:locked())
    queue:put(1)
    assert.equal(1, queue:get_nowait())
    future:cancel()
    async.sleep(0.005)
  end)

  it("nothing keeps what a closed task has used", function()
    local f = async.Future()
    async.wait_for(function() end, 1)
    collectgarbage()
    collectgarbage()
    local timers = loop:stats().timers
    for _ = 1, 3 do
      local task = async.create_task(async.wait_for, f, 60)
      turns()
      probe.destroy(task)
    end
    turns()
    collectgarbage()
    collectgarbage()
    assert.equal(timers, loop:stats().timers)
    f:cancel()
  end)

  it("one that has not started, and its waiters hear of it", function()
    local ran
    local task = async.create_task(function() ran = true end)
    local waiter = async.create_task(function() return pcall(async.await, task) end)
    probe.destroy(task)
    assert.is_true(task:cancelled())
    local ok, e = async.await(waiter)
    assert.is_false(ok)
    assert.equal("CancelledError", e.name)
    assert.is_nil(ran)
  end)

  it("passes a lock that was granted to the next", function()
    local lock = async.Lock()
    lock:acquire()
    local got = {}
    local first = async.create_task(function() lock:acquire() got[1] = true end)
    local second = async.create_task(function() lock:acquire() got[2] = true lock:release() end)
    turns()
    lock:release()
    probe.destroy(first)
    async.await(second)
    assert.is_nil(got[1])
    assert.is_true(got[2])
  end)

  it("refuses the running one and what is no task", function()
    refuses("RuntimeError", "the task is running", probe.destroy, async.current_task())
    for _, bad in ipairs { 1, "x", {}, print, async.Future() } do
      refuses("TypeError", "Task expected", probe.destroy, bad)
    end
  end)
end)

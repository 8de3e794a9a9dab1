-- lunation.probe: clock, deadline, set_time, order, on_dry, and the end of a loop that is probed. The points have a
-- spec of their own, so have the watchdog and what only looks. Not swept itself, since there is one probe: #nosweep.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"
local testing = require "lunation.testing"

local refuses, turns = helper.refuses, helper.turns
local loop = async.get_running_loop()

describe("probe.clock #nosweep", function()
  local before

  before_each(function() before = probe.clock() end)
  after_each(function() probe.clock(before) end)

  it("tells the clock before, and nil only asks", function()
    probe.clock("real")
    assert.equal("real", probe.clock("virtual"))
    assert.equal("virtual", probe.clock())
    assert.equal("virtual", probe.clock(nil))
    assert.equal("virtual", probe.clock("held"))
    assert.equal("held", probe.clock("real"))
    for _, bad in ipairs { 1, true, {} } do refuses("TypeError", "string expected", probe.clock, bad) end
    for _, bad in ipairs { "", "Real", "virtually" } do
      refuses("ValueError", '"real", "virtual" or "held" expected', probe.clock, bad)
    end
    assert.equal("real", probe.clock())
  end)

  it("the time goes on from where it is", function()
    local last = loop:time()
    local clocks = { "virtual", "real", "held", "virtual", "held", "real" }
    for round = 1, 30 do
      probe.clock(clocks[round % #clocks + 1])
      assert.is_true(loop:time() >= last)
      last = loop:time()
      if probe.clock() == "held" then
        probe.set_time(last + 100)
      else
        async.sleep(0.0002)
      end
      assert.is_true(loop:time() > last)
      last = loop:time()
    end
  end)

  it("a switch makes no timer early and loses none", function()
    local clocks = { "real", "virtual", "held" }
    local due, fired, random = {}, 0, 12345
    local function draw(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return (random >> 8) % n
    end
    local function check(i)
      assert.is_true(loop:time() >= due[i] - 1e-9, "early: " .. i) -- a sum of doubles
      fired = fired + 1
    end
    local tasks = {}
    for i = 1, 60 do
      local delay = (draw(40) + 1) / 4000
      due[i] = loop:time() + delay
      if i % 3 == 0 then
        loop:call_later(delay, check, i)
      elseif i % 3 == 1 then
        tasks[#tasks + 1] = async.create_task(function()
          async.sleep(delay)
          check(i)
        end)
      else
        tasks[#tasks + 1] = async.create_task(function()
          local ok, e = async.pcall(async.wait_for, async.Future(), delay)
          assert(not ok and e.name == "TimeoutError")
          check(i)
        end)
      end
      -- Created, the sleeps begin in the next turn: their deadlines are later than noted, never earlier.
      probe.clock(clocks[draw(3) + 1])
      if probe.clock() == "held" and draw(2) == 0 then probe.set_time(loop:time() + draw(100) / 100000) end
      turns(1)
    end
    for _ = 1, 400 do
      if fired == 60 then break end
      local mode = clocks[draw(3) + 1]
      probe.clock(mode)
      if mode == "held" then
        local next = probe.deadline()
        if next then probe.set_time(math.max(next, loop:time())) end
        turns(2)
      elseif mode == "virtual" then
        async.sleep(0.0001)
      else
        turns(3)
      end
    end
    probe.clock("virtual")
    async.gather(tasks)
    async.sleep(1)
    assert.equal(60, fired)
  end)

  it("a real deadline that was set before virtual time passed comes at its own time", function()
    probe.clock("real")
    local from = loop:time()
    local task = async.create_task(async.sleep, 0.05)
    turns(1)
    probe.clock("held")
    probe.set_time(from + 0.04)
    probe.clock("real")
    local real = loop:time()
    async.await(task)
    assert.is_true(loop:time() >= from + 0.05)
    assert.is_true(loop:time() - real < 2)
  end)
end)

describe("probe.deadline and set_time #nosweep", function()
  it("are exact together", function()
    local clock <close> = testing.clock { autojump = false }
    for i = 1, 100 do
      local fired, early = false, false
      loop:call_later(i / 7 + 1e-9, function() fired = true end)
      probe.set_time(probe.deadline())
      turns(2)
      assert.is_true(fired)
      loop:call_later(i / 3, function() early = true end)
      probe.set_time(probe.deadline() - 1e-6)
      turns(2)
      assert.is_false(early)
      probe.set_time(probe.deadline())
      turns(2)
      assert.is_true(early)
    end
    assert.is_nil(probe.deadline())
    assert.equal("held", probe.clock())
    clock:close()
  end)

  it("are exact also where doubles are coarser than the clock", function()
    helper.plain [[
      local probe, testing = require "lunation.probe", require "lunation.testing"
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop = async.get_running_loop()
        local clock <close> = testing.clock { autojump = false }
        for _, far in ipairs { 1e6, 1e7, 1e8, 5e8 } do
          probe.set_time(far + 1 / 3)
          for i = 1, 300 do
            local fired = false
            loop:call_later(i / 7, function() fired = true end)
            probe.set_time(probe.deadline())
            turns(2)
            eq(true, fired, far .. " " .. i)
            local task = async.create_task(async.sleep, i / 3)
            testing.wait_all_blocked()
            clock:advance(i / 3)
            eq(true, task:done(), far .. " " .. i)
          end
        end
      end)
    ]]
  end)

  it("refuse what cannot be", function()
    do
      local _ <close> = testing.clock { autojump = false }
      local now = loop:time()
      refuses("ValueError", "has not passed", probe.set_time, now - 1)
      refuses("ValueError", "has not passed", probe.set_time, -math.huge)
      refuses("ValueError", "finite", probe.set_time, math.huge)
      refuses("ValueError", "finite", probe.set_time, 1e300)
      refuses("TypeError", "NaN", probe.set_time, 0 / 0)
      refuses("TypeError", "number expected, got no value", probe.set_time)
      probe.set_time(now)
      -- A number of seconds becomes nanoseconds, rounded up.
      assert.is_true(loop:time() >= now and loop:time() - now < 2e-9)
    end
    local before = probe.clock("real")
    refuses("RuntimeError", "the clock is real", probe.set_time, loop:time() + 1)
    probe.clock(before)
  end)
end)

describe("probe.order #nosweep", function()
  local before

  before_each(function() before = probe.order() end)
  after_each(function() probe.order(before) end)

  local function order(n)
    local log, tasks = {}, {}
    for i = 1, n do
      tasks[i] = function()
        async.sleep(0)
        log[#log + 1] = i
      end
    end
    async.gather(tasks)
    return table.concat(log, " ")
  end

  it("is first in, first out, or drawn from the seed, anew each time", function()
    probe.order(false)
    assert.equal("1 2 3 4 5 6 7 8", order(8))
    assert.is_false(probe.order(5))
    local five = order(8)
    assert.equal(5, probe.order(6))
    local six = order(8)
    assert.equal(6, probe.order(5))
    assert.equal(five, order(8))
    assert.not_equal(five, six)
    assert.equal(5, probe.order())
    assert.equal(5, probe.order(false))
    assert.is_false(probe.order())
    assert.equal("1 2 3 4 5 6 7 8", order(8))
  end)

  it("takes any integer and nothing else", function()
    for _, seed in ipairs { 0, -1, math.maxinteger, math.mininteger, 3.0 } do
      probe.order(seed)
      assert.equal(math.tointeger(seed), probe.order())
      order(5)
    end
    probe.order(false)
    for _, bad in ipairs { 1.5, "1", true, {} } do refuses("TypeError", "integer expected", probe.order, bad) end
    assert.is_false(probe.order())
  end)
end)

describe("probe.on_dry", function()
  it("may make something happen, again and again", function()
    helper.plain [[
      local probe = require "lunation.probe"
      local runner <close> = async.Runner { clock = "virtual" }
      local n = 0
      runner:run(function()
        local event
        eq(nil, probe.on_dry(function()
          n = n + 1
          event:set()
        end))
        for i = 1, 5 do
          event = async.Event()
          event:wait()
          eq(i, n)
        end
        local first = probe.on_dry(nil)
        eq("function", type(first))
        eq(nil, probe.on_dry(first))
        eq(first, probe.on_dry(print))
        eq(print, probe.on_dry())
        for _, bad in ipairs { 1, "x", {}, true } do refuses("TypeError", "function expected", probe.on_dry, bad) end
      end)
      eq(5, n)
    ]]
  end)

  it("that does not help, or throws, lets the run fail as without", function()
    helper.plain [[
      local probe = require "lunation.probe"
      for _, fn in ipairs { function() end, function() error("in on_dry") end } do
        local reports, calls = 0, 0
        local runner = async.Runner { clock = "virtual", exception_handler = function() reports = reports + 1 end }
        refuses("RuntimeError", "nothing is left to wait for", runner.run, runner, function()
          probe.on_dry(function() calls = calls + 1 fn() end)
          async.await(async.Future())
        end)
        eq(1, calls)
        eq(fn == nil or reports, reports)
        runner:close()
      end
    ]]
  end)

  it("is not called for a function that was replaced or taken away meanwhile", function()
    helper.plain [[
      local probe = require "lunation.probe"
      local runner <close> = async.Runner { clock = "virtual" }
      local log = {}
      runner:run(function()
        local f = async.Future()
        probe.on_dry(function()
          log[#log + 1] = "first"
          probe.on_dry(function()
            log[#log + 1] = "second"
            f:set_result(1)
          end)
          async.create_task(turns)
        end)
        async.await(f)
      end)
      eq("first second", table.concat(log, " "))
    ]]
  end)

  it("is asked on a held clock with timers, too, and may move the time", function()
    helper.plain [[
      local probe = require "lunation.probe"
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop = async.get_running_loop()
        probe.clock("held")
        local from = loop:time()
        probe.on_dry(function() probe.set_time(probe.deadline()) end)
        async.sleep(10)
        async.sleep(20)
        eq(30, math.floor(loop:time() - from + 0.5))
      end)
    ]]
  end)

  it("is not asked while a request or a handle is open", function()
    helper.plain [[
      local probe, net = require "lunation.probe", require "lunation.net"
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        probe.on_dry(function() error("dry") end)
        net.getaddrinfo("127.0.0.1")
        local server <close> = net.listen("127.0.0.1", 0)
        local client = async.create_task(function()
          local c <close> = net.connect("127.0.0.1", server:address().port)
          return c:read("a")
        end)
        do local s <close> = server:accept() s:write("x") end
        eq("x", async.await(client))
      end)
    ]]
  end)
end)

describe("lunation.probe", function()
  it("needs a running loop", function()
    helper.plain [[
      local probe = require "lunation.probe"
      for _, name in ipairs { "clock", "deadline", "order", "blocked", "on_dry", "watchdog", "start", "stop", "sites",
        "live" } do
        refuses("RuntimeError", "no running event loop", probe[name])
      end
      refuses("RuntimeError", "no running event loop", probe.set_time, 1)
      eq("table", type(probe.events()))
      refuses("TypeError", "Task expected", probe.destroy, nil)
    ]]
  end)

  it("is each loop's own, and goes with it", function()
    helper.plain [[
      local probe = require "lunation.probe"
      local a, b = async.Runner(), async.Runner { clock = "virtual", seed = 7 }
      a:run(function()
        probe.order(3)
        probe.sites(true)
        probe.on_dry(print)
        probe.start { at = 1 }
        probe.watchdog(1000, print)
      end)
      b:run(function()
        eq(7, probe.order())
        eq("virtual", probe.clock())
        eq(false, probe.sites())
        eq(nil, probe.on_dry(print))
        async.await(async.create_task(async.sleep, 1))
        eq(0, probe.stop().points)
      end)
      a:run(function()
        eq(3, probe.order())
        eq(true, probe.sites())
        eq(false, pcall(async.await, async.create_task(async.sleep, 1)))
        eq(1, probe.stop().points)
      end)
      a:close()
      b:close()
      for _ = 1, 20 do
        local loop = async.new_event_loop { clock = "virtual" }
        loop:run_until_complete(function()
          probe.on_dry(function() end)
          probe.watchdog(1000, print)
          probe.order(1)
        end)
        if math.random(2) == 1 then loop:close() end
      end
      collectgarbage()
    ]]
  end)

  it("survives a dropped loop with tasks in it", function()
    helper.plain [[
      local probe = require "lunation.probe"
      for i = 1, 30 do
        local loop = async.new_event_loop { clock = i % 2 == 0 and "virtual" or "real" }
        loop:create_task(function()
          probe.watchdog(1000, print)
          probe.sites(true)
          probe.blocked()
          async.await(async.Future())
        end)
        loop:create_task(function()
          for _ = 1, 3 do async.sleep(0) end
          loop:stop()
          async.sleep(0)
          probe.blocked()
        end)
        loop:run_forever()
        loop = nil
        collectgarbage()
      end
    ]]
  end)
end)

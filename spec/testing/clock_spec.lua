-- testing.clock: time that jumps, time that the test moves, and the clock that was there before coming back.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"
local testing = require "lunation.testing"

local refuses, turns = helper.refuses, helper.turns
local loop = async.get_running_loop()

local ends_all = {
  __close = function(log)
    for _, task in ipairs(log.tasks) do task:cancel() end
    log.tasks = nil
  end,
}

-- A list that fills as the given sleeps end; closable.
local function sleepers(clock, ...)
  local log, from = setmetatable({ tasks = {} }, ends_all), clock:now()
  for i, delay in ipairs { ... } do
    log.tasks[i] = async.create_task(function()
      async.sleep(delay)
      log[#log + 1] = ("%g at %g"):format(delay, math.floor((clock:now() - from) * 1e6 + 0.5) / 1e6)
    end)
  end
  return log
end

describe("testing.clock", function()
  local before

  before_each(function() before = probe.clock() end)
  after_each(function() assert.equal(before, probe.clock()) end)

  it("jumps when every task waits", function()
    local real = os.time()
    do
      local clock <close> = testing.clock()
      local from = clock:now()
      async.sleep(24 * 3600)
      assert.near(24 * 3600, clock:now() - from, 1e-3)
      assert.equal(loop:time(), clock:now())
    end
    assert.is_true(os.time() - real < 100)
  end)

  it("never takes time back when it is closed", function()
    local from = loop:time()
    do
      local _ <close> = testing.clock()
      async.sleep(1000)
    end
    local after = loop:time()
    assert.is_true(after - from >= 999.999)
    async.sleep(0.002)
    assert.is_true(loop:time() - after >= 0.0019999)
  end)

  it("stands still while a task is ready", function()
    local clock <close> = testing.clock()
    local from, woke = clock:now(), nil
    local task = async.create_task(function()
      async.sleep(0.001)
      woke = true
    end)
    for _ = 1, 500 do
      async.sleep(0)
      assert.is_nil(woke)
    end
    assert.equal(from, clock:now())
    async.await(task)
  end)

  it("without autojump moves by advance alone", function()
    local clock <close> = testing.clock { autojump = false }
    local log <close> = sleepers(clock, 3, 1, 2)
    testing.wait_all_blocked()
    assert.equal("", table.concat(log, ", "))
    clock:advance(1)
    assert.equal("1 at 1", table.concat(log, ", "))
    clock:advance(0.5)
    assert.equal("1 at 1", table.concat(log, ", "))
    clock:advance(2)
    assert.equal("1 at 1, 2 at 2, 3 at 3", table.concat(log, ", "))
  end)

  it("lets what fires on the way make timers that fire on the way", function()
    local clock <close> = testing.clock { autojump = false }
    local from, log = clock:now(), {}
    loop:call_later(1, function()
      log[#log + 1] = "a"
      loop:call_later(1, function() log[#log + 1] = "b" end)
      loop:call_later(2, function() log[#log + 1] = "c" end)
      loop:call_later(2.5, function() log[#log + 1] = "late" end)
    end)
    clock:advance(3)
    assert.same({ "a", "b", "c" }, log)
    assert.near(3, clock:now() - from, 1e-6)
    clock:advance(1)
    assert.equal("late", log[4])
  end)

  it("stops at each deadline until everybody waits", function()
    local clock <close> = testing.clock { autojump = false }
    local queue, log, from = async.Queue(), {}, clock:now()
    local worker = async.create_task(function()
      for item in queue:iter() do
        for _ = 1, 20 do async.sleep(0) end
        log[#log + 1] = ("%s at %.0f"):format(item, clock:now() - from)
      end
    end)
    loop:call_later(1, function() queue:put_nowait("x") end)
    loop:call_later(2, function() queue:put_nowait("y") end)
    clock:advance(10)
    assert.same({ "x at 1", "y at 2" }, log)
    queue:shutdown()
    async.await(worker)
  end)

  it("meets a sleep that began with it exactly", function()
    local clock <close> = testing.clock { autojump = false }
    for i = 1, 200 do
      local delay, done = i * 0.1 + 1 / 3, false
      async.create_task(function()
        async.sleep(delay)
        done = true
      end)
      testing.wait_all_blocked()
      clock:advance(delay - 1e-6)
      assert.is_false(done)
      clock:advance(1e-6 + 2e-9)
      assert.is_true(done)
      local task = async.create_task(async.sleep, delay)
      testing.wait_all_blocked()
      clock:advance(delay)
      assert.is_true(task:done(), delay)
    end
  end)

  it("advance(0) runs what is ready and what is due", function()
    local clock <close> = testing.clock { autojump = false }
    local log = {}
    loop:call_soon(function() log[#log + 1] = "soon" end)
    loop:call_later(0, function() log[#log + 1] = "now" end)
    loop:call_later(1e-9, function() log[#log + 1] = "later" end)
    async.create_task(function()
      turns(5)
      log[#log + 1] = "task"
    end)
    local from = clock:now()
    clock:advance(0)
    assert.same({ "soon", "now", "task" }, log)
    assert.equal(from, clock:now())
    clock:advance(1)
    assert.equal("later", log[4])
  end)

  it("advance works on a clock that jumps, too", function()
    local clock <close> = testing.clock()
    local log <close> = sleepers(clock, 1, 5)
    clock:advance(2)
    assert.equal("1 at 1", table.concat(log, ", "))
    async.sleep(3)
    turns(2)
    assert.equal("1 at 1, 5 at 5", table.concat(log, ", "))
  end)

  it("returns after what fired at the end has settled", function()
    local clock <close> = testing.clock { autojump = false }
    local steps = 0
    loop:call_later(1, function()
      async.create_task(function()
        for _ = 1, 50 do
          async.sleep(0)
          steps = steps + 1
        end
      end)
    end)
    clock:advance(1)
    assert.equal(50, steps)
  end)

  it("fires timeouts and wait_for at their time", function()
    local clock <close> = testing.clock { autojump = false }
    local ends = {}
    local function limited(name, fn)
      async.create_task(function()
        local ok, e = async.pcall(fn)
        ends[#ends + 1] = name .. " " .. (ok and "in time" or e.name)
      end)
    end
    limited("timeout", function()
      local _ <close> = async.timeout(2)
      async.sleep(5)
    end)
    limited("wait_for", function() async.wait_for(function() async.sleep(5) end, 3) end)
    limited("fast", function() async.wait_for(function() async.sleep(0.5) end, 1) end)
    testing.wait_all_blocked()
    clock:advance(1)
    assert.same({ "fast in time" }, ends)
    clock:advance(1)
    assert.same({ "fast in time", "timeout TimeoutError" }, ends)
    clock:advance(1)
    assert.same({ "fast in time", "timeout TimeoutError", "wait_for TimeoutError" }, ends)
  end)

  it("autojump can be switched", function()
    local clock <close> = testing.clock()
    assert.is_true(clock:autojump())
    assert.is_true(clock:autojump(false))
    assert.is_false(clock:autojump())
    local task = async.create_task(async.sleep, 10)
    testing.wait_all_blocked()
    assert.is_false(task:done())
    assert.is_false(clock:autojump(true))
    async.await(task)
    assert.equal("<Clock jumps>", tostring(clock))
    clock:autojump(false)
    assert.equal("<Clock stands>", tostring(clock))
    clock:close()
    assert.equal("<Clock closed>", tostring(clock))
  end)

  it("nests: each puts back the one before", function()
    local outer <close> = testing.clock { autojump = false }
    do
      local inner <close> = testing.clock()
      assert.equal("virtual", probe.clock())
      local from = outer:now()
      async.sleep(60)
      assert.near(60, outer:now() - from, 1e-6)
      assert.equal(inner:now(), outer:now())
    end
    assert.equal("held", probe.clock())
    outer:close()
    assert.equal(before, probe.clock())
    outer:close()
    assert.equal(before, probe.clock())
  end)

  it("closed before a newer one leaves the rest to that", function()
    local a, b, c = testing.clock { autojump = false }, testing.clock(), testing.clock { autojump = false }
    a:close()
    assert.equal("held", probe.clock())
    b:close()
    assert.equal("held", probe.clock())
    assert.is_true(c:autojump(true) == false)
    c:close()
    assert.equal(before, probe.clock())
  end)

  it("a clock under a newer one switches only what it leaves", function()
    local a, b = testing.clock(), testing.clock()
    a:autojump(false)
    assert.equal("virtual", probe.clock())
    b:close()
    assert.equal("held", probe.clock())
    a:close()
  end)

  it("is put back by an error and by a cancel in advance", function()
    assert.is_false(pcall(function()
      local _ <close> = testing.clock()
      error("out")
    end))
    assert.equal(before, probe.clock())
    local log = {}
    local task = async.create_task(function()
      local clock <close> = testing.clock { autojump = false }
      loop:call_later(1, function() log[#log + 1] = "fired" end)
      local held = async.Event()
      async.create_task(function()
        async.sleep(2)
        log[#log + 1] = "asks"
        log.task:cancel()
        held:set()
      end)
      clock:advance(10)
      log[#log + 1] = "not here"
    end)
    log.task = task
    assert.equal("CancelledError", select(2, pcall(async.await, task)).name)
    assert.same({ "fired", "asks" }, { table.unpack(log) })
    assert.equal(before, probe.clock())
  end)

  it("a cancelled advance leaves the time where it is, and the clock usable", function()
    local clock <close> = testing.clock { autojump = false }
    local from = clock:now()
    local mover = async.create_task(function() clock:advance(10) end)
    loop:call_later(4, function() mover:cancel() end)
    local other = async.create_task(async.sleep, 20)
    assert.is_false(pcall(async.await, mover))
    assert.near(4, clock:now() - from, 1e-6)
    clock:advance(16)
    assert.is_true(other:done())
  end)

  it("refuses bad arguments", function()
    local clock <close> = testing.clock { autojump = false }
    local from = clock:now()
    for _, bad in ipairs { "1", {}, true, print } do
      refuses("TypeError", { "#1 to 'advance'", "number expected" }, clock.advance, clock, bad)
    end
    refuses("TypeError", { "#1 to 'advance'", "number expected, got nil" }, clock.advance, clock)
    refuses("TypeError", "number expected, got NaN", clock.advance, clock, 0 / 0)
    refuses("ValueError", "got -1", clock.advance, clock, -1)
    refuses("ValueError", "got inf", clock.advance, clock, math.huge)
    refuses("TypeError", "boolean expected, got number", clock.autojump, clock, 1)
    for _, name in ipairs { "now", "advance", "autojump", "close" } do
      refuses("TypeError", "calling '" .. name .. "' on bad self (Clock expected", clock[name], {}, 1)
    end
    refuses("TypeError", { "#1 to 'clock'", "table expected, got number" }, testing.clock, 1)
    refuses("TypeError", "autojump: boolean expected, got string", testing.clock, { autojump = "no" })
    assert.equal("held", probe.clock())
    assert.equal(from, clock:now())
  end)

  it("closed refuses everything but close", function()
    local clock = testing.clock()
    clock:close()
    refuses("RuntimeError", "now: the clock is closed", clock.now, clock)
    refuses("RuntimeError", "advance: the clock is closed", clock.advance, clock, 1)
    refuses("RuntimeError", "autojump: the clock is closed", clock.autojump, clock)
    clock:close()
  end)

  it("is moved by one task at a time", function()
    local clock <close> = testing.clock { autojump = false }
    local inner <close> = testing.clock { autojump = false }
    local mover = async.create_task(function() clock:advance(10) end)
    turns(2)
    refuses("RuntimeError", "another task is moving the clock", clock.advance, clock, 1)
    refuses("RuntimeError", "another task is moving the clock", inner.advance, inner, 1)
    async.await(mover)
    inner:advance(1)
  end)

  it("closed under an advance ends it", function()
    local clock <close> = testing.clock { autojump = false }
    local mover = async.create_task(function() clock:advance(10) end)
    loop:call_later(1, function() clock:close() end)
    local e = refuses("RuntimeError", "the clock was closed meanwhile", async.await, mover)
    assert.is_nil(e.cause)
  end)

  it("advance needs a task", function()
    local clock <close> = testing.clock { autojump = false }
    local done = async.Future()
    loop:call_soon(function()
      local results = table.pack(pcall(clock.advance, clock, 1))
      if not done:done() then done:set_result(table.unpack(results)) end
    end)
    local ok, e = async.await(done)
    assert.is_false(ok)
    assert.matches("outside a task", e.message, 1, true)
    local sorted, why = pcall(table.sort, { 1, 2, 3 }, function() clock:advance(1) end)
    assert.is_false(sorted)
    assert.matches("cannot yield", why.message, 1, true)
    clock:advance(1)
  end)

  it("real I/O happens while it stands", function()
    local net = require "lunation.net"
    local clock <close> = testing.clock()
    local from = clock:now()
    local server <close> = net.listen("127.0.0.1", 0)
    local client = async.create_task(function()
      local c <close> = net.connect("127.0.0.1", server:address().port)
      c:write("ping\n")
      return c:read("l")
    end)
    do
      local s <close> = server:accept()
      assert.equal("ping", s:read("l"))
      s:write("pong\n")
      assert.equal("pong", async.await(client))
    end
    assert.is_true(clock:now() - from < 1)
  end)
end)

describe("testing.clock and other loops", function()
  it("under the stock interpreter, in loops that ran before, on virtual ones", function()
    helper.plain [[
      local testing, probe = require "lunation.testing", require "lunation.probe"
      local function day(name)
        local loop = async.get_running_loop()
        local before, from = probe.clock(), loop:time()
        do
          local clock <close> = testing.clock()
          async.sleep(86400)
          clock:autojump(false)
          local task = async.create_task(async.sleep, 10)
          turns()
          clock:advance(10)
          eq(true, task:done(), name)
        end
        eq(before, probe.clock(), name)
        eq(true, loop:time() - from >= 86410, name)
      end
      async.run(day, "run")
      local real <close> = async.Runner()
      local virtual <close> = async.Runner { clock = "virtual", seed = 3 }
      for i = 1, 3 do
        real:run(day, "real " .. i)
        virtual:run(day, "virtual " .. i)
      end
      local clock = real:run(function() return testing.clock() end)
      virtual:run(function()
        refuses("RuntimeError", "another loop's", clock.advance, clock, 1)
        refuses("RuntimeError", "another loop's", clock.now, clock)
        local own <close> = testing.clock { autojump = false }
        own:advance(1)
      end)
      refuses("RuntimeError", "no running event loop", testing.clock)
      refuses("RuntimeError", "no running event loop", clock.now, clock)
      real:run(function()
        eq("virtual", probe.clock())
        async.sleep(3600)
        clock:close()
        eq("real", probe.clock())
      end)
    ]]
  end)

  it("closed with its loop, or after it", function()
    helper.plain [[
      local testing = require "lunation.testing"
      for _ = 1, 2 do
        local clock
        async.run(function()
          clock = testing.clock { autojump = false }
          async.create_task(function()
            local inner <close> = testing.clock()
            async.sleep(math.huge)
          end)
          turns()
        end)
        clock:close()
        local loop = async.new_event_loop()
        local task = loop:create_task(function()
          local _ <close> = testing.clock()
          async.await(async.Future())
        end)
        loop:call_soon(loop.stop, loop)
        loop:run_forever()
        loop:set_exception_handler(function() end)
        loop:close()
        eq(true, task:cancelled())
      end
    ]]
  end)

  it("held with nobody left to move it ends the run with an error that says so", function()
    local _, stderr, code = helper.command [[
      local clock <close> = require "lunation.testing".clock { autojump = false }
      async.sleep(1)
    ]]
    assert.equal(1, code)
    assert.matches("nothing is left to wait for", stderr, 1, true)
    assert.matches("the clock stands still", stderr, 1, true)
  end)
end)

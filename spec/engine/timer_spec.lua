-- Timers: never early, in order, gone when cancelled; and the clock that jumps.
local async = require "lunation"
local helper = require "spec.helper"


describe("timers", function()
  it("run in the order of their deadlines, equal ones in the order of scheduling", function()
    helper.plain [[
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop = async.get_running_loop()
        local n, log, from = h.scaled(20000, 2000), {}, loop:time()
        math.randomseed(42)
        for i = 1, n do
          local delay = math.random(0, 500) / 4
          loop:call_later(delay, function()
            assert(loop:time() >= from + delay)
            log[#log + 1] = { delay, i }
          end)
        end
        async.sleep(200)
        eq(n, #log)
        for i = 2, n do
          assert(log[i - 1][1] < log[i][1] or log[i - 1][1] == log[i][1] and log[i - 1][2] < log[i][2])
        end
      end)
    ]]
  end)

  it("equal deadlines by call_at are served in order, sleepers among them", function()
    helper.plain [[
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop, log = async.get_running_loop(), {}
        local at = loop:time() + 1
        loop:call_at(at, function() log[#log + 1] = "a" end)
        local sleeper = async.create_task(function() async.sleep(1) log[#log + 1] = "s" end)
        async.sleep(0)
        loop:call_at(at, function() log[#log + 1] = "b" end)
        loop:call_later(1, function() log[#log + 1] = "c" end)
        async.await(sleeper)
        async.sleep(0)
        eq("a s b c", table.concat(log, " "))
      end)
    ]]
  end)

  it("are never early", function()
    local loop = async.get_running_loop()
    local n, early, left = 200, 0, 200
    local all = async.Future()
    for i = 1, n do
      local delay = i * 0.00007
      local due = loop:time() + delay
      loop:call_later(delay, function()
        if loop:time() < due - 1e-9 then early = early + 1 end -- a sum of floats is not exact
        left = left - 1
        if left == 0 then all:set_result() end
      end)
    end
    async.await(all)
    assert.equal(0, early)
  end)

  it("with zero, a negative or a past time come after what is ready", function()
    local loop = async.get_running_loop()
    local log = {}
    loop:call_later(0, function() log[#log + 1] = "zero" end)
    loop:call_later(-5, function() log[#log + 1] = "negative" end)
    loop:call_later(-math.huge, function() log[#log + 1] = "minus infinity" end)
    loop:call_soon(function() log[#log + 1] = "soon" end)
    assert.is_true(helper.eventually(function() return #log == 4 end))
    assert.equal("soon", log[1])
    local past = false
    loop:call_at(loop:time() - 1000, function() past = true end)
    loop:call_at(-1, function() past = past and true end)
    assert.is_true(helper.eventually(function() return past end))
  end)

  it("with math.huge never come", function()
    local loop = async.get_running_loop()
    local a = loop:call_later(math.huge, error, "must not run")
    local b = loop:call_at(math.huge, error, "must not run")
    local c = loop:call_later(1e300, error, "must not run")
    async.sleep(0.001)
    for _, handle in ipairs { a, b, c } do handle:cancel() end
  end)

  it("cancelled, leave the heap and let their function go at once", function()
    local loop = async.get_running_loop()
    local before = loop:stats().timers
    local weak = setmetatable({}, { __mode = "k" })
    local handles = {}
    for i = 1, 1000 do
      local fn = function() error("must not run") end
      weak[fn] = true
      handles[i] = loop:call_later(1000 + i % 7, fn)
    end
    assert.equal(before + 1000, loop:stats().timers)
    for i = 1, 1000 do handles[i * 7 % 1001 == 0 and 1 or i * 7 % 1001]:cancel() end
    for _, handle in ipairs(handles) do handle:cancel() end
    assert.equal(before, loop:stats().timers)
    collectgarbage()
    assert.is_nil(next(weak))
  end)

  it("do not pile up when wait_for succeeds", function()
    helper.plain [[
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop = async.get_running_loop()
        local done = async.Future()
        done:set_result(1)
        local before
        for i = 1, h.scaled(100000, 5000) do
          async.wait_for(function() return 1 end, 1e6)
          if i == 1000 then
            collectgarbage() collectgarbage()
            before = collectgarbage("count")
          end
        end
        collectgarbage() collectgarbage()
        assert(collectgarbage("count") < before + 200)
        eq(0, loop:stats().timers)
      end)
    ]]
  end)

  it("set and cancelled in callbacks of each other", function()
    local loop = async.get_running_loop()
    local log = {}
    local b
    loop:call_later(0.001, function()
      log[#log + 1] = "a"
      b:cancel()
      loop:call_later(0.001, function() log[#log + 1] = "c" end)
    end)
    b = loop:call_later(0.0011, function() log[#log + 1] = "b" end)
    assert.is_true(helper.eventually(function() return log[#log] == "c" end))
    -- a slow machine may have had both due in one turn; the cancelled one runs in no case after "a"
    assert.same({ "a", "c" }, log)
  end)
end)

describe("the virtual clock", function()
  it("jumps to the next deadline when nothing is ready", function()
    helper.plain [[
      local from = os.time()
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local loop = async.get_running_loop()
        local t0 = loop:time()
        async.sleep(86400)
        eq(t0 + 86400, loop:time())
        turns(100)
        eq(t0 + 86400, loop:time())
        local e = thrown(async.wait_for, async.Future(), 1e7)
        eq("TimeoutError", e.name)
        async.gather { function() async.sleep(3) end, function() async.sleep(1) async.sleep(1) end }
        eq(t0 + 86400 + 1e7 + 3, loop:time())
      end)
      assert(os.time() - from < 10)
    ]]
  end)

  it("with nothing at all to wait for fails at once, and names who waits", function()
    helper.plain [[
      local runner <close> = async.Runner { clock = "virtual" }
      local stuck
      local e = refuses("RuntimeError", "'stuck one'", runner.run, runner, function()
        stuck = async.create_task(async.await, async.Future()):set_name("stuck one")
        async.await(async.Future())
      end)
      eq("runs again", runner:run(function() return async.sleep(5, "runs again") end))
      stuck:cancel()
      local loop = async.new_event_loop { clock = "virtual" }
      refuses("RuntimeError", {}, loop.run_forever, loop)
      loop:close()
    ]]
  end)
end)

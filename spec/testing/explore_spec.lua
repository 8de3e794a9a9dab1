-- testing.explore: it finds what depends on the order of tasks, names the seed, and the seed replays it.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"
local testing = require "lunation.testing"

local refuses, thrown, turns = helper.refuses, helper.thrown, helper.turns
local loop = async.get_running_loop()

-- An order dependence: right if the first task runs first.
local function lost_update()
  local n = 0
  local function increment()
    local seen = n
    async.sleep(0)
    n = seen + 1
  end
  async.gather { increment, function() async.sleep(0) increment() end }
  assert(n == 2, "lost update")
end

-- The order in which ten tasks get through a few turns.
local function trace(log)
  local tasks = {}
  for i = 1, 10 do
    tasks[i] = function()
      for _ = 1, 4 do
        log[#log + 1] = i
        async.sleep(i % 3 == 0 and 0.001 or 0)
      end
    end
  end
  async.gather(tasks)
end

local function state()
  local dry = probe.on_dry()
  probe.on_dry(dry)
  return { probe.order(), probe.clock(), loop:get_exception_handler() or false, #async.all_tasks(), dry or false }
end

-- A test that must leave order, clock, handler and tasks as they were.
local function keeps(name, fn)
  it(name, function()
    local before = state()
    fn(before)
    assert.same(before, state())
  end)
end

-- Small, for sweeps; the many runs of the others would be swept for hours.
describe("testing.explore in small", function()
  keeps("runs", function()
    testing.explore(function()
      async.gather({ function() async.sleep(1) end, function() async.sleep(2) end }, { cancel_on_error = true })
    end, { runs = 3, seed = 1 })
  end)

  keeps("finds what a run has left behind", function()
    local ok, e = async.pcall(testing.explore, function()
      async.create_task(async.sleep, 10)
      loop:call_later(5, print)
      async.sleep(1)
    end, { runs = 2, seed = 1 })
    assert.is_false(ok)
    assert.equal("Error", e.name)
  end)

  keeps("finds a run that is stuck", function()
    local ok, e = async.pcall(testing.explore, function() async.await(async.Future()) end, { runs = 2, seed = 1 })
    assert.is_false(ok)
    assert.equal("Error", e.name)
  end)
end)

describe("testing.explore #nosweep", function()
  keeps("runs a hundred times unless told otherwise", function()
    local n = 0
    assert.equal(100, testing.explore(function() n = n + 1 end))
    assert.equal(100, n)
    assert.equal(7, testing.explore(function() n = n + 1 end, { runs = 7 }))
    assert.equal(107, n)
    assert.equal(1, testing.explore(function() end, { runs = 1.0 }))
    assert.equal(3, testing.explore(setmetatable({}, { __call = function() end }), { runs = 3 }))
  end)

  keeps("finds what depends on the order, and the seed replays it", function()
    local e = refuses("Error", "lost update", testing.explore, lost_update, { runs = 1000 })
    assert.matches("lost update", tostring(e.cause), 1, true)
    assert.matches(("run %d of 1000 failed (seed %d)"):format(e.run, e.seed), e.message, 1, true)
    local replay = ("replay: testing.explore(fn, {seed = %d, runs = 1})"):format(e.seed)
    assert.equal(replay, e.message:match("[^\n]*$"))
    for _ = 1, 5 do
      turns(3)
      local again = refuses("Error", "lost update", testing.explore, lost_update, { seed = e.seed, runs = 1 })
      assert.equal(1, again.run)
      assert.equal(e.seed, again.seed)
    end
  end)

  keeps("the same seeds give the same orders, other seeds others", function()
    local function orders(seed, runs)
      local list = {}
      testing.explore(function()
        local log = {}
        trace(log)
        list[#list + 1] = table.concat(log, " ")
      end, { seed = seed, runs = runs })
      return list
    end
    local five = orders(500, 5)
    assert.same(five, orders(500, 5))
    for i = 1, 5 do assert.same({ five[i] }, orders(500 + i - 1, 1)) end
    local different = {}
    for _, order in ipairs(orders(1, 50)) do different[order] = true end
    local n = 0
    for _ in pairs(different) do n = n + 1 end
    assert.is_true(n > 45, n)
  end)

  keeps("takes the loop's own seed, if it has one", function()
    local order = probe.order(77)
    local e = thrown(testing.explore, function() error("x") end)
    assert.equal(77, e.seed)
    assert.equal(77, probe.order())
    probe.order(order)
    local a, b = thrown(testing.explore, error), thrown(testing.explore, error)
    assert.equal("integer", math.type(a.seed))
    assert.is_true(a.seed >= 0 and b.seed >= 0)
  end)

  keeps("runs on the virtual clock, or on the real one", function()
    local clocks, from = {}, os.time()
    testing.explore(function()
      async.sleep(3600)
      clocks[#clocks + 1] = probe.clock()
    end, { runs = 20 })
    assert.is_true(os.time() - from < 100)
    assert.equal(20, #clocks)
    assert.equal("virtual", clocks[1])
    testing.explore(function() clocks[1] = probe.clock() end, { runs = 1, clock = "real" })
    assert.equal("real", clocks[1])
    local e = thrown(testing.explore, function() error("x") end, { runs = 1, seed = -3, clock = "real" })
    assert.equal('replay: testing.explore(fn, {seed = -3, runs = 1, clock = "real"})', e.message:match("[^\n]*$"))
  end)

  keeps("a run in which nothing is left to wait for fails with the tree", function()
    local closed
    local e = refuses("Error", { "nothing is left to wait for", "<Future pending>", "explore_spec.lua" },
      testing.explore, function()
        local _ <close> = async.defer(function() closed = true end)
        async.gather { function() async.Event():wait() end, function() async.await(async.Future()) end }
      end, { seed = 9 })
    assert.equal("RuntimeError", e.cause.name)
    assert.is_true(closed)
    assert.equal(9, e.seed)
  end)

  keeps("also a run that does not let itself be cancelled then", function()
    local stubborn = 0
    refuses("Error", "nothing is left to wait for", testing.explore, function()
      while true do
        stubborn = stubborn + 1
        pcall(async.await, async.Future())
      end
    end, { seed = 9 })
    assert.is_true(stubborn >= 2)
    refuses("Error", "nothing is left to wait for", testing.explore, function()
      pcall(async.await, async.Future())
    end)
  end)

  keeps("a deadlock between ends of a stream is found", function()
    local e = refuses("Error", "nothing is left to wait for", testing.explore, function()
      local a, b = testing.stream_pair()
      local _ <close> = a
      local _ <close> = b
      async.gather { function() a:read("l") end, function() b:read("l") end }
    end)
    assert.equal(1, e.run)
  end)

  keeps("what a run leaves behind is a failure, with its place, and is ended", function()
    local sites = testing.sites(true)
    local picture, cleaned = testing.leaks(), nil
    local e = refuses("Error", { "left behind:", "task <Task pending", "made at", "explore_spec.lua" },
      testing.explore, function()
        async.create_task(function()
          local _ <close> = async.defer(function() async.sleep(0.5) cleaned = true end)
          async.sleep(10)
        end)
        async.sleep(1)
      end, { runs = 5 })
    assert.equal(1, e.run)
    assert.is_true(cleaned)
    assert.equal("", tostring(testing.leaks(picture)))
    refuses("Error", { "left behind:", "timer <Handle timer print>" }, testing.explore,
      function() loop:call_later(10, print) end)
    refuses("Error", { "left behind:", "callback" }, testing.explore,
      function() async.Future():add_done_callback(function() end) end)
    refuses("Error", { "left behind:", "task" }, testing.explore,
      function() async.create_task(function() while true do pcall(async.sleep, 1) end end) end)
    local a, b
    refuses("Error", { "left behind:", "handle memory" }, testing.explore, function() a, b = testing.stream_pair() end)
    a:close()
    b:close()
    testing.sites(sites)
    assert.equal("", tostring(testing.leaks(picture)))
  end)

  keeps("what is about to end is not left behind", function()
    assert.equal(20, testing.explore(function()
      async.create_task(function() turns(20) end)
      loop:call_soon(function() loop:call_soon(function() end) end)
      local task = async.create_task(function()
        pcall(async.sleep, 10)
        turns(5)
      end)
      async.sleep(0)
      task:cancel()
    end, { runs = 20 }))
  end)

  keeps("an error that nobody retrieved is a failure", function()
    local e = refuses("Error", "forgotten", testing.explore, function()
      async.create_task(function() error(async.ValueError("forgotten")) end)
      async.sleep(1)
    end, { runs = 3, seed = 4 })
    assert.equal("ValueError", e.cause.name)
    assert.equal(1, e.run)
    -- Also one that no idle moment has found.
    for seed = 1, 20 do
      e = refuses("Error", "forgotten", testing.explore, function()
        async.create_task(function() error(async.ValueError("forgotten")) end)
        turns(3)
      end, { runs = 3, seed = seed })
      assert.equal(1, e.run)
    end
    e = refuses("Error", { "Exception in callback", "in a callback" }, testing.explore, function()
      loop:call_soon(function() error("in a callback") end)
      async.sleep(1)
    end)
    assert.matches("in a callback", tostring(e.cause.cause), 1, true)
  end)

  keeps("the error of the run goes before what else is wrong", function()
    local e = refuses("Error", "first", testing.explore, function()
      async.create_task(async.sleep, 100)
      async.create_task(error, "forgotten")
      async.sleep(1)
      error("first")
    end)
    assert.is_nil(e.message:find("left behind", 1, true))
    turns()
  end)

  keeps("takes any error", function()
    for _, value in ipairs { false, 42, "text", {}, async.ValueError("v") } do
      local e = thrown(testing.explore, function() error(value, 0) end)
      assert.equal("Error", e.name)
      if value ~= false then assert.equal(value, e.cause) end
    end
    local e = thrown(testing.explore, function() error(nil) end)
    assert.equal("Error: nil", tostring(e.cause))
    e = thrown(testing.explore, function() async.current_task():cancel() async.sleep(1) end)
    assert.equal("CancelledError", e.cause.name)
    assert.is_true(async.isinstance(e, async.Error))
  end)

  keeps("cancelled in the middle it ends the run first", function(before)
    local log = {}
    local task = async.create_task(function()
      testing.explore(function()
        log[#log + 1] = "began"
        local _ <close> = async.defer(function()
          async.sleep(5)
          log[#log + 1] = "cleaned"
        end)
        async.create_task(function()
          local _ <close> = async.defer(function() log[#log + 1] = "child" end)
          async.sleep(1000)
        end)
        loop:call_later(1000, print)
        async.sleep(100)
      end, { seed = 1 })
    end)
    local clock <close> = testing.clock()
    turns(10)
    task:cancel("enough")
    local e = thrown(async.await, task)
    assert.equal("CancelledError", e.name)
    assert.same({ "began", "cleaned", "child" }, log)
    clock:close()
    assert.same(before, state())
  end)

  keeps("cancelled between two runs, at any moment", function(before)
    for n = 1, 30 do
      local task = async.create_task(testing.explore, function() turns(2) end, { runs = 1000, seed = n })
      turns(n)
      task:cancel()
      assert.equal("CancelledError", thrown(async.await, task).name)
      assert.same(before, state())
    end
  end)

  keeps("cancelled while it looks at what a run has left, it ends that", function()
    local picture = testing.leaks()
    for n = 2, 110, 9 do
      local task = async.create_task(testing.explore, function()
        async.create_task(async.sleep, 10)
        loop:call_later(10, print)
      end, { seed = n })
      turns(n)
      task:cancel()
      local e = thrown(async.await, task)
      assert.is_true(e.name == "CancelledError" or e.seed == n, tostring(e))
      assert.equal("", tostring(testing.leaks(picture)))
    end
  end)

  keeps("a result that came with the cancel does not swallow it", function()
    local me
    local task = async.create_task(function()
      me = async.current_task()
      return testing.explore(function() me:cancel() end, { runs = 10 })
    end)
    assert.equal("CancelledError", thrown(async.await, task).name)
  end)

  keeps("a request from before goes before the first run", function()
    local n = 0
    local task = async.create_task(function()
      async.current_task():cancel()
      testing.explore(function() n = n + 1 end)
    end)
    assert.equal("CancelledError", thrown(async.await, task).name)
    assert.equal(0, n)
    -- One that was delivered and survived does not concern it.
    task = async.create_task(function()
      async.current_task():cancel()
      pcall(async.sleep, 1)
      return testing.explore(function() async.sleep(0) end)
    end)
    assert.equal(100, async.await(task))
  end)

  keeps("one at a time, in a task, with good arguments", function()
    local e = refuses("Error", "another one is in progress", testing.explore,
      function() testing.explore(function() end) end)
    assert.equal("RuntimeError", e.cause.name)
    for _, bad in ipairs { 1, "f", {}, true } do
      refuses("TypeError", { "#1 to 'explore'", "function expected" }, testing.explore, bad)
    end
    refuses("TypeError", "function expected, got nil", testing.explore)
    refuses("TypeError", { "#2 to 'explore'", "table expected, got number" }, testing.explore, print, 5)
    refuses("TypeError", "runs: number expected, got string", testing.explore, print, { runs = "5" })
    refuses("TypeError", "runs: integer expected, got 1.5", testing.explore, print, { runs = 1.5 })
    refuses("ValueError", "runs: 0 is less than 1", testing.explore, print, { runs = 0 })
    refuses("TypeError", "seed: integer expected", testing.explore, print, { seed = 0.5 })
    refuses("TypeError", "seed: number expected", testing.explore, print, { seed = true })
    refuses("ValueError", 'clock: "real" or "virtual" expected, got "held"', testing.explore, print, { clock = "held" })
    refuses("TypeError", "clock: string expected", testing.explore, print, { clock = 1 })
    local done = async.Future()
    loop:call_soon(function()
      local results = table.pack(pcall(testing.explore, print))
      if not done:done() then done:set_result(table.unpack(results)) end
    end)
    local ok, why = async.await(done)
    assert.is_false(ok)
    assert.matches("outside a task", why.message, 1, true)
  end)

  keeps("seeds reach to the ends of the integers", function()
    for _, seed in ipairs { math.maxinteger, math.mininteger, 0, -1 } do
      assert.equal(2, testing.explore(function() turns(1) end, { seed = seed, runs = 2 }))
    end
  end)

  keeps("inside of a held clock, and with clocks of its own", function()
    local clock <close> = testing.clock { autojump = false }
    assert.equal(3, testing.explore(function()
      async.sleep(10)
      local own <close> = testing.clock { autojump = false }
      local task = async.create_task(async.sleep, 5)
      turns(1)
      own:advance(5)
      async.await(task)
    end, { runs = 3 }))
    assert.equal("held", probe.clock())
    clock:close()
  end)

  it("puts the dry function of before back", function()
    helper.plain [[
      local probe, testing = require "lunation.probe", require "lunation.testing"
      async.run(function()
        local function mine() end
        probe.on_dry(mine)
        thrown(testing.explore, function() async.await(async.Future()) end)
        eq(mine, probe.on_dry())
      end)
    ]]
  end)

  keeps("under the stock interpreter", function()
    helper.plain [[
      local testing = require "lunation.testing"
      async.run(function()
        eq(100, testing.explore(function() async.gather { function() async.sleep(1) end, turns } end))
        local e = thrown(testing.explore, function()
          local n = 0
          local function add() local seen = n async.sleep(0) n = seen + 1 end
          async.gather { add, function() async.sleep(0) add() end }
          assert(n == 2)
        end)
        eq("Error", e.name)
      end)
      local runner <close> = async.Runner { seed = 12345, clock = "virtual" }
      for _ = 1, 2 do
        eq(12345, runner:run(function() return thrown(testing.explore, error).seed end))
      end
      refuses("RuntimeError", "no running event loop", testing.explore, print)
    ]]
  end)

  keeps("a KeyboardInterrupt passes", function()
    local _, stderr, code = helper.execute [[
      local testing = require "lunation.testing"
      local ok, e = pcall(async.run, testing.explore, function() error(async.KeyboardInterrupt()) end)
      eq("KeyboardInterrupt", e.name)
    ]]
    assert.equal("", stderr)
    assert.equal(0, code)
  end)
end)

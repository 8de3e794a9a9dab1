-- Barrier: rounds of n, places, and the four states.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, started, thrown = support.turns, support.started, support.thrown

local function sorted(list)
  local copy = table.move(list, 1, #list, 1, {})
  table.sort(copy)
  return copy
end

describe("Barrier", function()
  it("lets all through when the last one comes, with different places", function()
    local barrier = async.Barrier(3)
    assert.equal(3, barrier.parties)
    local a, b = started(barrier.wait, barrier), started(barrier.wait, barrier)
    assert.equal(2, barrier.n_waiting)
    assert.is_false(a:done() or b:done())
    assert.equal(2, barrier:wait())
    assert.equal(0, barrier.n_waiting)
    assert.same({ 0, 1 }, sorted(async.gather { a, b }))
    assert.is_false(barrier.broken)
  end)

  it("is used round after round, and nobody slips into the round before", function()
    local barrier, passed, early = async.Barrier(3), {}, false
    local function runner()
      for round = 1, 20 do
        barrier:wait()
        passed[round] = (passed[round] or 0) + 1
        if round > 1 and passed[round - 1] < 3 then early = true end
      end
    end
    async.gather { runner, runner, runner }
    assert.is_false(early)
    for round = 1, 20 do assert.equal(3, passed[round]) end
  end)

  it("of one never suspends, but gives way now and then", function()
    local barrier, ran = async.Barrier(1), false
    local task = async.create_task(function() ran = true end)
    assert.equal(0, barrier:wait())
    assert.is_false(ran)
    for _ = 1, 400 do assert.equal(0, barrier:wait()) end
    assert.is_true(ran)
    async.await(task)
  end)

  it("serves more tasks than parties in rounds", function()
    local barrier, places, tasks = async.Barrier(3), {}, {}
    for i = 1, 9 do
      tasks[i] = async.create_task(function()
        local place = barrier:wait()
        places[#places + 1] = place
      end)
    end
    async.gather(tasks)
    assert.same({ 0, 0, 0, 1, 1, 1, 2, 2, 2 }, sorted(places))
  end)

  it("goes on without a waiter that is cancelled, unbroken, and places stay different", function()
    local barrier = async.Barrier(3)
    local a, b = started(barrier.wait, barrier), started(barrier.wait, barrier)
    a:cancel()
    assert.equal(1, barrier.n_waiting) -- it has left at once: the next one does not fill the round
    local c = async.create_task(barrier.wait, barrier)
    turns()
    assert.is_true(a:cancelled())
    assert.is_false(c:done())
    local last = barrier:wait()
    assert.same({ 0, 1, 2 }, sorted { last, table.unpack(async.gather { b, c }) })
    assert.is_false(barrier.broken)
  end)

  it("has been passed when the last one has come: value first", function()
    local barrier, place = async.Barrier(2), nil
    local task = started(function()
      place = barrier:wait()
      async.sleep(60)
    end)
    barrier:wait()
    task:cancel()
    thrown(async.CancelledError, async.await, task)
    assert.equal(0, place)
  end)

  it("keeps those outside that come while it drains; a cancelled one of them is gone", function()
    local barrier = async.Barrier(2)
    local a = started(barrier.wait, barrier)
    barrier:wait()
    assert.equal(0, barrier.n_waiting)
    local b = async.create_task(barrier.wait, barrier) -- in the same turn, a has not left
    local c = async.create_task(barrier.wait, barrier)
    async.gather { a, b, c }
    a = started(barrier.wait, barrier)
    barrier:wait()
    local direct = async.create_task(function() return pcall(barrier.wait, barrier) end)
    direct:cancel()
    async.wait { a, direct }
    b = started(barrier.wait, barrier)
    assert.equal(1, barrier.n_waiting)
    barrier:wait()
    async.await(b)
  end)

  it("abort throws out those inside and all that come, until reset", function()
    local barrier = async.Barrier(3)
    local a, b = started(barrier.wait, barrier), started(barrier.wait, barrier)
    barrier:abort()
    assert.is_true(barrier.broken)
    assert.equal(0, barrier.n_waiting)
    thrown(async.BrokenBarrierError, barrier.wait, barrier)
    thrown(async.BrokenBarrierError, async.await, a)
    thrown(async.BrokenBarrierError, async.await, b)
    barrier:reset()
    assert.is_false(barrier.broken)
    assert.equal(3, #async.gather { function() return barrier:wait() end,
      function() return barrier:wait() end, function() return barrier:wait() end })
  end)

  it("reset throws out those inside; who comes meanwhile waits for the next round", function()
    local barrier = async.Barrier(2)
    local a = started(barrier.wait, barrier)
    barrier:reset()
    assert.is_false(barrier.broken)
    local b, c = async.create_task(barrier.wait, barrier), async.create_task(barrier.wait, barrier)
    thrown(async.BrokenBarrierError, async.await, a)
    assert.same({ 0, 1 }, sorted(async.gather { b, c }))
    barrier:reset() -- empty: nothing happens
    assert.equal(2, #async.gather { function() return barrier:wait() end, function() return barrier:wait() end })
  end)

  it("abort during a reset, and reset after an abort before anybody ran", function()
    local barrier = async.Barrier(2)
    local a = started(barrier.wait, barrier)
    barrier:reset()
    barrier:abort()
    thrown(async.BrokenBarrierError, async.await, a)
    assert.is_true(barrier.broken)
    barrier:reset()
    a = started(barrier.wait, barrier)
    barrier:abort()
    barrier:reset()
    assert.is_false(barrier.broken)
    thrown(async.BrokenBarrierError, async.await, a)
    a = started(barrier.wait, barrier)
    barrier:wait()
    async.await(a)
  end)

  it("cancel and abort in one turn", function()
    local barrier = async.Barrier(3)
    local a, b = started(barrier.wait, barrier), started(barrier.wait, barrier)
    a:cancel()
    barrier:abort()
    b:cancel() -- the error came first
    thrown(async.CancelledError, async.await, a)
    thrown(async.BrokenBarrierError, async.await, b)
    barrier:reset()
    a = started(barrier.wait, barrier)
    assert.equal(1, barrier.n_waiting)
    a:cancel()
    async.wait { a }
    assert.equal(0, barrier.n_waiting)
  end)

  it("cannot be waited for outside a task", function()
    local barrier, done = async.Barrier(1), async.Future()
    async.get_running_loop():call_soon(function() done:set_result(pcall(barrier.wait, barrier)) end)
    local ok, e = async.await(done)
    assert.is_false(ok)
    assert.is_true(async.isinstance(e, async.RuntimeError))
  end)

  it("names the function and the argument of bad input", function()
    local barrier = async.Barrier(2)
    for _, name in ipairs { "wait", "abort", "reset" } do
      for _, bad in ipairs { 42, "text", false, {}, async.Lock() } do
        local e = thrown(async.TypeError, barrier[name], bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
    end
    for _, bad in ipairs { "2", true, {}, 1.5 } do
      assert.matches("Barrier", thrown(async.TypeError, async.Barrier, bad).message)
    end
    thrown(async.TypeError, async.Barrier)
    for _, bad in ipairs { 0, -1, math.mininteger, math.maxinteger } do
      assert.matches("Barrier", thrown(async.ValueError, async.Barrier, bad).message)
    end
    assert.is_nil(barrier.nonsense)
    assert.is_nil(barrier[1])
  end)
end)

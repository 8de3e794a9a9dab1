-- race: the first to end decides, the others are cancelled and awaited.
local async = require "lunation"
local support = require "spec.support.racing"
local turns, waiting, slow_to_end, reported, fails, fails_outside_a_task, must_not_run = support.turns, support.waiting, support.slow_to_end, support.reported, support.fails, support.fails_outside_a_task, support.must_not_run

describe("race", function()
  it("gives all results of the first to end; the others are cancelled and have ended", function()
    local log = {}
    local a, b = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8)
    local fut = async.Future()
    local r = table.pack(async.race { a, b, function() turns(2) return 1, nil, 3, nil end, fut })
    assert.equal(4, r.n)
    assert.equal(1, r[1])
    assert.equal(3, r[3])
    assert.same({ "a", "b" }, log)
    assert.is_true(a:cancelled() and b:cancelled() and fut:cancelled())
  end)

  it("throws the error of the first to end", function()
    local log = {}
    local a = slow_to_end(log, "a")
    local e = async.ValueError("failed")
    local ok, got = pcall(async.race, { a, function() turns(2) error(e) end })
    assert.is_false(ok)
    assert.equal(e, got)
    assert.same({ "a" }, log)
  end)

  it("throws CancelledError if the first to end was cancelled", function()
    local gone, other = async.create_task(async.sleep, 60), async.Future()
    gone:cancel("gone")
    local ok, e = pcall(async.race, { other, gone })
    assert.is_false(ok)
    assert.equal("CancelledError: gone", tostring(e))
    assert.is_true(other:cancelled())
    assert.equal(0, async.current_task():cancelling())
  end)

  it("takes the earliest of those that had ended; functions never start", function()
    local tasks, gates = waiting(3)
    for _, i in ipairs { 3, 1 } do
      gates[i]:set_result(i)
      turns()
    end
    local started = false
    assert.equal(3, async.race { tasks[1], function() started = true end, tasks[2], tasks[3] })
    turns()
    assert.is_false(started)
    assert.is_true(tasks[2]:cancelled())
    assert.equal(1, tasks[1]:result())
  end)

  it("of one is its result", function()
    assert.equal(5, async.race { function() return 5 end })
    local fut = async.Future()
    fut:set_result(6)
    assert.equal(6, async.race { fut, fut })
  end)

  it("cancels a loser that is named twice once, and whoever else waits for it", function()
    local log = {}
    local a = slow_to_end(log, "a")
    local other = async.create_task(function() return pcall(async.await, a) end)
    async.race { a, a, function() turns(1) end, a }
    assert.equal(1, a:cancelling())
    assert.equal("CancelledError", select(2, async.await(other)).name)
  end)

  it("waits for losers that do not want to end", function()
    local ended = false
    assert.equal("won", async.race {
      function() pcall(async.sleep, 60) turns(5) ended = true return "stubborn" end,
      function() return "won" end,
    })
    assert.is_true(ended)
  end)

  it("reports the errors of losers", function()
    local list, r = reported(function()
      return async.race {
        function() pcall(async.sleep, 60) error("loser", 0) end,
        function() turns(1) return "won" end,
        function() async.sleep(60) end,
      }
    end)
    assert.equal("won", r)
    assert.same({ "loser" }, list)
  end)

  it("gives way now and then although all is done", function()
    local fut, ran = async.Future(), false
    fut:set_result(1)
    local t = async.create_task(function() ran = true end)
    for _ = 1, 300 do assert.equal(1, async.race { fut }) end
    assert.is_true(ran)
    async.await(t)
  end)

  it("refuses to wait for its caller", function()
    local ok, e = pcall(async.race, { async.current_task() })
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
  end)

  it("refuses bad input before it makes a task", function()
    local function bad(...) fails(async.race, "race", ...) end
    bad("TypeError", "#1")
    for _, v in ipairs { 1, "x", print } do bad("TypeError", "#1", v) end
    bad("TypeError", "index 2", { must_not_run, 1 })
    bad("TypeError", "index 2", { must_not_run, false, must_not_run })
    bad("ValueError", "#1", {})
    turns()
    fails_outside_a_task(function() async.race { must_not_run } end)
  end)
end)

describe("race whose caller is cancelled", function()
  it("cancels all children and waits for them", function()
    local log = {}
    local a, b, fut = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8), async.Future()
    local r = async.create_task(async.race, { a, b, fut })
    turns()
    r:cancel("stop")
    assert.equal("CancelledError: stop", tostring(select(2, pcall(async.await, r))))
    assert.is_true(r:cancelled())
    assert.same({ "a", "b" }, log)
    assert.is_true(fut:cancelled())
  end)

  it("throws also if a child swallows it and returns", function()
    local r = async.create_task(async.race, { function() pcall(async.sleep, 60) return "value" end })
    turns()
    r:cancel()
    assert.equal("CancelledError", select(2, pcall(async.await, r)).name)
  end)

  it("gives the outcome that was there before, and the request at the next await", function()
    for _, losers in ipairs { 0, 2 } do
      local log, list = {}, { async.Future() }
      for i = 1, losers do list[i + 1] = slow_to_end(log, i) end
      local r = async.create_task(function()
        local v = async.race(list)
        return v, pcall(async.sleep, 60)
      end)
      turns()
      list[1]:set_result("socket")
      r:cancel("stop")
      local v, ok, e = async.await(r)
      assert.equal("socket", v)
      assert.is_false(ok)
      assert.equal("CancelledError: stop", tostring(e))
      assert.equal(losers, #log)
    end
  end)

  it("while the losers end asks them again, gives the outcome, and the request at the next await", function()
    local log, asked = {}, 0
    local loser = async.create_task(function()
      for _ = 1, 2 do
        if not pcall(async.sleep, 60) then asked = asked + 1 end
      end
      log[#log + 1] = "loser"
    end)
    local fut = async.Future()
    local r = async.create_task(function()
      local v = async.race { loser, fut }
      return v, pcall(async.sleep, 60)
    end)
    turns()
    fut:set_result("socket")
    turns()
    assert.equal(1, asked)
    r:cancel("stop")
    local v, ok, e = async.await(r)
    assert.equal(2, asked)
    assert.equal("socket", v)
    assert.is_false(ok)
    assert.equal("CancelledError: stop", tostring(e))
    assert.equal(1, r:cancelling())
  end)

  it("before it suspends cancels the children that it has just made", function()
    local started = false
    local r
    r = async.create_task(function()
      r:cancel("myself")
      return async.race { function() started = true end }
    end)
    assert.equal("CancelledError: myself", tostring(select(2, pcall(async.await, r))))
    assert.is_false(started)
  end)
end)

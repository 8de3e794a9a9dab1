-- async.sleep: how long, what it returns, what it refuses.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns

describe("sleep", function()
  it("returns its further arguments", function()
    for _, delay in ipairs { 0, -1, 0.001 } do
      local got = table.pack(async.sleep(delay, nil, "y", nil))
      assert.equal(3, got.n)
      assert.equal("y", got[2])
      assert.equal(0, select("#", async.sleep(delay)))
    end
  end)

  it("is never too short", function()
    local loop = async.get_running_loop()
    for _ = 1, 20 do
      local from = loop:time()
      async.sleep(0.0015)
      assert.is_true(loop:time() - from >= 0.0015 - 1e-9) -- a difference of floats is not exact
    end
  end)

  it("of zero or less is exactly one turn", function()
    local loop = async.get_running_loop()
    for _, delay in ipairs { 0, -1, -math.huge, -0.0, math.mininteger } do
      local log = {}
      loop:call_soon(function()
        log[#log + 1] = 1
        loop:call_soon(function() log[#log + 1] = 2 end)
      end)
      async.sleep(delay)
      assert.equal(1, #log)
      async.sleep(delay)
      assert.equal(2, #log)
    end
  end)

  it("refuses what is no number", function()
    for _, bad in ipairs { "1", {}, true, false, print } do
      refuses("TypeError", { "sleep", "#1", "number expected, got " }, async.sleep, bad)
    end
    refuses("TypeError", { "sleep", "number expected, got n" }, async.sleep)
    refuses("TypeError", { "sleep", "NaN" }, async.sleep, 0 / 0)
    assert.equal("bad argument #1 to 'sleep' (number expected, got string)",
      thrown(function() async.sleep("1") end).message)
  end)

  it("may be for ever, and be cancelled", function()
    for _, delay in ipairs { math.huge, 1e300, math.maxinteger, 3600 } do
      local task = async.create_task(async.sleep, delay)
      turns(2)
      assert.is_false(task:done())
      task:cancel("enough")
      assert.equal("enough", thrown(async.await, task).message)
    end
  end)

  it("takes no place among the timers when it was cancelled", function()
    local loop = async.get_running_loop()
    local before = loop:stats()
    local tasks = {}
    for i = 1, 100 do tasks[i] = async.create_task(async.sleep, 1000 + i) end
    turns(1)
    assert.equal(before.sleepers + 100, loop:stats().sleepers)
    for _, task in ipairs(tasks) do task:cancel() end
    assert.equal(before.timers, loop:stats().timers)
    assert.equal(before.sleepers, loop:stats().sleepers)
    async.wait(tasks)
  end)

  it("ends in the order of the deadlines", function()
    helper.plain [[
      local runner <close> = async.Runner { clock = "virtual" }
      runner:run(function()
        local log, tasks = {}, {}
        for _, d in ipairs { 5, 3, 9, 1, 7, 3, 5 } do
          tasks[#tasks + 1] = async.create_task(function()
            local i = #tasks
            async.sleep(d)
            log[#log + 1] = d
          end)
        end
        async.wait(tasks)
        eq("1 3 3 5 5 7 9", table.concat(log, " "))
      end)
    ]]
  end)
end)

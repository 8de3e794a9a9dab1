-- async.Runner: run in pieces.
local async = require "lunation"
local helper = require "spec.helper"

local refuses = helper.refuses

describe("a Runner", function()
  it("runs any number of times on one loop, and what is left waits between the runs", function()
    helper.plain [[
      local runner = async.Runner()
      local loop = runner:get_loop()
      local n = 0
      local ticker = runner:run(function()
        eq(loop, async.get_running_loop())
        return async.create_task(function()
          while true do n = n + 1 async.sleep(0) end
        end)
      end)
      local before = n
      eq("x", runner:run(function(...) turns(5) return ... end, "x"))
      assert(n > before)
      before = n
      eq(false, ticker:done())
      eq(false, loop:is_closed())
      for _, e in ipairs { "text", false, async.ValueError("v") } do
        eq(e, thrown(runner.run, runner, function() error(e, 0) end))
      end
      eq("still", runner:run(function() return "still" end))
      runner:close()
      eq(true, ticker:cancelled())
      eq(true, loop:is_closed())
      runner:close()
    ]]
  end)

  it("closes at the end of its block, also when an error passes", function()
    helper.plain [[
      local loop, task
      do
        local runner <close> = async.Runner()
        loop = runner:get_loop()
        task = runner:run(function() local t = async.create_task(async.sleep, 60) turns(1) return t end)
      end
      eq(true, loop:is_closed())
      eq(true, task:cancelled())
      eq("passes", thrown(function()
        local runner <close> = async.Runner()
        loop = runner:get_loop()
        runner:run(function() error("passes", 0) end)
      end))
      eq(true, loop:is_closed())
    ]]
  end)

  it("closed, refuses to work", function()
    helper.plain [[
      local runner = async.Runner()
      local loop = runner:get_loop()
      runner:close()
      runner:close()
      eq(true, loop:is_closed())
      refuses("RuntimeError", "closed", runner.run, runner, print)
      refuses("RuntimeError", "closed", runner.get_loop, runner)
      eq("string", type(tostring(runner)))
    ]]
  end)

  it("can neither run nor be closed inside of a loop that runs", function()
    local runner = async.Runner()
    refuses("RuntimeError", "running", runner.run, runner, print)
    local ok, e = pcall(runner.close, runner)
    assert.is_true(ok or e.name == "RuntimeError")
    assert.equal("whole", async.sleep(0.001, "whole"))
    helper.plain [[
      local runner = async.Runner()
      runner:run(function()
        refuses("RuntimeError", {}, runner.run, runner, print)
        refuses("RuntimeError", {}, runner.close, runner)
        eq("whole", async.sleep(0.001, "whole"))
      end)
      runner:close()
      -- its loop closed by hand
      runner = async.Runner()
      runner:get_loop():close()
      refuses("RuntimeError", "closed", runner.run, runner, print)
      runner:close()
    ]]
    -- what the outer loop refused can be closed when no loop runs; here it goes with the collector
    if not ok then runner:get_loop():close() end
  end)

  it("takes its options", function()
    helper.plain [[
      local contexts = {}
      local runner <close> = async.Runner {
        debug = true, clock = "virtual", seed = 3, shutdown_grace = 1,
        exception_handler = function(loop, context) contexts[#contexts + 1] = { loop, context } end,
      }
      local loop = runner:get_loop()
      eq(true, loop:get_debug())
      runner:run(function()
        async.sleep(3600)
        loop:call_soon(error, "for the handler")
        turns(2)
      end)
      eq(1, #contexts)
      eq(loop, contexts[1][1])
      eq("for the handler", contexts[1][2].exception)
    ]]
  end)

  it("refuses bad input", function()
    local runner = async.Runner()
    for _, name in ipairs { "run", "get_loop", "close" } do
      for _, self in ipairs { false, 42, "text", {}, print, async.Future() } do
        refuses("TypeError", { name, "Runner expected" }, runner[name], self)
      end
      refuses("TypeError", { name, "Runner expected" }, runner[name])
    end
    for _, bad in ipairs { false, 42, "text", {} } do
      refuses("TypeError", { "run", "function expected, got " }, runner.run, runner, bad)
    end
    refuses("TypeError", { "run", "function expected" }, runner.run, runner)
    runner:get_loop():close()
  end)

  it("with a seed draws the order of ready tasks from it, and the same again from the same", function()
    helper.plain [[
      local function order(seed)
        local runner <close> = async.Runner { seed = seed, clock = "virtual" }
        return runner:run(function()
          local log, tasks = {}, {}
          for i = 1, 20 do
            tasks[i] = async.create_task(function()
              for _ = 1, 3 do
                log[#log + 1] = i
                async.sleep(0)
              end
            end)
          end
          async.wait(tasks)
          return table.concat(log, " ")
        end)
      end
      local orders, n = {}, 0
      for seed = 1, 10 do
        local o = order(seed)
        eq(o, order(seed))
        if not orders[o] then n = n + 1 end
        orders[o] = true
      end
      assert(n >= 9, n)
      eq(order(0), order(0))
      eq(order(math.mininteger), order(math.mininteger))
    ]]
  end)

  it("keeps an exception kept by the user for the report at close", function()
    helper.plain [[
      local messages = {}
      local runner = async.Runner { exception_handler = function(_, c) messages[#messages + 1] = c.message end }
      local kept = runner:run(function() return async.create_task(error, "kept") end)
      runner:run(function() turns(2) end)
      eq(true, kept:done())
      eq(0, #messages)
      kept = nil
      runner:close()
      eq("Task exception was never retrieved", table.concat(messages, ","))
    ]]
  end)
end)

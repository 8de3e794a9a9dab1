-- Long chains: 100,000 tasks that await each other, 1,000,000 done callbacks. Nothing recurses and nothing is
-- quadratic.
-- Sizes shrink with the square of LUNATION_SLOW: a build that collects at every await is quadratic by itself.
local helper = require "spec.helper"

-- A small C stack: what recurses along a chain dies of it.
local SMALL = { "sh", "-c", "ulimit -s 512; exec \"$@\"", "sh" }
local sanitized = (os.getenv("LUNATION_LUA") or ""):find("asan", 1, true)

-- chain(f, n): n tasks, each awaiting the one before, the first one `f`. linear(fn, n): fn(4 n) must not take much more
-- than four times as long as fn(n).
local COMMON = [[
  local N = math.max(500, math.tointeger(100000 // (h.slow * h.slow)))
  local function chain(f, n)
    local tasks = { async.create_task(async.await, f) }
    for i = 2, n or N do tasks[i] = async.create_task(async.await, tasks[i - 1]) end
    return tasks
  end
  local function linear(fn, n)
    fn(n // 10)
    if h.slow >= 10 then return fn(n) end
    for try = 1, 3 do
      collectgarbage()
      local a = os.clock()
      fn(n)
      collectgarbage()
      local b = os.clock()
      fn(4 * n)
      local small, big = b - a, os.clock() - b
      if big < 10 * small + 0.02 then return end
      if try == 3 then error(("%.3f s for %d, %.3f s for %d"):format(small, n, big, 4 * n)) end
    end
  end
]]

local function plain(text)
  return helper.plain(COMMON:gsub("\n", " ") .. text, { prefix = not sanitized and SMALL or nil,
    limit = 60 * helper.slow })
end

describe("a chain of 100,000 tasks", function()
  it("is finished", function()
    plain [[
      async.run(function()
        local f = async.Future()
        local tasks = chain(f)
        turns(3)
        f:set_result("through", nil, 3)
        local a, b, c = async.await(tasks[N])
        eq("through", a) eq(nil, b) eq(3, c)
        for i = 1, N, 997 do eq("through", (tasks[i]:result())) end
      end)
    ]]
  end)

  it("is failed, and the error can be traced and printed", function()
    plain [[
      async.run(function()
        local f = async.Future()
        local tasks = chain(f)
        turns(3)
        local e = async.ValueError("through")
        f:set_exception(e)
        eq(e, thrown(async.await, tasks[N]))
        eq(e, tasks[1]:exception())
        local text = tasks[N]:traceback()
        assert(#text < 100000 and text:find("more awaits"), #text)
        assert(#async.traceback(e) < 100000)
        for i = 1, N do tasks[i]:exception() end
      end)
    ]]
  end)

  it("is cancelled from its end, with the message", function()
    plain [[
      async.run(function()
        local f = async.Future()
        local tasks = chain(f)
        turns(3)
        eq(true, tasks[N]:cancel("down and up"))
        eq(true, f:cancelled())
        eq("down and up", thrown(async.await, tasks[N]).message)
        for i = 1, N, 997 do
          eq(true, tasks[i]:cancelled())
          eq(1, tasks[i]:cancelling())
          eq("down and up", thrown(tasks[i].result, tasks[i]).message)
        end
      end)
    ]]
  end)

  it("is cancelled from its beginning", function()
    plain [[
      async.run(function()
        local tasks = chain(async.Future())
        turns(3)
        tasks[1]:cancel("at the root")
        eq("at the root", thrown(async.await, tasks[N]).message)
        eq(0, tasks[N]:cancelling())
      end)
    ]]
  end)

  it("is torn down by the end of run", function()
    plain [[
      local tasks
      async.run(function()
        tasks = chain(async.Future())
        turns(3)
      end)
      for i = 1, N, 997 do eq(true, tasks[i]:cancelled()) end
    ]]
  end)

  it("is destroyed by closing its loop, each link reported", function()
    plain [[
      local n = 0
      local loop = async.new_event_loop { exception_handler = function() n = n + 1 end }
      local tasks
      loop:run_until_complete(function() tasks = chain(loop:create_future(), N // 10) turns(3) end)
      loop:close()
      eq(N // 10, n)
      for i = 1, N // 10, 97 do eq(true, tasks[i]:done()) end
    ]]
  end)

  it("is dropped and collected", function()
    plain [[
      async.run(function()
        do
          local f = async.Future()
          local tasks = chain(f)
          turns(3)
          f:set_result({})
          async.await(tasks[N])
        end
        for _ = 1, 3 do collectgarbage() end
        eq(1, #async.all_tasks())
        -- What stays are the tables of slots (24 bytes each for tasks and coroutines) and the pool.
        assert(collectgarbage("count") < 10000, collectgarbage("count"))
      end)
    ]]
  end)

  it("is built, run and cancelled in linear time", function()
    plain [[
      async.run(function()
        linear(function(n)
          local f = async.Future()
          local tasks = chain(f, n)
          turns(3)
          f:set_result()
          async.await(tasks[n])
        end, N // 8)
        linear(function(n)
          local tasks = chain(async.Future(), n)
          turns(3)
          tasks[n]:cancel()
          async.wait { tasks[n] }
        end, N // 8)
      end)
    ]]
  end)

  it("built from the other end, each link awaiting the next one made", function()
    plain [[
      async.run(function()
        local gates, tasks = {}, {}
        local n = N // 5
        -- every task waits for the one made after it: the walk against cycles has waiters to look at
        for i = 1, n do
          tasks[i] = async.create_task(function()
            if i == n then return async.sleep(0.001, "end") end
            return async.await(tasks[i + 1])
          end)
        end
        eq("end", async.await(tasks[1]))
      end)
    ]]
  end)

  it("a cycle over all of it is found", function()
    plain [[
      async.run(function()
        local tasks = {}
        local n = N // 5
        for i = 1, n do tasks[i] = async.create_task(function() return async.await(tasks[i % n + 1]) end) end
        local e = thrown(async.await, tasks[1])
        eq("RuntimeError", e.name)
        for i = 1, n do eq(e, tasks[i]:exception()) end
      end)
    ]]
  end)

  it("through gather, shield, wait_for and groups", function()
    plain [[
      async.run(function()
        local n = N // 10
        local links = {
          function(t) return async.gather { t } end,
          function(t) return async.await(async.shield(t)) end,
          function(t) return async.wait_for(t, 1000) end,
          function(t) local tg <close> = async.TaskGroup() tg:create_task(async.await, t) end,
          function(t) return async.await(t) end,
          function(t) return async.race { t } end,
        }
        for _, act in ipairs { "finish", "cancel" } do
          local f = async.Future()
          local task = async.create_task(async.await, f)
          for i = 1, n do
            local inner = task
            task = async.create_task(links[i % #links + 1], inner)
          end
          turns(3)
          if act == "finish" then
            f:set_result("r")
            async.await(task)
          else
            task:cancel()
            eq("CancelledError", thrown(async.await, task).name)
            if not f:done() then f:cancel() end -- what a shield spared
            turns(n * 4)
          end
        end
      end)
    ]]
  end)
end)

describe("a random tree of 100,000 tasks", function()
  it("cancelled from the root, ends", function()
    plain [[
      async.run(function()
        math.randomseed(7)
        local n, ended = 0, 0
        local function node(depth)
          n = n + 1
          local _ <close> = async.defer(function() ended = ended + 1 end)
          local children = {}
          while n + #children < N // 4 and #children < math.random(1, 3) do
            children[#children + 1] = async.create_task(node, depth + 1)
          end
          if #children == 0 then return async.sleep(1000) end
          return async.gather(children)
        end
        local root = async.create_task(node, 1)
        for _ = 1, 10000 do
          local before = n
          turns(1)
          if n == before and n > 1 then break end
        end
        assert(n >= N // 4, n)
        root:cancel("timber")
        eq("CancelledError", thrown(async.await, root).name)
        eq(n, ended)
      end)
    ]]
  end)
end)

describe("a chain of 1,000,000 done callbacks", function()
  it("each settling the next future", function()
    plain [[
      async.run(function()
        local n = N * 10
        local first = async.Future()
        local f = first
        for _ = 1, n do
          local nxt = async.Future()
          f:add_done_callback(function(x) nxt:set_result(x:result() + 1) end)
          f = nxt
        end
        first:set_result(0)
        eq(n, async.await(f))
      end)
    ]]
  end)

  it("on one future", function()
    plain [[
      async.run(function()
        local n, calls = N * 10, 0
        local f = async.Future()
        for _ = 1, n do f:add_done_callback(function() calls = calls + 1 end) end
        f:set_result()
        turns(2)
        eq(n, calls)
      end)
    ]]
  end)

  it("cancelling the next one", function()
    plain [[
      async.run(function()
        local n = N * 2
        local first = async.Future()
        local f = first
        for _ = 1, n do
          local nxt = async.Future()
          f:add_done_callback(function() nxt:cancel() end)
          f = nxt
        end
        first:cancel()
        eq("CancelledError", thrown(async.await, f).name)
      end)
    ]]
  end)
end)

describe("many failures", function()
  it("of one gather take linear time", function()
    plain [[
      local n = 0
      local runner <close> = async.Runner { exception_handler = function() n = n + 1 end }
      runner:run(function()
        linear(function(k)
          local tasks = {}
          for i = 1, k do tasks[i] = async.create_task(error, i, 0) end
          eq(1, thrown(async.gather, tasks))
          tasks = nil
          collectgarbage()
          async.sleep(0.001)
        end, N // 20)
      end)
    ]]
  end)

  it("reported all, in order", function()
    plain [[
      local last, n = 0, 0
      local k = N // 5
      local runner <close> = async.Runner {
        exception_handler = function(_, c)
          n = n + 1
          assert(c.exception > last)
          last = c.exception
        end,
      }
      runner:run(function()
        for i = 1, k do async.create_task(error, i, 0) end
        turns(2)
        for _ = 1, 100 do
          collectgarbage()
          async.sleep(0.001)
          if n == k then break end
        end
        eq(k, n)
      end)
    ]]
  end)
end)

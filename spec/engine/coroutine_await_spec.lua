-- async.coroutine where it differs from Lua's own table: awaits inside, yields of a task, the stock table beside it.
local async = require "lunation"
local tasks = require "spec.support.tasks"
local helper = require "spec.helper"

local co = async.coroutine

local function fails(...) return tostring(tasks.thrown(...)) end

local function pack(...) return { n = select("#", ...), ... } end

describe("async.coroutine", function()
  describe("awaiting inside", function()
    it("suspends the task around it", function()
      local ticks = 0
      local ticker = async.create_task(function()
        while true do
          async.sleep(0.001)
          ticks = ticks + 1
        end
      end)
      local seen = {}
      for v in co.wrap(function()
        for i = 1, 3 do
          async.sleep(0.002)
          co.yield(i)
        end
      end) do seen[#seen + 1] = v end
      ticker:cancel()
      assert.same({ 1, 2, 3 }, seen)
      assert.is_true(ticks > 0)
    end)

    it("gets the results of what it awaits", function()
      local fut = async.Future()
      async.get_running_loop():call_soon(function() fut:set_result(1, nil, 3) end)
      local c = co.create(function() return async.await(fut) end)
      assert.same({ n = 4, true, 1, nil, 3 }, pack(co.resume(c)))
    end)

    it("nests to any depth", function()
      local function nest(depth)
        return co.wrap(function(...)
          if depth == 0 then
            async.sleep(0)
            co.yield("inner", ...)
            async.sleep(0)
            return "end"
          end
          local c = nest(depth - 1)
          co.yield(c(...))
          async.sleep(0)
          return c()
        end)
      end
      local c = nest(50)
      assert.same({ "inner", 1, 2 }, { c(1, 2) })
      assert.equal("end", c())
    end)

    it("keeps the generators of two tasks apart", function()
      local function job(name, n)
        return function()
          local out = {}
          for v in co.wrap(function()
            for i = 1, n do
              async.sleep(0)
              co.yield(name .. i)
            end
          end) do out[#out + 1] = v end
          return table.concat(out, " ")
        end
      end
      assert.same({ "a1 a2 a3", "b1 b2", n = 2 }, async.gather { job("a", 3), job("b", 2) })
    end)

    it("may be resumed by another task after a yield", function()
      local c = co.create(function()
        local name = co.yield(async.current_task():get_name())
        async.sleep(0)
        return name, async.current_task():get_name()
      end)
      local first = async.create_task(function() return select(2, co.resume(c)) end):set_name("first")
      assert.equal("first", async.await(first))
      local second = async.create_task(function() return co.resume(c, "x") end):set_name("second")
      assert.same({ true, "x", "second" }, { async.await(second) })
    end)

    it("throws errors where it awaits", function()
      local fut = async.Future()
      async.get_running_loop():call_soon(function() fut:set_exception(async.ValueError("late")) end)
      local c = co.create(function()
        local ok, e = pcall(async.await, fut)
        co.yield(ok, e)
        async.sleep(0)
        error(e)
      end)
      local ok, inner_ok, e = co.resume(c)
      assert.is_true(ok)
      assert.is_false(inner_ok)
      assert.same({ false, e }, { co.resume(c) })
      assert.equal("dead", co.status(c))
    end)

    it("throws a cancellation inside, which leaves through wrap", function()
      local log = {}
      local t = async.create_task(function()
        local f = co.wrap(function()
          local _ <close> = async.defer(function(e)
            async.sleep(0)
            log[#log + 1] = "closed by " .. e.name
          end)
          async.sleep(10)
        end)
        f()
      end)
      helper.turns(6)
      t:cancel("enough")
      local ok, e = pcall(async.await, t)
      assert.is_false(ok)
      assert.equal("enough", e.message)
      assert.is_true(t:cancelled())
      assert.same({ "closed by CancelledError" }, log)
    end)

    it("lets the closers of a wrapped body await, whatever throws", function()
      local log = {}
      local f = co.wrap(function()
        local _ <close> = async.defer(function(e)
          async.sleep(0)
          log[#log + 1] = tostring(e)
        end)
        local group <close> = async.TaskGroup()
        group:create_task(function()
          local _ <close> = async.defer(function() log[#log + 1] = "child ended" end)
          async.sleep(10)
        end)
        helper.turns(6)
        co.yield(1)
        error("text", 0)
      end)
      assert.equal(1, f())
      local ok, e = pcall(f)
      assert.is_false(ok)
      assert.equal("child ended", log[1])
      assert.equal(tostring(e), log[2])
      assert.is_true(async.isinstance(e, async.ExceptionGroup))
    end)

    it("runs no closers of a created one that throws, until somebody closes it", function()
      local closed
      local c = co.create(function()
        local _ <close> = async.defer(function(e) closed = e end)
        async.sleep(0)
        error("x", 0)
      end)
      local _ <close> = async.defer(function() co.close(c) end) -- should the test be cut before it does so
      assert.same({ false, "x" }, { co.resume(c) })
      assert.is_nil(closed)
      assert.same({ false, "x" }, { co.close(c) })
      assert.equal("x", closed)
    end)

    it("throws a cancellation at the await, which the body may handle", function()
      local log = {}
      local t = async.create_task(function()
        local c = co.create(function()
          local ok, e = pcall(async.sleep, 10)
          log[#log + 1] = tostring(ok) .. " " .. e.name
          async.sleep(0)
          co.yield("went on")
          error(e)
        end)
        local _, v = co.resume(c)
        log[#log + 1] = v
        local ok, e = co.resume(c)
        log[#log + 1] = tostring(ok) .. " " .. e.name
        return "survived"
      end)
      helper.turns(6)
      t:cancel()
      assert.equal("survived", async.await(t))
      assert.same({ "false CancelledError", "went on", "false CancelledError" }, log)
    end)

    it("gets a request that came before it was entered", function()
      local t = async.create_task(function()
        async.current_task():cancel()
        return co.wrap(function()
          async.sleep(0)
          return "not reached"
        end)()
      end)
      assert.equal("CancelledError", select(2, pcall(async.await, t)).name)
    end)

    it("refuses where a level outside cannot yield, and the task goes on", function()
      local got
      table.sort({ 3, 2, 1 }, function(a, b)
        got = got or pack(co.resume(co.create(function() async.sleep(0) end)))
        return a < b
      end)
      assert.is_false(got[1])
      assert.is_true(async.isinstance(got[2], async.RuntimeError))
      assert.matches("cannot yield", tostring(got[2]))
      assert.equal("on", async.sleep(0, "on"))
    end)

    it("refuses in a closer of close, and says where", function()
      local text
      local c = co.create(function()
        local _ <close> = setmetatable({}, { __close = function()
          text = fails(async.RuntimeError, async.sleep, 0)
        end })
        co.yield()
      end)
      co.resume(c)
      assert.is_true(co.close(c))
      assert.matches("cannot yield", text)
      assert.equal("on", async.sleep(0, "on"))
    end)

    it("is busy for others: status, resume, close, wrap", function()
      local c, gate = nil, async.Future()
      local t = async.create_task(function()
        c = co.create(function() return async.await(gate) end)
        return select(2, co.resume(c))
      end)
      helper.turns(6)
      assert.equal("normal", co.status(c))
      assert.same({ false, "cannot resume non-suspended coroutine" }, { co.resume(c) })
      assert.same({ false, "cannot resume non-suspended coroutine" }, { co.resume(c, "with", "values") })
      assert.matches("coroutine that awaits", fails(async.RuntimeError, co.close, c))
      gate:set_result("through")
      assert.equal("through", async.await(t))
      assert.equal("dead", co.status(c))

      local f
      gate = async.Future()
      t = async.create_task(function()
        f = co.wrap(function() return async.await(gate) end)
        return f()
      end)
      helper.turns(6)
      assert.matches("cannot resume non%-suspended coroutine", select(2, pcall(f)))
      assert.matches("cannot resume non%-suspended coroutine", select(2, pcall(f, "with", "values")))
      gate:set_result("through")
      assert.equal("through", async.await(t))
    end)

    it("is busy for others when the task's own coroutine awaits", function()
      local thread, released
      local t = async.create_task(function()
        thread = co.running()
        while not released do co.yield() end
        return "end"
      end)
      helper.turns(6)
      assert.equal("normal", co.status(thread))
      assert.is_false((co.resume(thread)))
      fails(async.RuntimeError, co.close, thread)
      released = true
      assert.equal("end", async.await(t))
    end)

    it("lets go of what it holds when the task is dropped half way", function()
      local weak = setmetatable({}, { __mode = "k" })
      do
        local f = co.wrap(function()
          local big = {}
          weak[big] = true
          while true do
            async.sleep(0)
            co.yield(big)
          end
        end)
        f()
      end
      collectgarbage()
      collectgarbage()
      assert.is_nil(next(weak))
    end)

    it("passes through pcall, metamethods, iterators and require's like inside", function()
      local c = co.wrap(function()
        local t = setmetatable({}, { __index = function(_, k)
          async.sleep(0)
          co.yield("index " .. k)
          return k
        end })
        local ok, v = pcall(function() return t.x end)
        co.yield(tostring(ok) .. v)
        for w in co.wrap(function()
          async.sleep(0)
          co.yield("inner")
        end) do co.yield(w) end
        return "end"
      end)
      assert.same({ "index x", "truex", "inner", "end" }, { c(), c(), c(), c() })
    end)

    it("holds with a collection at every step", function()
      local function gen(n)
        return co.wrap(function()
          for i = 1, n do
            collectgarbage()
            async.sleep(0)
            co.yield(i)
          end
        end)
      end
      local sum = 0
      for i in gen(10) do
        collectgarbage()
        sum = sum + i
      end
      assert.equal(55, sum)
    end)
  end)

  describe("yield in a task's own coroutine", function()
    it("gives way", function()
      local log = {}
      local function job(name)
        return function()
          for i = 1, 2 do
            log[#log + 1] = name .. i
            assert.equal(0, select("#", co.yield()))
          end
        end
      end
      async.gather { job("a"), job("b") }
      local first = { log[1]:sub(1, 1), log[2]:sub(1, 1) }
      table.sort(first)
      assert.same({ "a", "b" }, first) -- whoever came first, the other one came next
      assert.equal(4, #log)
    end)

    it("awaits a future or task", function()
      local fut = async.Future()
      async.get_running_loop():call_soon(function() fut:set_result(1, nil) end)
      assert.same({ n = 2, 1, nil }, pack(co.yield(fut)))
      assert.same({ n = 2, 1, nil }, pack(co.yield(fut)))
      local t = async.create_task(function() error(async.ValueError("x")) end)
      assert.matches("ValueError: x", fails(async.ValueError, co.yield, t))
    end)

    it("refuses anything else", function()
      for _, v in ipairs { 1, "x", {}, false, print } do
        assert.matches("a task can yield", fails(async.RuntimeError, co.yield, v))
      end
      fails(async.RuntimeError, co.yield, nil)
      fails(async.RuntimeError, co.yield, async.Future(), 1)
    end)

    it("is cancelled there", function()
      local t = async.create_task(function() while true do co.yield() end end)
      helper.turns(6)
      t:cancel("stop")
      local ok, e = pcall(async.await, t)
      assert.is_false(ok)
      assert.equal("stop", e.message)
    end)
  end)

  describe("beside the stock table", function()
    local plain = helper.plain

    it("an await in a stock coroutine is refused", function()
      assert.equal("false\tRuntimeError\nfalse\tRuntimeError\n", plain [[
        async.run(function()
          local ok, e = coroutine.resume(coroutine.create(function() async.sleep(0) end))
          print(ok, e.name)
          -- one of ours below a stock one, too
          ok, e = coroutine.wrap(function()
            return async.coroutine.resume(async.coroutine.create(function() async.sleep(0) end))
          end)()
          print(ok, e.name)
        end)
      ]])
    end)

    it("stock functions on ours are right, until the stock ones touch one that awaits", function()
      assert.equal("1\t2\nfalse\ttrue\nfalse\tcannot resume dead coroutine\n", plain [[
        local co = async.coroutine
        async.run(function()
          local f = co.create(function()
            coroutine.yield(1)
            return 2
          end)
          print(select(2, coroutine.resume(f)), select(2, co.resume(f)))
          local c
          local t = async.create_task(function()
            c = co.create(function() async.sleep(0.01) end)
            return co.resume(c)
          end)
          async.sleep(0)
          local ok, e = coroutine.resume(c)
          print(ok, async.isinstance(e, async.RuntimeError))
          print(async.await(t))
        end)
      ]])
    end)

    it("a stock resume of a task inside its generator ends the task, with an error that says so", function()
      helper.plain [[
        async.run(function()
          local task = async.create_task(function()
            return async.coroutine.wrap(function() return async.sleep(0.01, "slept") end)()
          end)
          turns(2)
          coroutine.resume(task:get_coro())
          refuses("RuntimeError", "resumed by somebody else", async.await, task)
          async.sleep(0.02)
        end)
      ]]
    end)

    it("a stock close of one that awaits ends that await, and its task goes on", function()
      assert.equal("true\nfalse\tcannot resume dead coroutine\tgone on\nCancelledError\n", plain [[
        local co = async.coroutine
        async.run(function()
          local c
          local function job()
            c = co.create(function() async.sleep(0.01) end)
            local ok, e = co.resume(c)
            return ok, e, async.sleep(0.001, "gone on")
          end
          local t = async.create_task(job)
          async.sleep(0)
          print((coroutine.close(c)))
          print(async.await(t))
          t = async.create_task(job)
          async.sleep(0)
          coroutine.close(c)
          t:cancel()
          print(select(2, pcall(async.await, t)).name)
        end)
      ]])
    end)

    it("works without any loop", function()
      assert.equal("1\t3\nfalse\tsleep\n", plain [[
        local c = async.coroutine.wrap(function(a) return a + async.coroutine.yield(a) end)
        print(c(1), c(2))
        local ok, e = async.coroutine.resume(async.coroutine.create(function() async.sleep(0) end))
        print(ok, e.message:match("sleep"))
      ]])
    end)
  end)
end)

describe("an error out of a generator", function()
  it("is traced to where it was thrown, through all that wrap", function()
    local wrap, yield = async.coroutine.wrap, async.coroutine.yield
    local function thrower(e) async.sleep(0) error(e, 0) end
    for _, e in ipairs { async.ValueError("inside"), "inside" } do
      local task = async.create_task(function()
        for _ in wrap(function() for v in wrap(function() yield(1) thrower(e) end) do yield(v) end end) do end
      end)
      async.wait { task }
      assert.matches("inside$", tostring(task:exception()))
      local trace = task:traceback()
      assert.matches("^traceback:\n\t%[C%]: in [^\n]*'error'\n[^\n]*in upvalue 'thrower'\n", trace)
      assert.equal(2, select(2, trace:gsub("%[awaited by%]", "")), trace)
    end
  end)
end)

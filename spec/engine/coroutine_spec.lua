local async = require "lunation"
local helper = require "spec.helper"

local co = async.coroutine

local function fails(class, fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_true(async.isinstance(e, class), "expected " .. tostring(class) .. ", got " .. tostring(e))
  return tostring(e)
end

local function pack(...) return { n = select("#", ...), ... } end

describe("async.coroutine", function()
  describe("without awaits is Lua's own", function()
    it("has the same functions", function()
      local names = {}
      for name, fn in pairs(co) do
        names[#names + 1] = name
        assert.is_function(fn)
      end
      table.sort(names)
      assert.same({ "close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield" }, names)
    end)

    it("is the command's global", function()
      assert.equal(co, coroutine)
      assert.equal(co, package.loaded.coroutine)
    end)

    it("passes values both ways, holes and none too", function()
      local c = co.create(function(...)
        assert.same({ n = 3, 1, nil, nil }, pack(...))
        assert.same({ n = 0 }, pack(co.yield()))
        assert.same({ n = 2, nil, "x" }, pack(co.yield(nil, nil)))
        return nil, 2, nil
      end)
      assert.same({ n = 1, true }, pack(co.resume(c, 1, nil, nil)))
      assert.same({ n = 3, true }, pack(co.resume(c)))
      assert.same({ n = 4, true, nil, 2, nil }, pack(co.resume(c, nil, "x")))
      assert.same({ n = 2, false, "cannot resume dead coroutine" }, pack(co.resume(c)))
    end)

    it("passes many values", function()
      local list = {}
      for i = 1, 5000 do list[i] = i end
      local c = co.wrap(function(...)
        local n = select("#", ...)
        assert.equal(n, select("#", co.yield(...)))
        return ...
      end)
      assert.equal(5000, select("#", c(table.unpack(list))))
      assert.equal(5000, select("#", c(table.unpack(list))))
    end)

    it("tells the status", function()
      local outer
      local c = co.create(function()
        assert.equal("running", co.status((co.running())))
        assert.equal("normal", co.status(outer))
        co.yield()
      end)
      outer = co.create(function() co.resume(c) end)
      assert.equal("suspended", co.status(outer))
      co.resume(outer)
      assert.equal("suspended", co.status(c))
      assert.equal("dead", co.status(outer))
      co.resume(c)
      assert.equal("dead", co.status(c))
      local bad = co.create(error)
      co.resume(bad, "x")
      assert.equal("dead", co.status(bad))
    end)

    it("refuses to resume what runs", function()
      local c
      c = co.create(function()
        return co.resume(c)
      end)
      assert.same({ true, false, "cannot resume non-suspended coroutine" }, { co.resume(c) })
    end)

    it("finds the coroutine of a finished task dead", function()
      local thread
      async.await(async.create_task(function() thread = co.running() end))
      assert.equal("dead", co.status(thread))
      local t = async.create_task(function() async.sleep(0) end)
      async.sleep(0)
      thread = t:get_coro()
      async.await(t)
      assert.equal("dead", co.status(thread))
      assert.same({ false, "cannot resume dead coroutine" }, { co.resume(thread) })
    end)

    it("nests nearly as deep as Lua's", function()
      local depth = 0
      local function go()
        depth = depth + 1
        co.wrap(go)()
      end
      assert.matches("C stack overflow", select(2, pcall(go)))
      assert.is_true(depth > 150)
    end)

    it("knows the running coroutine", function()
      local thread, main = co.running()
      assert.equal("thread", type(thread))
      assert.is_false(main)
      local c
      c = co.create(function() return co.running() end)
      local ok, inner, inner_main = co.resume(c)
      assert.is_true(ok)
      assert.equal(c, inner)
      assert.is_false(inner_main)
    end)

    it("returns errors from resume as they are", function()
      local e = {}
      assert.same({ false, e }, { co.resume(co.create(function() error(e) end)) })
      local c = co.create(function() error() end)
      assert.same({ n = 2, false, nil }, pack(co.resume(c)))
    end)

    it("throws errors from wrap, with a place before texts", function()
      local ok, e = pcall(function() co.wrap(function() error("text", 0) end)() end)
      assert.is_false(ok)
      assert.matches("coroutine_spec%.lua:%d+: text$", e)
      local object = {}
      ok, e = pcall(co.wrap(function() error(object) end))
      assert.is_false(ok)
      assert.equal(object, e)
      local gone = co.wrap(function() end)
      gone()
      ok, e = pcall(gone)
      assert.is_false(ok)
      assert.matches("cannot resume dead coroutine", e)
    end)

    it("closes variables when a wrapped body throws, once", function()
      local closed = {}
      local f = co.wrap(function()
        local _ <close> = setmetatable({}, { __close = function(_, e) closed[#closed + 1] = e end })
        error("first", 0)
      end)
      assert.is_false((pcall(f)))
      assert.same({ "first" }, closed)
    end)

    it("lets a closer replace the error", function()
      local f = co.wrap(function()
        local _ <close> = setmetatable({}, { __close = function() error("second", 0) end })
        error("first", 0)
      end)
      assert.matches("second$", select(2, pcall(f)))
    end)

    it("closes suspended coroutines", function()
      local closed
      local c = co.create(function()
        local _ <close> = setmetatable({}, { __close = function(_, e) closed = e == nil end })
        co.yield()
      end)
      co.resume(c)
      assert.same({ true }, { co.close(c) })
      assert.is_true(closed)
      assert.equal("dead", co.status(c))
      assert.is_true(co.close(co.create(print)))
      local bad = co.create(error)
      co.resume(bad, "why")
      assert.same({ false, "why" }, { co.close(bad) })
      assert.same({ true }, { co.close(bad) })
    end)

    it("does not close what runs or has resumed another one", function()
      assert.matches("cannot close a running coroutine", fails(async.RuntimeError, co.close, (co.running())))
      local outer
      outer = co.create(function()
        return co.wrap(function() return fails(async.RuntimeError, co.close, outer) end)()
      end)
      assert.matches("cannot close a normal coroutine", select(2, co.resume(outer)))
    end)

    it("survives closers that close the next one, ever deeper", function()
      local function nest(depth)
        local c = co.create(function()
          local inner = depth > 0 and nest(depth - 1)
          local _ <close> = setmetatable({}, { __close = function() if inner then co.close(inner) end end })
          co.yield()
        end)
        co.resume(c)
        return c
      end
      assert.is_true(co.close(nest(20)))
      local c = nil
      for _ = 1, 5000 do
        local inner = c
        c = co.create(function()
          local _ <close> = setmetatable({}, { __close = function() if inner then assert(co.close(inner)) end end })
          co.yield()
        end)
        co.resume(c)
      end
      local ok, e = co.close(c)
      assert.is_false(ok)
      assert.matches("C stack overflow", tostring(e))
    end)

    it("checks its arguments", function()
      for _, name in ipairs { "create", "wrap" } do
        for _, v in ipairs { 1, "x", {}, false } do
          local text = fails(async.TypeError, co[name], v)
          assert.matches("#1 to '" .. name .. "'", text)
          assert.matches("function expected", text)
        end
        fails(async.TypeError, co[name])
      end
      for _, name in ipairs { "resume", "status", "close" } do
        for _, v in ipairs { 1, "x", {}, print } do
          local text = fails(async.TypeError, co[name], v)
          assert.matches("#1 to '" .. name .. "'", text)
          assert.matches("coroutine expected", text)
        end
        fails(async.TypeError, co[name])
      end
      assert.matches("#1 to 'isyieldable'", fails(async.TypeError, co.isyieldable, 1))
    end)

    it("works outside of tasks", function()
      local got
      local done = async.Event()
      async.get_running_loop():call_soon(function()
        local c = co.wrap(function(a) return a + co.yield(a) end)
        got = { c(1), c(2), co.isyieldable(), pcall(co.yield) }
        done:set()
      end)
      done:wait()
      assert.same({ 1, 3, false, false }, { table.unpack(got, 1, 4) })
    end)
  end)

  describe("awaiting inside", function()
    it("suspends the task around it", function()
      local ticks = 0
      local ticker = async.create_task(function()
        while true do
          async.sleep(0)
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
      assert.is_true(ticks > 3)
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
      async.sleep(0)
      async.sleep(0)
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
        async.sleep(0)
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
      async.sleep(0)
      async.sleep(0)
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
      async.sleep(0)
      assert.equal("normal", co.status(c))
      assert.same({ false, "cannot resume non-suspended coroutine" }, { co.resume(c) })
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
      async.sleep(0)
      assert.matches("cannot resume non%-suspended coroutine", select(2, pcall(f)))
      gate:set_result("through")
      assert.equal("through", async.await(t))
    end)

    it("is busy for others when the task's own coroutine awaits", function()
      local thread
      local t = async.create_task(function()
        thread = co.running()
        co.yield()
        return "end"
      end)
      async.sleep(0)
      assert.equal("normal", co.status(thread))
      assert.is_false((co.resume(thread)))
      fails(async.RuntimeError, co.close, thread)
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
      assert.equal("a1 b1 a2 b2", table.concat(log, " "))
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
      async.sleep(0)
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

-- async.coroutine as a drop-in for Lua's own table: everything but awaiting; coroutine_await_spec.lua has that.
local async = require "lunation"
local tasks = require "spec.support.tasks"

local co = async.coroutine

local function fails(...) return tostring(tasks.thrown(...)) end

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

    it("refuses more values than a stack holds", function()
      local many = 600000
      local c = co.create(function() co.yield(table.unpack({}, 1, many)) end)
      local function resume_over(...)
        local ok, e = co.resume(c)
        return ok, e, (...)
      end
      local ok, e = resume_over(table.unpack({}, 1, many))
      assert.is_false(ok)
      assert.matches("too many results to resume", e)
      c = co.create(function(...)
        co.yield()
        return "end", (...)
      end)
      assert.is_true(co.resume(c, table.unpack({}, 1, many)))
      assert.same({ false, "too many arguments to resume" }, { co.resume(c, table.unpack({}, 1, many)) })
      assert.equal("suspended", co.status(c))
      assert.same({ true, "end" }, { co.resume(c) })
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
end)

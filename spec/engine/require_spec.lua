-- require: Lua's own, with a top level that may await and loads that others join.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"

local refuses, turns = helper.refuses, helper.turns

describe("require", function()
  local dir, path, loaded

  before_each(function()
    dir = command.temp_dir()
    path = package.path
    package.path = dir .. "/?.lua;" .. path
    loaded = {}
    for name in pairs(package.loaded) do loaded[name] = true end
    _G.log = {}
    _G.gate = async.Event() -- for modules that have to be caught half way
  end)

  after_each(function()
    package.path = path
    for name in pairs(package.loaded) do
      if not loaded[name] then package.loaded[name] = nil end
    end
    _G.log, _G.gate = nil, nil
    command.remove_dir(dir)
  end)

  local function module(name, text)
    command.write_file(dir .. "/" .. name .. ".lua", 'local async = require "lunation"\n' .. text)
  end

  local function started(...)
    local task = async.create_task(...)
    turns(2)
    return task
  end

  it("is the command's global", function()
    assert.equal(async.require, require)
    assert.equal(async, require("lunation"))
  end)

  describe("without awaits is Lua's own", function()
    it("gives the module and where it was found, then the module alone", function()
      module("m_plain", "return { ... }")
      local m, where = require("m_plain")
      assert.same({ "m_plain", dir .. "/m_plain.lua" }, m)
      assert.equal(dir .. "/m_plain.lua", where)
      assert.equal(1, select("#", require("m_plain")))
      assert.equal(m, require("m_plain"))
    end)

    it("knows modules that return nothing, false, or set package.loaded", function()
      module("m_nothing", "")
      assert.is_true(require("m_nothing"))
      assert.is_true(package.loaded.m_nothing)
      module("m_false", "log[#log + 1] = 1 return false")
      assert.is_false(require("m_false"))
      require("m_false") -- as with Lua's own: false is not loaded
      assert.equal(2, #_G.log)
      module("m_set", "package.loaded[...] = 'set'")
      assert.equal("set", (require("m_set")))
    end)

    it("finds preloaded modules", function()
      package.preload.m_pre = function(...) return { ... } end
      local m, where = require("m_pre")
      package.preload.m_pre = nil
      assert.same({ "m_pre", ":preload:" }, m)
      assert.equal(":preload:", where)
    end)

    it("says where it looked, in Lua's words", function()
      local ok, e = pcall(function() require("no.such.module") end)
      assert.is_false(ok)
      local expected = { "^spec/engine/require_spec%.lua:%d+: module 'no%.such%.module' not found:\n\t",
        "no field package%.preload%['no%.such%.module'%]",
        "\n\tno file '" .. dir:gsub("%p", "%%%0") .. "/no/such/module%.lua'" }
      for _, part in ipairs(expected) do assert.matches(part, e) end
      assert.is_nil(e:find("\n\n", 1, true))
    end)

    it("gives the same text as the stock interpreter", function()
      assert.equal("true\n", helper.plain [[
        local package_path, cpath = package.path, package.cpath
        local function text(fn) return select(2, pcall(fn, "no.such.module")) end
        print(text(require) == text(async.require))
      ]])
    end)

    it("passes on syntax errors", function()
      module("m_syntax", "local = 1")
      local ok, e = pcall(require, "m_syntax")
      assert.is_false(ok)
      assert.matches("error loading module 'm_syntax' from file", e)
    end)

    it("asks the searchers of the moment", function()
      local searchers = package.searchers
      finally(function() package.searchers = searchers end)
      package.searchers = { function(name) return function(...) return { ... } end, "data of " .. name end }
      assert.same({ "m_searched", "data of m_searched" }, (require("m_searched")))
      package.searchers = { function() return "\n\tthe one" end, function() end, function() return 12 end }
      local _, e = pcall(require, "m_other")
      assert.matches("module 'm_other' not found:\n\t\n\tthe one\n\t12$", e)
      package.searchers = nil
      _, e = pcall(require, "m_other")
      assert.matches("'package.searchers' must be a table", e)
    end)

    it("works in callbacks", function()
      module("m_callback", "return 'called'")
      local got
      async.get_running_loop():call_soon(function() got = { require("m_callback") } end)
      turns(2)
      assert.same({ "called", dir .. "/m_callback.lua" }, got)
    end)

    it("works where nothing can be suspended", function()
      module("m_sorted", "return 'sorted'")
      local got
      table.sort({ 2, 1 }, function(a, b)
        got = require("m_sorted")
        return a < b
      end)
      assert.equal("sorted", got)
      module("m_awaits", "return async.sleep(0, 'x')")
      local ok, e
      table.sort({ 2, 1 }, function(a, b)
        ok, e = pcall(require, "m_awaits")
        return a < b
      end)
      assert.is_false(ok)
      assert.is_true(async.isinstance(e, async.RuntimeError))
      assert.equal("x", (require("m_awaits")))
    end)

    it("works outside of any loop", function()
      assert.equal("1\t:preload:\nfalse\tfalse\t3\n", helper.plain [[
        package.preload.a = function() return 1 end
        print(async.require "a")
        local n = 0
        package.preload.c = function()
          n = n + 1
          if n < 3 then error "x" end
          return n
        end
        print(pcall(async.require, "c") and 1 or false, pcall(async.require, "c") and 1 or false, (async.require "c"))
      ]])
    end)

    it("checks its argument", function()
      for _, v in ipairs { {}, false, print } do
        refuses("TypeError", { "#1 to 'require'", "string expected" }, function() require(v) end)
      end
      refuses("TypeError", "string expected", require)
    end)
  end)

  describe("awaiting", function()
    it("suspends the task that loads", function()
      module("m_slow", "log[#log + 1] = 'begun' gate:wait() log[#log + 1] = 'ended' return 'slow'")
      local t = started(function() return require("m_slow") end)
      assert.same({ "begun" }, _G.log)
      assert.is_nil(package.loaded.m_slow)
      _G.gate:set()
      assert.same({ "slow", dir .. "/m_slow.lua" }, { async.await(t) })
      assert.equal("slow", package.loaded.m_slow)
    end)

    it("nests", function()
      module("m_inner", "async.sleep(0) return 'inner'")
      module("m_outer", "async.sleep(0) local v = require 'm_inner' async.sleep(0) return v .. ' outer'")
      assert.equal("inner outer", (require("m_outer")))
    end)

    it("joins a load in progress", function()
      module("m_joined", "log[#log + 1] = 1 gate:wait() return {}")
      local function job() return require("m_joined") end
      local tasks = {}
      for i = 1, 5 do tasks[i] = started(job) end
      _G.gate:set()
      async.wait(tasks)
      local m, where = tasks[1]:result()
      for i = 2, 5 do
        local m2, where2 = tasks[i]:result()
        assert.equal(m, m2)
        assert.equal(where, where2)
      end
      assert.equal(1, #_G.log)
    end)

    it("joins from inside a generator, too", function()
      module("m_generated", "async.sleep(0) return 'g'")
      local t = started(function() return (require("m_generated")) end)
      assert.equal("g", coroutine.wrap(function() return require("m_generated") end)())
      assert.equal("g", async.await(t))
    end)

    it("gives a failure to all who joined, and can be tried again", function()
      module("m_fails", [[
        log[#log + 1] = 1
        gate:wait()
        if #log < 2 then error(async.ValueError "first") end
        return "second"
      ]])
      local function job() return require("m_fails") end
      local tasks = { started(job), started(job), started(job) }
      _G.gate:set()
      async.wait(tasks)
      local e = tasks[1]:exception()
      assert.equal("first", e.message)
      assert.equal(e, tasks[2]:exception())
      assert.equal(e, tasks[3]:exception())
      assert.equal(1, #_G.log)
      assert.equal("second", (require("m_fails")))
    end)

    it("fails with any value", function()
      module("m_text", "async.sleep(0) error('a text', 0)")
      local t = started(function() return require("m_text") end)
      assert.same({ false, "a text" }, { pcall(require, "m_text") })
      assert.equal("a text", t:exception())
      module("m_nil", "async.sleep(0) error()")
      t = started(function() return require("m_nil") end)
      assert.equal("nil", select(2, pcall(require, "m_nil")).message)
      assert.equal("nil", t:exception().message)
      module("m_false", "error(false)")
      assert.same({ false, false }, { pcall(require, "m_false") })
    end)

    it("remembers where a module failed", function()
      module("m_trace", "local function deep() async.sleep(0) error('text') end\ndeep()")
      local t = started(function() return (require("m_trace")) end)
      local joined = started(function() return (require("m_trace")) end)
      async.wait { t, joined }
      for _, task in ipairs { t, joined } do
        assert.matches("m_trace%.lua:2", task:exception())
        local text = task:traceback()
        assert.matches("m_trace%.lua:2: in", text)
        assert.matches("m_trace%.lua:3: in", text)
        assert.matches("require_spec%.lua:%d+: in", text)
        assert.is_true(text:find("m_trace.lua:2", 1, true) < text:find("require_spec.lua", 1, true))
      end
    end)

    it("is cancelled like any await; the next who joined begins again", function()
      module("m_cancelled", "log[#log + 1] = 1 if #log == 1 then async.sleep(10) end return #log")
      local function job() return (require("m_cancelled")) end
      local first = started(job)
      local second, third = started(job), started(job)
      first:cancel("no")
      async.wait { first, second, third }
      assert.is_true(first:cancelled())
      assert.equal(2, second:result())
      assert.equal(2, third:result())
      assert.equal(2, #_G.log)
    end)

    it("goes on when one who joined is cancelled", function()
      module("m_goes_on", "gate:wait() return 'there'")
      local function job() return (require("m_goes_on")) end
      local first = started(job)
      local second = started(job)
      second:cancel()
      async.wait { second }
      assert.is_true(second:cancelled())
      assert.is_false(first:done())
      _G.gate:set()
      assert.equal("there", async.await(first))
    end)

    it("begins again when the task that loads is gone", function()
      module("m_gone", "log[#log + 1] = 1 if #log == 1 then coroutine.yield(gate) end return #log")
      local t = started(function() return coroutine.wrap(function() return (require("m_gone")) end)() end)
      assert.equal(_G.gate, async.await(t)) -- the generator was left half way
      assert.equal(2, (require("m_gone")))
    end)

    it("cannot be joined from a callback", function()
      module("m_busy", "gate:wait() return 'busy'")
      local t = started(function() return (require("m_busy")) end)
      local e
      async.get_running_loop():call_soon(function() e = select(2, pcall(require, "m_busy")) end)
      turns(2)
      assert.is_true(async.isinstance(e, async.RuntimeError))
      _G.gate:set()
      assert.equal("busy", async.await(t))
    end)

    it("cannot be joined in another loop, and begins again when the first has closed", function()
      require("spec.helper").plain [[
        local one, two = async.new_event_loop { exception_handler = function() end }, async.new_event_loop()
        local loads = 0
        package.preload.slow = function()
          loads = loads + 1
          if loads == 1 then
            one:stop()
            async.sleep(3600)
          end
          return "module"
        end
        one:create_task(async.require, "slow")
        one:run_forever()
        two:run_until_complete(function() refuses("RuntimeError", { "slow", "another loop" }, async.require, "slow") end)
        one:close()
        two:run_until_complete(function() eq("module", (async.require "slow")) end)
        eq(2, loads)
        two:close()
      ]]
    end)

    it("waits for the end even if package.loaded is set early", function()
      module("m_early", "local m = {} package.loaded[...] = m gate:wait() m.ready = true return m")
      local t = started(function() return (require("m_early")) end)
      local from_callback
      async.get_running_loop():call_soon(function()
        from_callback = require("m_early")
        _G.gate:set()
      end)
      assert.is_true(require("m_early").ready)
      assert.equal(from_callback, async.await(t))
    end)
  end)

  describe("cycles", function()
    it("a module that requires itself is an error, and can be tried again", function()
      module("m_self", "log[#log + 1] = 1 if #log == 1 then require 'm_self' end return 'ok'")
      refuses("RuntimeError", "module 'm_self' requires itself", require, "m_self")
      assert.equal("ok", (require("m_self")))
    end)

    it("so are two that require each other", function()
      module("m_one", "async.sleep(0) return require 'm_two'")
      module("m_two", "async.sleep(0) return require 'm_one'")
      refuses("RuntimeError", "module 'm_one' requires itself", require, "m_one")
    end)

    it("unless one has set package.loaded before", function()
      module("m_one", [[
        local m = { name = "one" }
        package.loaded[...] = m
        async.sleep(0)
        m.two = require "m_two"
        return m
      ]])
      module("m_two", "async.sleep(0) local one = require 'm_one' return { one = one.name }")
      assert.equal("one", require("m_one").two.one)
    end)

    it("over two tasks is an error, not a hang", function()
      module("m_one", "async.sleep(0) async.sleep(0) return require 'm_two'")
      module("m_two", "async.sleep(0) async.sleep(0) return require 'm_one'")
      local tasks = {
        async.create_task(function() return (require("m_one")) end),
        async.create_task(function() return (require("m_two")) end),
      }
      async.wait(tasks)
      for _, t in ipairs(tasks) do
        assert.is_true(async.isinstance(t:exception(), async.RuntimeError))
        assert.matches("require", t:exception().message)
      end
    end)

    it("over two tasks with package.loaded set early ends well", function()
      local text = [[
        local m = {}
        package.loaded[...] = m
        async.sleep(0)
        async.sleep(0)
        m.o = require "%s"
        return m
      ]]
      module("m_one", text:format("m_two"))
      module("m_two", text:format("m_one"))
      local list = async.gather { function() return require("m_one") end, function() return require("m_two") end }
      assert.equal(list[2], list[1].o)
      assert.equal(list[1], list[2].o)
    end)

    it("by a task of the module's own is an error, whoever comes first", function()
      module("m_child", [[
        local t = async.create_task(function() return pcall(require, "m_child") end)
        async.sleep(0)
        async.sleep(0)
        return async.await(t)
      ]])
      local e = helper.thrown(require, "m_child")
      assert.is_true(async.isinstance(e, async.RuntimeError))
      module("m_child", [[
        local t = async.create_task(function() async.sleep(0) async.sleep(0) return require 'm_child' end)
        return async.await(t)]])
      refuses("RuntimeError", "m_child", require, "m_child")
      turns(4)
    end)
  end)
end)

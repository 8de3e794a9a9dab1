-- Looking inside: tracebacks of errors, errors in print, the tree of all tasks.
local async = require "lunation"
local helper = require "spec.helper"
local refuses, turns = helper.refuses, helper.turns

-- An object to print to: file.text is what was written, file.writes how often.
local function new_file()
  local file = { text = "", writes = 0 }
  function file:write(text)
    self.text = self.text .. text
    self.writes = self.writes + 1
  end
  return file
end

local function printed(e)
  local file = new_file()
  async.print_exception(e, file)
  return file.text
end

local function dump()
  local file = new_file()
  async.dump(file)
  assert.equal(1, file.writes)
  return file.text
end

local function here() return debug.getinfo(2, "l").currentline end

describe("async.traceback", function()
  it("tells where the error was thrown and what it crossed", function()
    local line
    local inner = async.create_task(function()
      line = here() + 1
      error(async.ValueError("x"))
    end)
    local outer = async.create_task(function() async.await(inner) end)
    local _, e = pcall(async.await, outer)
    assert.matches("dump_spec.lua:" .. line .. ": in", async.traceback(e))
    assert.equal(outer:traceback(), async.traceback(outer))
  end)

  it("is nil where nothing was recorded", function()
    for _, v in ipairs { "text", 42, {}, true, print, async.ValueError("x"), async.Future(), async.current_task() } do
      assert.is_nil(async.traceback(v))
    end
    assert.is_nil(async.traceback(nil))
    local _, e = pcall(error, async.ValueError("caught at once"))
    assert.is_nil(async.traceback(e))
  end)

  it("refuses to be called with nothing", function()
    refuses("TypeError", { "#1", "traceback", "value expected" }, async.traceback)
  end)
end)

describe("async.print_exception", function()
  it("prints any value", function()
    assert.equal("ValueError: x\n", printed(async.ValueError("x")))
    assert.equal("text\n", printed("text"))
    assert.equal("two\nlines\n", printed("two\nlines"))
    assert.equal("nil\n", printed(nil))
    assert.equal("false\n", printed(false))
    assert.equal("<table whose tostring fails>\n", printed(setmetatable({}, { __tostring = error })))
    assert.equal("<table whose tostring fails>\n", printed(setmetatable({}, { __tostring = function() return {} end })))
  end)

  it("prints the recorded traceback", function()
    local t = async.create_task(function() error(async.ValueError("x")) end)
    local _, e = pcall(async.await, t)
    assert.equal("ValueError: x\n" .. async.traceback(e) .. "\n", printed(e))
  end)

  it("prints causes and contexts", function()
    local first = async.OSError("first", { code = "EIO" })
    local second = async.ValueError("second", { cause = first })
    local third = async.TypeError("third", { context = second })
    assert.equal("TypeError: third\nwhile handling: ValueError: second\ncaused by: OSError: first\n", printed(third))
    assert.equal("ValueError: x\ncaused by: plain\n", printed(async.ValueError("x", { cause = "plain" })))
  end)

  it("prints groups", function()
    local inner = async.ExceptionGroup("inner", { errors = { async.TypeError("t") } })
    local g = async.ExceptionGroup("outer", { errors = { async.ValueError("v", { cause = "c" }), inner, 7 } })
    assert.equal([[
ExceptionGroup: outer
  [1]
    ValueError: v
    caused by: c
  [2]
    ExceptionGroup: inner
      [1]
        TypeError: t
  [3]
    7
]], printed(g))
  end)

  it("is bounded", function()
    local a, b = async.ValueError("a"), async.ValueError("b")
    a.cause, b.cause = b, a
    assert.equal("ValueError: a\ncaused by: ValueError: b\ncaused by: ValueError: a\n(see above)\n", printed(a))
    local e = async.ValueError("root")
    for i = 1, 100000 do e = async.ValueError(i, { cause = e }) end
    assert.is_true(#printed(e) < 5000)
    local many = {}
    for i = 1, 100000 do many[i] = async.ValueError(i) end
    local text = printed(async.ExceptionGroup("many", { errors = many }))
    assert.is_true(#text < 5000)
    assert.matches("... and 99980 more", text, 1, true)
    local g = async.ExceptionGroup("deep", { errors = {} })
    for _ = 1, 10000 do g = async.ExceptionGroup("g", { errors = { g, g } }) end
    assert.is_true(#printed(g) < 5000)
    g.errors = { g }
    assert.is_true(#printed(g) < 5000)
    g.errors = 5
    assert.equal("ExceptionGroup: g\n", printed(g))
  end)

  it("writes once, and may be waited for", function()
    local file = new_file()
    local write = file.write
    local delay = 0.001
    function file:write(text)
      async.sleep(delay)
      write(self, text)
    end
    async.print_exception("x", file)
    assert.equal("x\n", file.text)
    delay = 100
    local t = async.create_task(async.print_exception, "y", file)
    turns()
    t:cancel()
    async.wait { t }
    assert.is_true(t:cancelled())
    assert.equal("x\n", file.text)
  end)

  it("writes to files of Lua", function()
    local path = os.tmpname()
    do
      local file <close> = assert(io.open(path, "w"))
      async.print_exception(async.ValueError("to a file"), file)
    end
    local file <close> = assert(io.open(path))
    assert.equal("ValueError: to a file\n", file:read("a"))
    os.remove(path)
  end)

  it("refuses bad input", function()
    refuses("TypeError", { "#1", "print_exception", "value expected" }, async.print_exception)
    for _, v in ipairs { 1, "text", {}, true, print, { write = 1 }, coroutine.create(print) } do
      refuses("TypeError", { "#2", "print_exception", "file expected" }, async.print_exception, "x", v)
      refuses("TypeError", { "#1", "dump", "file expected" }, async.dump, v)
    end
    local ok, e = pcall(async.print_exception, "x", { write = function() error("disk full", 0) end })
    assert.is_false(ok)
    assert.equal("disk full", e)
  end)
end)

describe("async.dump", function()
  -- The line of the task of that name, with its indentation.
  local function line_of(text, name)
    return text:match("[^\n]*name='" .. name .. "'[^\n]*")
  end

  local function depth(text, name)
    return #text:match("\n( *)<Task pending name='" .. name .. "'") // 2
  end

  local function finish(...)
    for _, t in ipairs { ... } do t:cancel() end
    async.wait { ... }
  end

  it("shows what each task is doing", function()
    local gate = async.Event()
    local f = async.Future()
    local sleeper = async.create_task(function() async.sleep(100) end):set_name("sleeper")
    local forever = async.create_task(function() async.sleep(math.huge) end):set_name("forever")
    local waiter = async.create_task(function() gate:wait() end):set_name("waiter")
    local asker = async.create_task(function() async.await(f) end):set_name("asker")
    turns()
    local new = async.create_task(function() end):set_name("new")
    local text = dump()
    assert.matches("^%d+ unfinished tasks\n", text)
    assert.matches("running$", line_of(text, async.current_task():get_name():gsub("%p", "%%%0")))
    assert.matches("sleeping, %d+%.%d+ s left, for %d+%.%d+ s$", line_of(text, "sleeper"))
    assert.matches("sleeping for ever, for %d+%.%d+ s$", line_of(text, "forever"))
    assert.matches("not started yet, for %d+%.%d+ s$", line_of(text, "new"))
    assert.matches("waits for a Future, for %d+%.%d+ s$", line_of(text, "asker"))
    assert.is_truthy(line_of(text, "waiter"))
    gate:set()
    f:set_result(1)
    text = dump()
    assert.matches("ready to run, for %d+%.%d+ s$", line_of(text, "waiter"))
    assert.matches("ready to run, for %d+%.%d+ s$", line_of(text, "asker"))
    async.wait { waiter, asker, new }
    assert.is_nil(line_of(dump(), "asker"))
    finish(sleeper, forever)
  end)

  it("goes to stderr", function()
    local out, err = require("spec.helper").execute [[
      async.run(function()
        async.current_task():set_name("main task")
        async.dump()
      end)
    ]]
    assert.equal("", out)
    assert.matches("^1 unfinished task\n<Task pending name='main task'.-> running\n", err)
  end)

  it("shows the stacks", function()
    local line
    local function inside() line = here() + 1
      async.sleep(100)
    end
    local t = async.create_task(function() inside() end):set_name("stacked")
    turns()
    local text = dump()
    assert.matches("name='stacked'[^\n]*\n\t[^\n]*sleep[^\n]*\n\t[^\n]*dump_spec.lua:" .. line .. ":", text)
    assert.matches("dump_spec.lua:" .. here() - 2 .. ":", text) -- its own, at the call of dump
    finish(t)
  end)

  it("shows who waits for whom", function()
    local root = async.create_task(function() async.sleep(100) end):set_name("innermost")
    local middle = async.create_task(function() async.await(root) end):set_name("middle")
    local outer = async.create_task(function() async.await(middle) end):set_name("outermost")
    turns()
    local text = dump()
    local base = depth(text, "outermost")
    assert.equal(base + 1, depth(text, "middle"))
    assert.equal(base + 2, depth(text, "innermost"))
    finish(outer)
  end)

  it("shows the children of combinators", function()
    local function sleeping(name) return async.create_task(function() async.sleep(100) end):set_name(name) end
    local a, b, shared = sleeping("a"), sleeping("b"), sleeping("shared")
    local f = async.Future()
    local one = async.create_task(function() async.gather { a, b, f, shared } end):set_name("one")
    local two = async.create_task(function() async.wait { shared } end):set_name("two")
    turns()
    local text = dump()
    assert.matches("waits for 4 of its children, for %d+%.%d+ s$", line_of(text, "one"))
    assert.equal(depth(text, "one") + 1, depth(text, "a"))
    assert.equal(depth(text, "one") + 1, depth(text, "b"))
    assert.matches("\n  *<Future pending>\n", text)
    assert.equal(2, select(2, text:gsub("\n *<Task pending name='shared'", "")))
    assert.matches("name='shared'[^\n]*, see above\n", text)
    finish(one, two)
    finish(shared)
  end)

  it("shows tasks that were asked to stop", function()
    local t = async.create_task(function() pcall(async.sleep, 100) async.sleep(100) end):set_name("stubborn")
    turns()
    t:cancel()
    turns()
    assert.matches("asked to stop$", line_of(dump(), "stubborn"))
    finish(t)
  end)

  it("is linear for long chains", function()
    local t = async.create_task(function() async.sleep(100) end)
    local all, text = { t }, nil
    -- Makes the chain so long; the processor time that it takes to show it.
    local function cost(n)
      for i = #all + 1, n do
        local inner = t
        t = async.create_task(function() async.await(inner) end)
        all[i] = t
      end
      turns()
      local began = os.clock()
      text = dump()
      return os.clock() - began
    end
    local short, long = cost(300), cost(3000)
    assert.is_true(long < 40 * short + 0.05, short .. " and " .. long) -- ten times as much, not a hundred times
    assert.is_true(#text < 3000 * 1000)
    assert.equal(3000, select(2, text:gsub("sleep[^\n]*s left", "")) + select(2, text:gsub("waits for a ", "")))
    t:cancel()
    async.wait(all)
  end)

  it("does not disturb the collector", function()
    local running = collectgarbage("isrunning")
    dump()
    assert.equal(running, collectgarbage("isrunning"))
    collectgarbage("stop")
    dump()
    local stopped = collectgarbage("isrunning")
    collectgarbage("restart")
    assert.is_false(stopped)
  end)
end)

-- The exception handler: what it gets, when, and what happens if it fails itself; the default one in processes of
-- its own, since it prints to stderr.
local async = require "lunation"
local helper = require "spec.helper"
local refuses = helper.refuses
local command = require "spec.support.command"

-- Runs a program in a process of its own: what it printed to stdout and stderr, and its exit code.
local function program(text, ...)
  local path = os.tmpname()
  command.write_file(path, 'local async = require "lunation"\nlocal loop = async.get_running_loop()\n' .. text)
  local out, err, code = command.run { command.lunation, path, ..., limit = 20 }
  os.remove(path)
  return out, err, code
end

local function fail(text) error(async.ValueError(text)) end

local loop, reports

-- A test with a handler of its own that collects what it gets in `reports`.
local function it_handles(name, test)
  it(name, function()
    loop = async.get_running_loop()
    reports = {}
    local before = loop:get_exception_handler()
    local _ <close> = async.defer(function() loop:set_exception_handler(before) end)
    loop:set_exception_handler(function(l, context)
      assert(l == loop)
      reports[#reports + 1] = context
    end)
    test()
  end)
end

describe("exception handler", function()
  it_handles("is set, told and taken away", function()
    local function handler() end
    loop:set_exception_handler(handler)
    assert.equal(handler, loop:get_exception_handler())
    loop:set_exception_handler(nil)
    assert.is_nil(loop:get_exception_handler())
    local callable = setmetatable({}, { __call = handler })
    loop:set_exception_handler(callable)
    assert.equal(callable, loop:get_exception_handler())
  end)

  it_handles("refuses bad input", function()
    for _, v in ipairs { 1, "text", {}, true, async.Future() } do
      refuses("TypeError", { "set_exception_handler", "function expected" }, loop.set_exception_handler, loop, v)
    end
    for _, name in ipairs { "call_exception_handler", "default_exception_handler" } do
      refuses("TypeError", { name, "table expected, got no value" }, loop[name], loop)
      refuses("TypeError", { name, "table expected" }, loop[name], loop, "text")
    end
    for _, name in ipairs { "set_exception_handler", "get_exception_handler", "call_exception_handler",
      "default_exception_handler" } do
      refuses("TypeError", { name, "Loop expected" }, loop[name], {}, {})
      refuses("TypeError", { name, "Loop expected" }, loop[name])
    end
  end)

  -- The collections of idle moments are rationed by the time that they take, which is no virtual one.
  it_handles("gets tasks and futures whose error nobody took #real", function()
    async.create_task(fail, "lost"):set_name("loser")
    async.sleep(0.01)
    assert.equal(1, #reports)
    local r = reports[1]
    assert.equal("Task exception was never retrieved", r.message)
    assert.equal("unretrieved", r.kind)
    assert.equal("lost", r.exception.message)
    assert.equal(r.future, r.task)
    assert.equal("loser", r.task:get_name())
    assert.matches("fault_spec.lua:%d+: in", r.traceback)
    do
      local f = async.Future()
      f:set_exception("plain")
    end
    -- Such collections are rationed: the second comes later.
    assert.is_true(helper.eventually(function() return #reports == 2 end))
    assert.equal("Future exception was never retrieved", reports[2].message)
    assert.equal("plain", reports[2].exception)
    assert.is_nil(reports[2].task)
  end)

  it_handles("gets errors of callbacks, and the loop goes on", function()
    local ran = {}
    local handle = loop:call_soon(fail, "soon")
    loop:call_soon(function() ran[#ran + 1] = "next" end)
    loop:call_later(0.002, function() fail("later") end)
    local f = async.Future()
    f:add_done_callback(function() error("done callback", 0) end)
    f:add_done_callback(function() ran[#ran + 1] = "other" end)
    f:set_result(1)
    async.sleep(0.01)
    assert.same({ "next", "other" }, ran)
    assert.equal(3, #reports)
    local soon = reports[1]
    assert.matches("^Exception in callback <fail@.*fault_spec%.lua:%d+>$", soon.message:gsub("<@?", "<fail@", 1))
    assert.equal("callback", soon.kind)
    assert.equal("soon", soon.exception.message)
    assert.equal(handle, soon.handle)
    assert.matches("^traceback:\n.*fault_spec.lua:%d+: in", soon.traceback)
    assert.is_nil(soon.traceback:find("busted", 1, true)) -- what runs the loop is no part of it
    assert.equal("done callback", reports[2].exception)
    assert.equal(f, reports[2].future)
    assert.equal("later", reports[3].exception.message)
  end)

  it_handles("gets every kind of value that a callback throws", function()
    local values = { "text", 42, {}, true, false, print }
    for _, v in ipairs(values) do loop:call_soon(error, v, 0) end
    loop:call_soon(error)
    loop:call_soon(error, setmetatable({}, { __tostring = function() error("no") end }))
    async.sleep(0.005)
    assert.equal(#values + 2, #reports)
    for i, v in ipairs(values) do assert.is_true(rawequal(reports[i].exception, v)) end
    assert.equal("Error: nil", tostring(reports[#values + 1].exception))
  end)

  it_handles("gets them in the order in which they happened", function()
    for i = 1, 3000 do loop:call_soon(error, i) end
    local seen = 0
    loop:set_exception_handler(function(_, context)
      seen = seen + 1
      assert.equal(seen, context.exception)
    end)
    async.sleep(0.01)
    async.sleep(0.01)
    assert.equal(3000, seen)
  end)

  it_handles("is no place to await, and knows no current task", function()
    local problem, task
    loop:set_exception_handler(function()
      task = async.current_task()
      problem = select(2, pcall(async.sleep, 0))
    end)
    loop:call_soon(error, "x")
    async.sleep(0.005)
    assert.is_nil(task)
    assert.is_true(async.isinstance(problem, async.RuntimeError))
    problem = nil
    loop:call_exception_handler { message = "by hand" }
    assert.is_true(async.isinstance(problem, async.RuntimeError))
  end)

  it_handles("may use the loop", function()
    local done = async.Future()
    loop:set_exception_handler(function(_, context)
      async.create_task(function()
        async.sleep(0)
        done:set_result(context.exception)
      end)
    end)
    loop:call_soon(error, "passed on", 0)
    assert.equal("passed on", async.await(done))
  end)

  it_handles("may be replaced while it runs", function()
    local log = {}
    loop:set_exception_handler(function()
      log[#log + 1] = "first"
      loop:set_exception_handler(function() log[#log + 1] = "second" end)
    end)
    loop:call_soon(error, "a")
    loop:call_soon(error, "b")
    async.sleep(0.005)
    assert.same({ "first", "second" }, log)
  end)

  it_handles("gets each error once", function()
    local errors, delivered = 0, 0
    for i = 1, 20 do
      errors = errors + 1
      local t = async.create_task(fail, i)
      if i % 2 == 0 then
        async.sleep(0)
        delivered = delivered + (pcall(async.await, t) and 0 or 1)
      end
    end
    collectgarbage()
    async.sleep(0.01)
    collectgarbage()
    async.sleep(0.01)
    assert.equal(errors, delivered + #reports)
  end)

  describe("called by hand", function()
    it_handles("is called at once", function()
      local context = { message = "event", extra = 1 }
      assert.equal(0, select("#", loop:call_exception_handler(context)))
      assert.equal(context, reports[1])
      assert.is_nil(context.kind)
      loop:call_exception_handler {}
      assert.same({}, reports[2])
    end)

    it_handles("waits while another one is handled", function()
      local log = {}
      loop:set_exception_handler(function(_, context)
        log[#log + 1] = "begin " .. context.message
        if context.message == "a" then loop:call_exception_handler { message = "b" } end
        log[#log + 1] = "end " .. context.message
      end)
      loop:call_exception_handler { message = "a" }
      assert.same({ "begin a", "end a" }, log)
      async.sleep(0.005)
      assert.same({ "begin a", "end a", "begin b", "end b" }, log)
    end)

    it_handles("does not starve the others by reporting for ever", function()
      local n = 0
      loop:set_exception_handler(function()
        n = n + 1
        loop:call_exception_handler { message = "again" }
      end)
      -- What is on its way then is for nobody.
      local _ <close> = async.defer(function()
        loop:set_exception_handler(function() end)
        async.sleep(0.005)
      end)
      loop:call_exception_handler { message = "first" }
      helper.turns(5)
      assert.is_true(n > 1)
    end)

    it_handles("throws KeyboardInterrupt on", function()
      local e = async.KeyboardInterrupt("enough")
      loop:set_exception_handler(function() error(e) end)
      local ok, got = pcall(loop.call_exception_handler, loop, { message = "m" })
      assert.is_false(ok)
      assert.equal(e, got)
      loop:set_exception_handler(function(_, c) reports[#reports + 1] = c end)
      loop:call_exception_handler { message = "still there" }
      assert.equal("still there", reports[1].message)
    end)
  end)
end)

describe("default exception handler", function()
  it("prints message, keys, error and traceback", function()
    local out, err = program [[
      async.create_task(function() error(async.ValueError("nobody")) end):set_name("first")
      async.sleep(0.01)
      print "on"
      loop:default_exception_handler {
        message = "two\nlines", zebra = 1, apple = "x", kind = "hidden", [7] = "hidden", exception = "plain",
        source_traceback = "place", future = "F", task = "F",
      }
      loop:default_exception_handler {}
    ]]
    assert.equal("on\n", out)
    assert.matches("^Task exception was never retrieved\nfuture: <Task finished name='first'", err)
    assert.matches("\nValueError: nobody\ntraceback:\n.*:3: in ", err)
    local rest = "two\nlines\nfuture: F\napple: x\nzebra: 1\nplain\nmade at:\nplace\n"
      .. "Unhandled exception in event loop\n"
    assert.equal(rest, err:sub(-#rest))
  end)

  it("prints causes and groups", function()
    local _, err = program [[
      local cause = async.TypeError("the cause")
      local e = async.ExceptionGroup("several", { errors = { async.ValueError("one"), "two" }, cause = cause })
      loop:call_exception_handler { message = "m", exception = e }
    ]]
    assert.equal("m\nExceptionGroup: several\n  [1]\n    ValueError: one\n  [2]\n    two\n"
      .. "caused by: TypeError: the cause\n", err)
  end)

  it("prints a traceback without an error, and names what cannot be named by its type", function()
    local out, err = program [[
      loop:call_exception_handler { message = "only traced", traceback = "traceback:\n\there" }
      loop:call_exception_handler { message = 42 }
      loop:call_soon(setmetatable({}, { __call = function() error("of a table", 0) end }))
      async.sleep(0)
    ]]
    assert.matches("^only traced\ntraceback:\n\there\n42\nException in callback <table>\n.*\nof a table\n", err)
    assert.equal("", out)
  end)

  it("cuts long traces and long names, and shows nothing of the loop", function()
    local _, err = program [[
      local function deep(n)
        if n == 0 then error("far down", 0) end
        return (deep(n - 1))
      end
      loop:call_soon(deep, 40)
      loop:call_soon(deep, 10)
      local name = ("name"):rep(2000)
      local object = { [name] = function() error("far up", 0) end }
      loop:call_soon(load("local object = ... local _ = object." .. name .. "()"), object)
      async.sleep(0)
    ]]
    local first, second, third = err:match("^(Exception in .*)(Exception in .*)(Exception in .*)$")
    assert.is_truthy(third, err)
    assert.matches("\nfar down\ntraceback:\n", first)
    assert.matches("\n\t%.%.%.\n", first)
    assert.equal(12, select(2, second:gsub("\n\t", "")))
    assert.matches("\nfar up\n", third)
    assert.is_true(#third < 6000)
  end)

  it("tells of a handler that threw, with both errors", function()
    local out, err, code = program [[
      loop:set_exception_handler(function() error(async.TypeError("broken")) end)
      loop:call_soon(error, async.ValueError("first"))
      async.sleep(0.005)
      loop:call_exception_handler { message = "by hand" }
      print "on"
    ]]
    assert.equal("on\n", out)
    assert.equal(0, code)
    assert.matches("^Unhandled error in exception handler\nTypeError: broken\ntraceback:\n", err)
    assert.matches("\nwhile handling:\n  Exception in callback <error>\n  handle: <[^\n]*>\n  ValueError: first\n", err)
    assert.matches("\nwhile handling:\n  by hand\n$", err)
  end)

  it("survives what cannot be shown", function()
    local out, err = program [[
      local bad = setmetatable({}, { __tostring = function() error("no") end })
      loop:call_exception_handler { message = bad, future = bad, exception = bad, thing = bad }
      local circle = async.ValueError("round")
      circle.cause = circle
      loop:call_exception_handler { message = "m", exception = circle }
      local context = { message = "nested" }
      context.context = context
      loop:call_exception_handler(context)
      print "on"
    ]]
    assert.equal("on\n", out)
    assert.equal(4, select(2, err:gsub("<table whose tostring fails>", "")))
    assert.matches("m\nValueError: round\ncaused by: ValueError: round\n%(see above%)\n", err)
  end)

  it("handles a report after the loop was closed", function()
    local out, err = program [[
      local other = async.new_event_loop()
      other:set_exception_handler(function(l, c) print(c.message) l:call_exception_handler { message = "inner" } end)
      other:close()
      other:call_exception_handler { message = "outer" }
    ]]
    assert.equal("outer\n", out)
    assert.equal("inner\n", err)
  end)
end)

describe("KeyboardInterrupt", function()
  it("from a callback leaves the run call", function()
    local out, err, code = program [[
      local _ <close> = async.defer(function(e) print("cleanup", e) end)
      loop:call_soon(function() error(async.KeyboardInterrupt("callback")) end)
      async.sleep(5)
    ]]
    assert.matches("^cleanup\tCancelledError", out)
    assert.is_nil(err:find("Exception in callback", 1, true))
    assert.not_equal(0, code)
  end)

  it("from the handler makes an orphan error fatal", function()
    local out, _, code = program [[
      loop:set_exception_handler(function(_, c) print(c.exception) error(async.KeyboardInterrupt("fatal")) end)
      async.create_task(function() error(async.ValueError("orphan")) end)
      async.sleep(5)
      print "not reached"
    ]]
    assert.equal("ValueError: orphan\n", out)
    assert.not_equal(0, code)
  end)
end)

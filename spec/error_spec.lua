-- Error objects: the classes and what is derived from them, the objects, isinstance, groups, and how bad input is
-- named.
local async = require "lunation"
local refuses = require("spec.helper").refuses

-- Calls fn(...), which must throw an error object of `class`; returns that.
local function thrown(class, fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  assert(async.isinstance(e, class), "not a " .. class.name .. ": " .. tostring(e))
  return e
end

local PARENTS = {
  CancelledError = "BaseError", KeyboardInterrupt = "BaseError", Error = "BaseError",
  TypeError = "Error", ValueError = "Error", RuntimeError = "Error", InvalidStateError = "Error",
  TimeoutError = "Error", QueueEmpty = "Error", QueueFull = "Error", QueueShutDown = "Error",
  BrokenBarrierError = "Error", IncompleteReadError = "Error", LimitOverrunError = "Error",
  OSError = "Error", SSLError = "OSError", HTTPError = "Error", ExceptionGroup = "Error",
}

local function make(class)
  return class("text", { errors = {} })
end

describe("error classes", function()
  it("are all there, each below its parent", function()
    for name, parent in pairs(PARENTS) do
      local e = make(async[name])
      assert.equal(name, e.name)
      assert.equal(name, async[name].name)
      assert.is_true(async.isinstance(e, async[name]))
      assert.is_true(async.isinstance(e, async[parent]))
      assert.is_true(async.isinstance(e, async.BaseError))
    end
  end)

  it("are told apart", function()
    for name in pairs(PARENTS) do
      for other in pairs(PARENTS) do
        local related = name == other or PARENTS[name] == other or (PARENTS[name] and PARENTS[PARENTS[name]] == other)
        assert.equal(related, async.isinstance(make(async[name]), async[other]))
      end
    end
  end)

  it("keep cancellations and interrupts out of Error", function()
    assert.is_false(async.isinstance(async.CancelledError(), async.Error))
    assert.is_false(async.isinstance(async.KeyboardInterrupt(), async.Error))
    assert.is_false(async.isinstance(async.BaseError(), async.Error))
  end)

  it("say what they are", function()
    assert.equal("<class ValueError>", tostring(async.ValueError))
    assert.equal("<class Mine>", tostring(async.exception("Mine")))
  end)

  it("cannot be instances", function()
    assert.is_false(async.isinstance(async.ValueError, async.BaseError))
    assert.is_false(async.isinstance(async.ValueError, async.ValueError))
  end)
end)

describe("async.exception", function()
  it("derives from Error unless told otherwise", function()
    local Mine = async.exception("Mine")
    assert.is_true(async.isinstance(Mine("m"), async.Error))
    local Stop = async.exception("Stop", async.BaseError)
    assert.is_false(async.isinstance(Stop(), async.Error))
    assert.is_true(async.isinstance(Stop(), async.BaseError))
  end)

  it("makes a new class each time", function()
    local A, B = async.exception("Same"), async.exception("Same")
    assert.is_true(async.isinstance(A(), A))
    assert.is_false(async.isinstance(A(), B))
  end)

  it("passes on fields, methods and metamethods", function()
    local Base = async.exception("Base")
    Base.retry = true
    function Base.__lt() return true end
    local Child = async.exception("Child", Base)
    function Base:hint() return "hint of " .. self.name end
    local e = Child("x")
    assert.is_true(e.retry)
    assert.equal("hint of Child", e:hint())
    assert.is_true(e < Child("y"))
    assert.equal("Child: x", tostring(e))
  end)

  it("carries built-in kinds on to what is derived from them", function()
    local Gone = async.exception("Gone", async.exception("Away", async.CancelledError))
    local t = async.create_task(function() error(Gone("bye")) end)
    async.wait { t }
    assert.is_true(t:cancelled())
  end)

  it("has room for long chains", function()
    local class = async.Error
    for i = 1, 1000 do class = async.exception("C" .. i, class) end
    local e = class("deep")
    assert.is_true(async.isinstance(e, async.BaseError))
    assert.is_false(async.isinstance(e, async.OSError))
    assert.is_nil(e.no_such_field)
  end)

  it("refuses bad input", function()
    refuses("TypeError", { "#1", "exception", "string expected, got no value" }, async.exception)
    refuses("TypeError", { "#1", "exception", "number" }, async.exception, 5)
    refuses("ValueError", { "#1", "exception" }, async.exception, "")
    for _, v in ipairs { 1, "Error", {}, true, print, async.ValueError("x") } do
      refuses("TypeError", { "#2", "exception", "class expected" }, async.exception, "X", v)
    end
  end)
end)

describe("error objects", function()
  it("are tables with message, name and fields", function()
    local e = async.OSError("no line", { code = "ENETDOWN", errno = 100, path = "/x" })
    assert.equal("table", type(e))
    assert.same({ "no line", "OSError", "ENETDOWN", 100, "/x" }, { e.message, e.name, e.code, e.errno, e.path })
    assert.is_nil(e.address)
    assert.equal(async.OSError, getmetatable(e))
  end)

  it("show a message, if there is one", function()
    assert.equal("ValueError: text", tostring(async.ValueError("text")))
    assert.equal("ValueError", tostring(async.ValueError()))
    assert.equal("ValueError", tostring(async.ValueError("")))
    assert.equal("ValueError: 42", tostring(async.ValueError(42)))
    assert.equal("ValueError: false", tostring(async.ValueError(false)))
    assert.equal("ValueError: a\0b", tostring(async.ValueError("a\0b")))
    local inner = async.TypeError("inner")
    assert.equal("ValueError: TypeError: inner", tostring(async.ValueError(inner)))
    assert.equal(inner, async.ValueError(inner).message)
  end)

  it("survive a message whose tostring fails", function()
    local e = async.ValueError(setmetatable({}, { __tostring = function() error("no") end }))
    assert.is_false((pcall(tostring, e)))
    local out = {}
    async.print_exception(e, { write = function(_, text) out[#out + 1] = text end })
    assert.matches("tostring fails", table.concat(out))
    e = async.ValueError()
    e.message = e
    assert.is_false((pcall(tostring, e)))
    async.print_exception(e, { write = function(_, text) out[#out + 1] = text end })
    assert.matches("tostring fails", out[2])
  end)

  it("take the message from the fields only if the argument is nil", function()
    assert.equal("arg", async.ValueError("arg", { message = "field" }).message)
    assert.equal("field", async.ValueError(nil, { message = "field" }).message)
    assert.is_false(async.ValueError(false, { message = "field" }).message)
  end)

  it("keep the name of their class", function()
    local e = async.ValueError("x", { name = "file.txt", path = "p" })
    assert.equal("ValueError", e.name)
    assert.equal("p", e.path)
  end)

  it("copy the fields and leave the table alone", function()
    local fields = { a = 1, [5] = 2, name = "n" }
    local e = async.ValueError("x", fields)
    e.a = 3
    assert.same({ a = 1, [5] = 2, name = "n" }, fields)
    assert.equal(2, e[5])
  end)

  it("are compared by identity", function()
    local a, b = async.ValueError("x"), async.ValueError("x")
    assert.is_true(a == a)
    assert.is_false(a == b)
    local ok, e = pcall(error, a)
    assert.is_true(not ok and rawequal(e, a))
  end)

  it("refuse fields that are no table", function()
    for _, v in ipairs { 1, "text", true, print } do
      refuses("TypeError", { "#2", "'ValueError'", "table expected" }, async.ValueError, "m", v)
    end
    refuses("TypeError", { "#2", "'Mine'" }, async.exception("Mine"), "m", 1)
  end)

  it("refuse a tostring of something else", function()
    refuses("TypeError", { "error object expected" }, async.ValueError.__tostring, {})
    refuses("TypeError", { "class expected" }, getmetatable(async.ValueError).__call, {})
    refuses("TypeError", { "class expected" }, getmetatable(async.ValueError).__tostring, {})
  end)
end)

describe("async.isinstance", function()
  it("is false for all that is no error object", function()
    local e = async.ValueError("x")
    for _, v in ipairs { "text", 42, {}, true, print, io.stdout, coroutine.create(print),
      setmetatable({}, { __index = e }), setmetatable({}, {}) } do
      assert.is_false(async.isinstance(v, async.BaseError))
    end
    assert.is_false(async.isinstance(nil, async.BaseError))
    assert.is_false(async.isinstance(async.Future(), async.BaseError))
  end)

  it("takes a list of classes", function()
    local e = async.exception("Mine", async.OSError)("x")
    assert.is_true(async.isinstance(e, { async.ValueError, async.OSError }))
    assert.is_false(async.isinstance(e, { async.ValueError, async.TypeError }))
    assert.is_false(async.isinstance(e, {}))
  end)

  it("refuses what is no class", function()
    local e = async.ValueError("x")
    refuses("TypeError", { "#2", "isinstance", "class expected, got no value" }, async.isinstance)
    for _, v in ipairs { 1, "ValueError", true, print } do
      refuses("TypeError", { "#2", "isinstance", "class expected" }, async.isinstance, e, v)
      refuses("TypeError", { "#2", "isinstance", "element 2" }, async.isinstance, e, { async.OSError, v })
    end
    refuses("TypeError", { "#2", "isinstance" }, async.isinstance, e, e)
    refuses("TypeError", { "#2", "isinstance" }, async.isinstance, 5, nil)
  end)
end)

describe("ExceptionGroup", function()
  local Group = async.ExceptionGroup

  local function shape(g)
    if g == nil then return "nil" end
    local t = {}
    for i, e in ipairs(g.errors) do
      t[i] = async.isinstance(e, Group) and shape(e) or tostring(e)
    end
    return g.message .. "[" .. table.concat(t, ", ") .. "]"
  end

  local function sample()
    return Group("outer", { errors = {
      async.ValueError("v1"),
      Group("inner", { errors = { async.TypeError("t"), async.ValueError("v2") } }),
      "a string",
      Group("types", { errors = { async.TypeError("u") } }),
    }, code = 7 })
  end

  it("demands a list of errors", function()
    for _, fields in ipairs { {}, { errors = 1 }, { errors = "x" }, { errors = async.ValueError("x") } } do
      refuses("TypeError", { "#2", "ExceptionGroup", "errors" }, Group, "m", fields)
    end
    refuses("TypeError", { "#2", "ExceptionGroup", "errors" }, Group, "m")
    refuses("TypeError", { "#2", "Mine", "errors" }, async.exception("Mine", Group), "m")
    local list = { async.ValueError("x"), "text", false }
    assert.equal(list, Group("m", { errors = list }).errors)
    assert.same({}, Group("m", { errors = {} }).errors)
  end)

  it("splits by class and keeps the structure", function()
    local match, rest = sample():split(async.ValueError)
    assert.equal("outer[ValueError: v1, inner[ValueError: v2]]", shape(match))
    assert.equal("outer[inner[TypeError: t], a string, types[TypeError: u]]", shape(rest))
    assert.equal(7, match.code)
    assert.equal(7, rest.code)
    match, rest = sample():split { async.ValueError, async.TypeError }
    assert.equal("outer[ValueError: v1, inner[TypeError: t, ValueError: v2], types[TypeError: u]]", shape(match))
    assert.equal("outer[a string]", shape(rest))
  end)

  it("is itself the match if it is of that class", function()
    local g = sample()
    local match, rest = g:split(async.Error)
    assert.equal(g, match)
    assert.is_nil(rest)
    match, rest = g:split(Group)
    assert.equal(g, match)
    assert.is_nil(rest)
    assert.equal(g, g:subgroup(async.BaseError))
  end)

  it("gives nil where there is nothing", function()
    local g = sample()
    local match, rest = g:split(async.OSError)
    assert.is_nil(match)
    assert.equal(shape(g), shape(rest))
    assert.is_nil(g:subgroup(async.OSError))
    assert.equal(1, select("#", g:subgroup(async.OSError)))
    match, rest = Group("empty", { errors = {} }):split(async.OSError)
    assert.is_nil(match)
    assert.is_nil(rest)
  end)

  it("leaves the original and the errors as they are", function()
    local g = sample()
    local before = shape(g)
    local match = g:subgroup(async.ValueError)
    assert.equal(before, shape(g))
    assert.equal(g.errors[1], match.errors[1])
    assert.equal(g.errors[2].errors[2], match.errors[2].errors[1])
  end)

  it("keeps derived classes", function()
    local Mine = async.exception("Mine", Group)
    local g = Mine("m", { errors = { async.ValueError("v"), async.TypeError("t") } })
    local match, rest = g:split(async.ValueError)
    assert.is_true(async.isinstance(match, Mine))
    assert.is_true(async.isinstance(rest, Mine))
  end)

  it("bounds nesting and notices circles", function()
    local g = Group("leaf", { errors = { async.ValueError("x") } })
    for _ = 1, 100 do g = Group("g", { errors = { g, async.TypeError("t") } }) end
    assert.is_truthy(g:subgroup(async.ValueError))
    for _ = 1, 10000 do g = Group("g", { errors = { g } }) end
    thrown(async.RuntimeError, g.split, g, async.ValueError)
    local circle = Group("c", { errors = {} })
    circle.errors[1] = Group("d", { errors = { circle, circle } })
    thrown(async.RuntimeError, circle.split, circle, async.ValueError)
  end)

  it("holds many errors", function()
    local errors = {}
    for i = 1, 10000 do errors[i] = i % 2 == 0 and async.ValueError(i) or async.TypeError(i) end
    local match, rest = Group("many", { errors = errors }):split(async.ValueError)
    assert.equal(5000, #match.errors)
    assert.equal(5000, #rest.errors)
    assert.equal(10000, match.errors[5000].message)
  end)

  it("refuses bad input", function()
    local g = sample()
    for _, method in ipairs { "split", "subgroup" } do
      refuses("TypeError", { method, "class expected" }, g[method], g)
      refuses("TypeError", { method, "class expected" }, g[method], g, "ValueError")
      refuses("TypeError", { method, "ExceptionGroup expected" }, g[method], {}, async.ValueError)
      refuses("TypeError", { method, "ExceptionGroup expected" }, g[method], async.ValueError("x"), async.Error)
    end
    local e = thrown(async.TypeError, function() g:split(5) end)
    assert.matches("bad argument #1 to 'split'", e.message, 1, true)
    g.errors = "gone"
    assert.is_nil((g:split(async.OSError)))
  end)
end)

describe("bad input", function()
  it("is named as the caller sees it", function()
    local e = thrown(async.TypeError, function() local x = async.sleep("1") return x end)
    assert.equal("bad argument #1 to 'sleep' (number expected, got string)", e.message)
    e = thrown(async.TypeError, async.sleep, 0 / 0)
    assert.equal("bad argument #1 to 'sleep' (number expected, got NaN)", e.message)
    e = thrown(async.TypeError, async.sleep)
    assert.equal("bad argument #1 to 'sleep' (number expected, got no value)", e.message)
    e = thrown(async.TypeError, function() return async.sleep({}) end)
    assert.equal("bad argument #1 to 'sleep' (number expected, got table)", e.message)
    e = thrown(async.TypeError, async.sleep, async.ValueError("x"))
    assert.equal("bad argument #1 to 'sleep' (number expected, got ValueError)", e.message)
  end)

  it("does not count self in method calls", function()
    local t = async.current_task()
    local e = thrown(async.TypeError, function() local x = t:set_name(5) return x end)
    assert.equal("bad argument #1 to 'set_name' (string expected, got number)", e.message)
    e = thrown(async.TypeError, t.set_name, t, 5)
    assert.equal("bad argument #2 to 'set_name' (string expected, got number)", e.message)
  end)
end)

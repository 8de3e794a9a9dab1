-- async.wrap: callback functions as functions that wait.
local async = require "lunation"
local support = require "spec.support.tasks"

local caught, class_in_message = support.caught, support.class_in_message

local loop = async.get_running_loop()

describe("wrap", function()
  it("returns what the callback gets later", function()
    local lookup = async.wrap(function(name, cb) loop:call_later(0.001, cb, name:upper(), #name) end)
    assert.same({ "MOON", 4 }, { lookup("moon") })
    assert.same({ "SUN", 3 }, { lookup("sun") })
  end)

  it("returns at once what the callback gets at once", function()
    local turned = false
    loop:call_soon(function() turned = true end)
    local cached = async.wrap(function(name, cb) cb(name, "at once") end)
    assert.same({ "x", "at once" }, { cached("x") })
    assert.is_false(turned)
    async.sleep(0)
  end)

  it("keeps holes, none and many", function()
    local echo = async.wrap(function(cb, ...) cb(...) end, 1)
    assert.same(table.pack(nil, 2, nil), table.pack(echo(nil, 2, nil)))
    assert.equal(0, select("#", echo()))
    assert.equal(5000, select("#", echo(table.unpack({}, 1, 5000))))
  end)

  it("puts the callback where it belongs", function()
    local function positions(...)
      local at, cb
      for i = 1, select("#", ...) do
        local v = select(i, ...)
        if type(v) == "function" then at, cb = i, v end
      end
      cb(at, select("#", ...), ...)
    end
    local function first_two(f, ...) local a, b = f(...) return { a, b } end
    assert.same({ 1, 1 }, first_two(async.wrap(positions)))
    assert.same({ 4, 4 }, first_two(async.wrap(positions), 1, 2, 3))
    assert.same({ 1, 4 }, first_two(async.wrap(positions, 1), 1, 2, 3))
    assert.same({ 2, 4 }, first_two(async.wrap(positions, 2), 1, 2, 3))
    assert.same({ 4, 4 }, first_two(async.wrap(positions, 4), 1, 2, 3))
    -- fewer arguments than places: nils fill them
    assert.same({ 5, 5 }, first_two(async.wrap(positions, 5), 1))
    assert.same({ 200, 200 }, first_two(async.wrap(positions, 200)))
  end)

  it("does not put it behind the parameters of a Lua function", function()
    local double = async.wrap(function(x, cb) cb(2 * x) end)
    assert.equal(6, double(3))
    assert.equal(6, double(3, "more", "than", "it", "takes"))
    assert.same({ 2, 4, n = 2 }, async.map({ 1, 2 }, double)) -- map passes an index, too
    -- literally last as long as the function can see it
    assert.equal("seen", async.wrap(function(_, cb, extra) cb(extra or "seen") end)(1))
    local only = async.wrap(function(cb) cb("only") end)
    assert.equal("only", only())
    assert.equal("only", only(1, 2))
  end)

  it("heeds the first call of the callback only", function()
    local kept
    local f = async.wrap(function(cb)
      kept = cb
      cb("first")
      cb("second")
    end)
    assert.equal("first", f())
    assert.equal(0, select("#", kept("third")))
    local g = async.wrap(function(cb)
      loop:call_soon(cb, 1)
      loop:call_soon(cb, 2)
    end)
    assert.equal(1, g())
    async.sleep(0)
  end)

  it("keeps calls apart", function()
    local f = async.wrap(function(delay, v, cb) loop:call_later(delay, cb, v) end)
    local results = async.gather {
      function() return f(0.003, "a") end,
      function() return f(0.001, "b") end,
      function() return f(0.002, "c") end,
    }
    assert.same({ "a", "b", "c", n = 3 }, results)
  end)

  it("lets the function itself await", function()
    local f = async.wrap(function(v, cb)
      async.sleep(0.001)
      cb(v)
      async.sleep(0.001)
      return "dropped"
    end)
    assert.equal("v", f("v"))
    local g = async.wrap(function(cb)
      async.sleep(0)
      loop:call_soon(cb, "later")
    end)
    assert.equal("later", g())
  end)

  it("wraps whatever can be called", function()
    local object = setmetatable({}, { __call = function(_, x, cb) cb(x + 1) end })
    assert.equal(2, async.wrap(object)(1))
  end)

  it("throws what the function throws", function()
    local e = async.ValueError("no")
    assert.equal(e, caught(async.wrap(function() error(e) end)))
    local kept
    caught(async.wrap(function(cb) kept = cb error("x") end))
    kept("too late")
  end)

  it("takes no heed of the callback after a cancel", function()
    local kept
    local f = async.wrap(function(cb) kept = cb end)
    local t = async.create_task(f)
    async.sleep(0)
    t:cancel("enough")
    assert.equal("CancelledError: enough", tostring(caught(async.await, t)))
    kept("too late")
    async.sleep(0)
    assert.is_true(t:cancelled())
    assert.equal("TimeoutError", caught(async.wait_for, f, 0.001).name)
    kept("too late")
  end)

  it("passes a cancel into the function while that awaits", function()
    local seen
    local t = async.create_task(async.wrap(function()
      local _, e = pcall(async.sleep, 30)
      seen = e.name
      error(e)
    end))
    async.sleep(0)
    t:cancel()
    assert.equal("CancelledError", caught(async.await, t).name)
    assert.equal("CancelledError", seen)
  end)

  it("prefers a value that came before the cancel", function()
    local kept
    local t = async.create_task(async.wrap(function(cb) kept = cb end))
    async.sleep(0)
    kept("value")
    t:cancel()
    assert.equal("value", async.await(t))
  end)

  it("has its callback called from coroutines and other tasks", function()
    local kept
    local t = async.create_task(async.wrap(function(cb) kept = cb end))
    async.sleep(0)
    coroutine.wrap(function() kept("from a coroutine") end)()
    assert.equal("from a coroutine", async.await(t))
  end)

  it("gives way now and then though the callback always comes at once", function()
    local turned = false
    local f = async.wrap(function(cb) cb() end)
    loop:call_soon(function() turned = true end)
    for _ = 1, 300 do f() end
    assert.is_true(turned)
  end)

  it("refuses more arguments than a stack holds", function()
    -- About the most that reach it, wherever the stack ends here, leave no room for the callback.
    local f = async.wrap(function(callback) callback() end, 1)
    local least, most = 1, 1000000
    while most - least > 1 do
      local n = (least + most) // 2
      local ok, e = pcall(function() return f(table.unpack({}, 1, n)) end)
      if ok or async.isinstance(e, async.RuntimeError) then least = n else most = n end
    end
    class_in_message(caught(function() return f(table.unpack({}, 1, least - 50)) end), async.RuntimeError,
      "too many arguments")
  end)

  it("cannot wait outside a task", function()
    local e, called
    local f = async.wrap(function() called = true end)
    loop:call_soon(function() e = select(2, pcall(f)) end)
    async.sleep(0)
    async.sleep(0)
    class_in_message(e, async.RuntimeError, "task")
    assert.is_nil(called)
  end)

  it("names function and argument of bad input", function()
    for _, bad in ipairs { 1, "x", true, {}, io.stdout } do
      class_in_message(caught(async.wrap, bad), async.TypeError, "wrap", "#1", "function expected")
    end
    class_in_message(caught(async.wrap), async.TypeError, "wrap", "#1", "function expected")
    for _, bad in ipairs { "1", true, {}, 1.5 } do
      class_in_message(caught(async.wrap, print, bad), async.TypeError, "wrap", "#2", "integer")
    end
    for _, bad in ipairs { 0, -1, 201, math.maxinteger, math.mininteger } do
      class_in_message(caught(async.wrap, print, bad), async.ValueError, "wrap", "#2")
    end
  end)
end)

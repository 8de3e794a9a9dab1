-- async.pcall and async.xpcall, which let cancellations through, and async.defer.
local async = require "lunation"
local helper = require "spec.helper"
local refuses, turns = helper.refuses, helper.turns

-- A task that runs fn and is cancelled with "stop" once it is suspended; it must end as cancelled.
local function cancelled(fn)
  local t = async.create_task(fn)
  turns()
  t:cancel("stop")
  async.wait { t }
  assert.is_true(t:cancelled())
  local _, e = pcall(t.result, t)
  assert.equal("CancelledError: stop", tostring(e))
end

-- Error objects that are no async.Error.
local function passing()
  return { async.CancelledError("c"), async.KeyboardInterrupt("k"), async.BaseError("b"),
    async.exception("Exit", async.BaseError)("e") }
end

describe("async.pcall", function()
  it("returns all results, holes included", function()
    assert.same(table.pack(true), table.pack(async.pcall(function() end)))
    assert.same(table.pack(true, nil, 2, nil), table.pack(async.pcall(function(...) return ... end, nil, 2, nil)))
    local many = table.pack(async.pcall(table.unpack, {}, 1, 250))
    assert.equal(251, many.n)
  end)

  it("returns any error that is no cancellation", function()
    for _, v in ipairs { "text", 42, {}, true, false, print, async.ValueError("x") } do
      local r = table.pack(async.pcall(error, v, 0))
      assert.equal(2, r.n)
      assert.is_false(r[1])
      assert.is_true(rawequal(r[2], v))
    end
    assert.same(table.pack(false, nil), table.pack(async.pcall(error)))
    assert.is_false((async.pcall(nil)))
    assert.is_false((async.pcall(5, 6)))
  end)

  it("lets cancellations and interrupts through", function()
    for _, e in ipairs(passing()) do
      local ok, got = pcall(async.pcall, error, e)
      assert.is_true(not ok and rawequal(got, e))
    end
  end)

  it("can be awaited in, and across", function()
    assert.same({ true, "x" }, { async.pcall(function() return async.sleep(0.001, "x") end) })
    local ok, e = async.pcall(function()
      async.sleep(0)
      error(async.ValueError("later"))
    end)
    assert.is_false(ok)
    assert.equal("later", e.message)
    ok, e = async.pcall(async.pcall, async.pcall, function() async.sleep(0) error("deep", 0) end)
    assert.is_true(ok)
    assert.is_true(e)
  end)

  it("lets a real cancellation through, whatever is nested", function()
    local after = false
    cancelled(function()
      async.pcall(async.pcall, async.sleep, 30)
      after = true
    end)
    assert.is_false(after)
  end)

  it("catches what cleanup throws in the place of a cancellation", function()
    local t = async.create_task(function()
      return async.pcall(function()
        local _ <close> = async.defer(function() error("cleanup", 0) end)
        async.sleep(30)
      end)
    end)
    turns()
    t:cancel()
    assert.same({ false, "cleanup" }, { async.await(t) })
  end)

  it("works outside tasks and where Lua cannot yield", function()
    local seen
    table.sort({ 2, 1 }, function(a, b) seen = { async.pcall(error, "x", 0) } return a < b end)
    assert.same({ false, "x" }, seen)
    local ok, got
    table.sort({ 2, 1 }, function(a, b)
      ok, got = pcall(async.pcall, error, async.CancelledError("c"))
      return a < b
    end)
    assert.is_false(ok)
    assert.equal("c", got.message)
    local co = coroutine.wrap(function() return async.pcall(error, "y", 0) end)
    assert.same({ false, "y" }, { co() })
  end)

  it("refuses to be called with nothing", function()
    refuses("TypeError", { "#1", "pcall", "value expected" }, async.pcall)
  end)
end)

describe("async.xpcall", function()
  local function never() error("the handler must not run") end

  it("returns all results", function()
    local function echo(...) return ... end
    assert.same(table.pack(true, nil, 2, nil), table.pack(async.xpcall(echo, never, nil, 2, nil)))
    assert.same(table.pack(true), table.pack(async.xpcall(function() end, never)))
    assert.same(table.pack(true, 1), table.pack(async.xpcall(function() return async.sleep(0.001, 1) end, never)))
  end)

  it("returns what the handler made of the error", function()
    local function handler(e) return "handled " .. tostring(e), "dropped" end
    assert.same(table.pack(false, "handled x"), table.pack(async.xpcall(error, handler, "x", 0)))
    assert.same(table.pack(false, "handled x"), table.pack(async.xpcall(function()
      async.sleep(0)
      error("x", 0)
    end, handler)))
    assert.same(table.pack(false, nil), table.pack(async.xpcall(error, function() end, "x")))
    assert.same(table.pack(false, "called"),
      table.pack(async.xpcall(error, setmetatable({}, { __call = function() return "called" end }), "x")))
  end)

  it("calls the handler with the stack as it was", function()
    local function thrower() error("here") end
    local _, trace = async.xpcall(function() async.sleep(0) thrower() end, debug.traceback)
    assert.matches("thrower", trace)
  end)

  it("lets cancellations and interrupts through without the handler", function()
    for _, e in ipairs(passing()) do
      local ok, got = pcall(async.xpcall, error, never, e)
      assert.is_true(not ok and rawequal(got, e))
    end
    cancelled(function() async.xpcall(async.sleep, never, 30) end)
  end)

  it("returns a CancelledError that the handler gave for something else", function()
    local e = async.CancelledError("as a value")
    local ok, got = async.xpcall(error, function() return e end, "x")
    assert.is_false(ok)
    assert.is_true(rawequal(e, got))
  end)

  it("goes by the last error, if cleanup throws another", function()
    local handler = function(e) return "handled " .. tostring(e) end
    local t = async.create_task(function()
      return async.xpcall(function()
        local _ <close> = async.defer(function() error("cleanup", 0) end)
        async.sleep(30)
      end, handler)
    end)
    turns()
    t:cancel()
    assert.same({ false, "handled cleanup" }, { async.await(t) })
    local ok, e = pcall(async.xpcall, function()
      local _ <close> = async.defer(function() error(async.CancelledError("cleanup")) end)
      error("first")
    end, handler)
    assert.is_false(ok)
    assert.equal("CancelledError: cleanup", tostring(e))
  end)

  it("survives a handler that fails", function()
    local n = 0
    local ok, e = async.xpcall(error, function(x)
      n = n + 1
      if n == 1 then error("second", 0) end
      return "handled " .. tostring(x)
    end, "first", 0)
    assert.is_false(ok)
    assert.equal("handled second", e)
    ok = async.xpcall(error, function() error("always") end, "first")
    assert.is_false(ok)
  end)

  it("does not let the handler await", function()
    local _, e = async.xpcall(error, function()
      local _, problem = pcall(async.sleep, 0)
      return problem
    end, "x")
    assert.is_true(async.isinstance(e, async.RuntimeError))
  end)

  it("refuses a handler that cannot be called", function()
    refuses("TypeError", { "#2", "xpcall", "function expected, got no value" }, async.xpcall, print)
    for _, v in ipairs { 1, "text", {}, true } do
      refuses("TypeError", { "#2", "xpcall", "function expected" }, async.xpcall, print, v)
    end
  end)
end)

describe("async.defer", function()
  it("calls its function on each way out", function()
    local log = {}
    local function note(e) log[#log + 1] = tostring(e) end
    do local _ <close> = async.defer(note) end
    for i = 1, 2 do
      local _ <close> = async.defer(note)
      if i == 1 then break end
    end
    local function returning()
      local _ <close> = async.defer(note)
      return 1, nil, 3
    end
    assert.same(table.pack(1, nil, 3), table.pack(returning()))
    pcall(function()
      local _ <close> = async.defer(note)
      error("oops", 0)
    end)
    assert.same({ "nil", "nil", "nil", "oops" }, log)
  end)

  it("runs in reverse order, and may await", function()
    local log = {}
    local function later(name)
      return async.defer(function()
        async.sleep(0.001)
        log[#log + 1] = name
      end)
    end
    local result = async.await(function()
      local _ <close> = later("first")
      local _ <close> = later("second")
      return "result"
    end)
    assert.equal("result", result)
    assert.same({ "second", "first" }, log)
  end)

  it("cleans up after a cancellation, which goes on", function()
    local seen
    cancelled(function()
      local _ <close> = async.defer(function(e)
        async.sleep(0.001)
        seen = e
      end)
      async.sleep(30)
    end)
    assert.equal("CancelledError: stop", tostring(seen))
  end)

  it("can be cancelled while it cleans up", function()
    local log = {}
    local t = async.create_task(function()
      local _ <close> = async.defer(function()
        log[#log + 1] = "begun"
        async.sleep(30)
        log[#log + 1] = "not reached"
      end)
    end)
    turns()
    t:cancel()
    async.wait { t }
    assert.is_true(t:cancelled())
    assert.same({ "begun" }, log)
  end)

  it("puts its own error in the place of the one that leaves", function()
    local ok, e = pcall(function()
      local _ <close> = async.defer(function() async.sleep(0) error("second", 0) end)
      error("first", 0)
    end)
    assert.is_false(ok)
    assert.equal("second", e)
  end)

  it("is called once", function()
    local n = 0
    do
      local d <close> = async.defer(function() n = n + 1 end)
      do local _ <close> = d end
    end
    assert.equal(1, n)
  end)

  it("an error of its own has the one before as its context, and its trace", function()
    local function cleanup() async.sleep(0) error(async.ValueError("cleanup")) end
    local task = async.create_task(function()
      local _ <close> = async.defer(cleanup)
      async.sleep(60)
    end)
    turns()
    task:cancel("stop")
    async.wait { task }
    local e = task:exception()
    assert.equal("ValueError: cleanup", tostring(e))
    assert.equal("CancelledError: stop", tostring(e.context))
    assert.matches("^traceback:\n\t%[C%]: in [^\n]*'error'\n\t[^\n]*protect_spec.lua", async.traceback(e))
    assert.is_nil(async.traceback(e):find("awaited by", 1, true))
    -- also where it is caught, for any first error, and not of itself
    local _, caught = pcall(function()
      local _ <close> = async.defer(cleanup)
      error("first", 0)
    end)
    assert.equal("first", caught.context)
    local _, same = pcall(function()
      local _ <close> = async.defer(error)
      error(caught)
    end)
    assert.equal(caught, same)
    assert.equal("first", same.context)
    for _, other in ipairs { "text", false } do
      local failed = async.create_task(function()
        local _ <close> = async.defer(function() error(other, 0) end)
        error("first")
      end)
      async.wait { failed }
      assert.equal(other, failed:exception())
      assert.is_nil((failed:traceback() or ""):find("awaited by", 1, true))
    end
    assert.equal(nil, select(2, pcall(function()
      local _ <close> = async.defer(function() error() end)
      error("first")
    end)))
  end)

  it("is not called if it is never closed", function()
    local n = 0
    async.defer(function() n = n + 1 end)
    collectgarbage()
    collectgarbage()
    assert.equal(0, n)
  end)

  it("takes callable values", function()
    local seen
    do local _ <close> = async.defer(setmetatable({}, { __call = function(_, e) seen = { e } end })) end
    assert.same({}, seen)
  end)

  it("refuses what cannot be called", function()
    refuses("TypeError", { "#1", "defer", "function expected, got no value" }, async.defer)
    for _, v in ipairs { 1, "text", {}, true, async.Future() } do
      refuses("TypeError", { "#1", "defer", "function expected" }, async.defer, v)
    end
  end)
end)

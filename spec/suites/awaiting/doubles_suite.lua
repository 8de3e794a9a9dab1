-- Spies, stubs, mocks, snapshots and assertions around functions that await.
local async = require "lunation"

describe("doubles", function()
  local before

  before_each(function()
    before = assert:snapshot()
    async.sleep(0.0005)
  end)

  after_each(function()
    async.sleep(0.0005)
    before:revert()
  end)

  it("spies let the call await", function()
    local s = spy.new(function(x) return async.sleep(0.0005, x, x) end)
    assert.same({ 3, 3 }, { s(3) })
    async.gather { function() s(1) end, function() s(2) end }
    assert.spy(s).was.called(3)
    assert.spy(s).was.called_with(2)
    assert.spy(s).returned_with(1, 1)
  end)

  it("stubs hold over awaits", function()
    stub(os, "time").returns(17)
    async.sleep(0.0005)
    assert.equal(17, async.await(async.create_task(function() return os.time() end)))
  end)

  it("stubs are undone", function() assert.is_true(os.time() > 17) end)

  it("stubs invoke what awaits", function()
    local t = { f = function() end }
    stub(t, "f").invokes(function(x) return async.sleep(0, x + 1) end)
    assert.equal(2, t.f(1))
  end)

  it("mocks watch from several tasks", function()
    local device = mock { read = function() return async.sleep(0.0005, "data") end }
    local got = async.gather { function() return device.read() end, function() return device.read() end }
    assert.same({ "data", "data", n = 2 }, got)
    assert.spy(device.read).was.called(2)
  end)

  it("the sleep of the library can be stubbed", function()
    local waited = 0
    stub(async, "sleep").invokes(function(seconds) waited = waited + seconds end)
    async.sleep(86400)
    async.sleep:revert()
    assert.equal(86400, waited)
    async.sleep(0)
  end)

  it("assertions about errors await", function()
    assert.has_error(function()
      async.sleep(0.0005)
      error("late", 0)
    end, "late")
    assert.has_no.errors(function() async.sleep(0) end)
    local task = async.create_task(function() error("in a task", 0) end)
    assert.error_matches(function() async.await(task) end, "in a task")
  end)

  it("own assertions await", function()
    assert:register("assertion", "ending", function(_, a)
      async.sleep(0)
      return pcall(async.wait_for, a[1], a[2])
    end)
    assert.is_ending(function() async.sleep(0) end, 1)
    assert.is_not.ending(function() async.sleep(10) end, 0.001)
    assert:unregister("assertion", "ending")
  end)

  it("matchers look at tasks", function()
    local s = spy.new(function() end)
    local task = async.create_task(async.sleep, 0, "x")
    s(task)
    assert.equal("x", async.await(task))
    assert.spy(s).was.called_with(match.is_ref(task))
    assert.spy(s).was.called_with(match.is_userdata())
  end)
end)

-- async.wait_for: one awaitable, a limited time, its real end awaited.
local async = require "lunation"
local support = require "spec.support.tasks"
local testing = require "lunation.testing"

local caught, class_in_message = support.caught, support.class_in_message

local loop = async.get_running_loop()
local me = async.current_task

local function failed(e)
  local f = async.Future()
  f:set_exception(e)
  return f
end

-- Work that reports how it was stopped, and takes its time for it.
local function patient(log, cleanup)
  return function()
    local _, e = pcall(async.sleep, 30)
    log[#log + 1] = e.name
    if cleanup then async.sleep(cleanup) end
    log[#log + 1] = "ended"
    error(e)
  end
end

describe("wait_for", function()
  it("returns all results", function()
    assert.same(table.pack(nil, 2, nil), table.pack(async.wait_for(function()
      async.sleep(0)
      return nil, 2, nil
    end, 1)))
    assert.equal(0, select("#", async.wait_for(function() end, 1)))
    assert.equal("r", async.wait_for(async.create_task(function() return "r" end), 1))
    local fut = async.Future()
    loop:call_soon(function() fut:set_result("f") end)
    assert.equal("f", async.wait_for(fut, 1))
  end)

  it("takes whatever can be awaited", function()
    local value = setmetatable({}, {
      __await = function(self)
        async.sleep(0)
        return self, "awaited"
      end,
    })
    assert.same({ value, "awaited" }, { async.wait_for(value, 1) })
  end)

  it("runs a function in a task of its own", function()
    local task
    async.wait_for(function() task = me() end, 1)
    assert.are_not.equal(me(), task)
  end)

  it("waits for ever without a timeout, and for an infinite one", function()
    assert.equal(1, async.wait_for(function() async.sleep(0.002) return 1 end, nil))
    assert.equal(1, async.wait_for(function() async.sleep(0.002) return 1 end))
    assert.equal(1, async.wait_for(function() async.sleep(0.002) return 1 end, math.huge))
  end)

  it("throws the error of the work as it is", function()
    local e = async.ValueError("own")
    assert.equal(e, caught(async.wait_for, function() async.sleep(0) error(e) end, 1))
    assert.is_nil(rawget(e, "context"))
    assert.equal("text", caught(async.wait_for, function() error("text", 0) end, nil))
    assert.is_false(caught(async.wait_for, function() error(false) end, 1))
  end)

  it("cancels the work at expiry and waits for its real end", function()
    local log = {}
    local t = async.create_task(patient(log, 0.004))
    local e = caught(async.wait_for, t, 0.002)
    assert.equal("TimeoutError", e.name)
    assert.equal("CancelledError", e.cause.name)
    assert.same({ "CancelledError", "ended" }, log)
    assert.is_true(t:cancelled())
    assert.equal(0, me():cancelling())
    async.sleep(0)
  end)

  it("cancels it whoever else waits for it", function()
    local t = async.create_task(async.sleep, 30)
    local other = async.create_task(async.await, t)
    async.sleep(0)
    assert.equal("TimeoutError", caught(async.wait_for, t, 0.002).name)
    assert.is_true(t:cancelled())
    assert.equal("CancelledError", caught(async.await, other).name)
    assert.equal(0, other:cancelling())
    local fut = async.Future()
    other = async.create_task(async.await, fut)
    async.sleep(0)
    assert.equal("TimeoutError", caught(async.wait_for, fut, 0.002).name)
    assert.is_true(fut:cancelled())
    async.wait { other }
    assert.is_true(other:cancelled())
  end)

  it("counts its own request only while it lasts", function()
    local caller, during = me(), nil
    pcall(async.wait_for, function()
      local _, e = pcall(async.sleep, 30)
      during = caller:cancelling()
      error(e)
    end, 0.002)
    assert.equal(1, during)
    assert.equal(0, caller:cancelling())
  end)

  it("prefers what the cancelled work returns or throws", function()
    assert.equal("after all", async.wait_for(function()
      pcall(async.sleep, 30)
      return "after all"
    end, 0.002))
    local own = async.ValueError("after all")
    local e = caught(async.wait_for, function()
      pcall(async.sleep, 30)
      error(own)
    end, 0.002)
    assert.equal(own, e)
    assert.equal("TimeoutError", e.context.name)
    assert.equal("bare", caught(async.wait_for, function()
      pcall(async.sleep, 30)
      error("bare", 0)
    end, 0.002))
    assert.equal(0, me():cancelling())
    async.sleep(0)
  end)

  -- It is busy until the time has passed, as it does on the real clock only.
  it("gives the result that came before the time was noticed #real", function()
    local fut = async.Future()
    local clock <close> = testing.clock { autojump = false } -- until then time stands
    loop:call_soon(function()
      fut:set_result("in time")
      clock:close()
      local till = loop:time() + 0.003
      while loop:time() < till do end
    end)
    assert.equal("in time", async.wait_for(fut, 0.001))
    assert.equal(0, me():cancelling())
    async.sleep(0)
  end)

  it("throws a CancelledError that others caused, without a count", function()
    local t = async.create_task(async.sleep, 30)
    loop:call_later(0.001, function() t:cancel("third party") end)
    local e = caught(async.wait_for, t, 5)
    assert.equal("CancelledError: third party", tostring(e))
    assert.equal(0, me():cancelling())
  end)

  describe("with a timeout that is over", function()
    it("gives what is done already", function()
      local done = async.create_task(function() return 1, 2 end)
      async.await(done)
      for _, limit in ipairs { 0, -1, -math.huge } do
        assert.same({ 1, 2 }, { async.wait_for(done, limit) })
      end
      assert.equal("ValueError: stored",
        tostring(caught(async.wait_for, failed(async.ValueError("stored")), 0)))
      local cancelled = async.Future()
      cancelled:cancel()
      assert.equal("CancelledError", caught(async.wait_for, cancelled, 0).name)
    end)

    it("never starts a function", function()
      local started = false
      for _, limit in ipairs { 0, -1 } do
        local e = caught(async.wait_for, function() started = true end, limit)
        assert.equal("TimeoutError", e.name)
        assert.equal("CancelledError", e.cause.name)
      end
      async.sleep(0)
      assert.is_false(started)
    end)

    it("cancels a future at once, and a task to its end", function()
      local fut = async.Future()
      assert.equal("TimeoutError", caught(async.wait_for, fut, 0).name)
      assert.is_true(fut:cancelled())
      local log = {}
      local t = async.create_task(patient(log, 0.002))
      async.sleep(0)
      assert.equal("TimeoutError", caught(async.wait_for, t, 0).name)
      assert.same({ "CancelledError", "ended" }, log)
      t = async.create_task(function() pcall(async.sleep, 30) return "value" end)
      async.sleep(0)
      assert.equal("value", async.wait_for(t, 0))
      assert.equal(0, me():cancelling())
    end)

    it("throws the caller's cancellation, if that comes before the end", function()
      local log = {}
      local t = async.create_task(function()
        local work = async.create_task(function()
          pcall(async.sleep, 30)
          local ok = pcall(async.sleep, 30)
          log[#log + 1] = ok
          error(async.CancelledError())
        end)
        async.sleep(0)
        async.wait_for(work, 0)
      end)
      async.sleep(0)
      async.sleep(0)
      async.sleep(0)
      t:cancel()
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.same({ false }, log)
    end)

    it("throws the request that comes while it gives way", function()
      local rounds = 0
      local t = async.create_task(function()
        while true do
          local _, e = pcall(async.wait_for, async.Future(), 0)
          if e.name ~= "TimeoutError" then return tostring(e) end
          rounds = rounds + 1
        end
      end)
      async.sleep(0)
      assert.is_true(rounds > 0)
      t:cancel("enough")
      assert.equal("CancelledError: enough", async.await(t))
    end)

    it("gives way to others", function()
      local turns, stop = 0, false
      local other = async.create_task(function()
        while not stop do
          turns = turns + 1
          async.sleep(0)
        end
      end)
      for _ = 1, 500 do pcall(async.wait_for, async.Future(), 0) end
      stop = true
      async.await(other)
      assert.is_true(turns >= 3)
    end)
  end)

  describe("cancelled by its caller", function()
    it("cancels the work and waits for its end", function()
      local log = {}
      local work = async.create_task(patient(log, 0.003))
      local t = async.create_task(async.wait_for, work, 20)
      async.sleep(0)
      async.sleep(0)
      t:cancel("outside")
      assert.equal("CancelledError: outside", tostring(caught(async.await, t)))
      assert.same({ "CancelledError", "ended" }, log)
      assert.is_true(t:cancelled())
      assert.equal(1, t:cancelling())
    end)

    it("does so without a timeout, too", function()
      local fut = async.Future()
      local t = async.create_task(async.wait_for, fut, nil)
      async.sleep(0)
      t:cancel("outside")
      assert.equal("CancelledError: outside", tostring(caught(async.await, t)))
      assert.is_true(fut:cancelled())
    end)

    it("keeps that apart from a timeout that comes as well", function()
      local t = async.create_task(async.wait_for, function()
        pcall(async.sleep, 30)
        local _, e = pcall(async.sleep, 30) -- the second request cuts the cleanup
        error(e)
      end, 0.003)
      async.sleep(0)
      async.sleep(0)
      t:cancel()
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.equal(1, t:cancelling())
      t = async.create_task(async.wait_for, function()
        pcall(async.sleep, 30)
        local _, e = pcall(async.sleep, 30)
        error(e)
      end, 0.001)
      async.sleep(0.005)
      t:cancel()
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.equal(1, t:cancelling())
    end)

    it("keeps a result that was there first; the request is thrown at the next await", function()
      local fut, got = async.Future(), nil
      local t = async.create_task(function()
        got = async.wait_for(fut, 5)
        async.sleep(0)
      end)
      async.sleep(0)
      fut:set_result("first")
      t:cancel()
      assert.equal("CancelledError", caught(async.await, t).name)
      assert.equal("first", got)
    end)
  end)

  it("nests, the inner one inside", function()
    local inner
    local e = caught(async.wait_for, function()
      inner = select(2, pcall(async.wait_for, async.Future(), 30))
      error(inner)
    end, 0.002)
    assert.equal("TimeoutError", e.name)
    assert.equal("CancelledError", inner.name)
    assert.equal("ok", async.wait_for(function()
      inner = select(2, pcall(async.wait_for, async.Future(), 0.002))
      return "ok"
    end, 5))
    assert.equal("TimeoutError", inner.name)
  end)

  it("inside a timeout scope keeps apart whose time is up", function()
    local e = caught(function()
      local _ <close> = async.timeout(0.002)
      local e = select(2, pcall(async.wait_for, async.Future(), 30))
      assert.equal("CancelledError", e.name)
      error(e)
    end)
    assert.equal("TimeoutError", e.name)
    local t <close> = async.timeout(5)
    assert.equal("TimeoutError", caught(async.wait_for, async.Future(), 0.002).name)
    assert.is_false(t:expired())
  end)

  it("loses no item of a queue", function()
    local q, got = async.Queue(), 0
    local producer = async.create_task(function()
      for i = 1, 60 do
        if i % 3 == 0 then async.sleep(0.0005) end
        q:put_nowait(i)
      end
    end)
    while got < 60 do
      local ok, v = pcall(async.wait_for, function() return q:get() end, 0.0003)
      if ok then
        got = got + 1
        assert.equal(got, v)
      else
        assert.equal("TimeoutError", v.name)
      end
    end
    async.await(producer)
  end)

  it("refuses circles", function()
    class_in_message(caught(async.wait_for, me(), 1), async.RuntimeError, "wait")
    local a, b
    a = async.create_task(function() return async.wait_for(b, 5) end)
    b = async.create_task(function() return async.wait_for(a, 5) end)
    class_in_message(caught(async.await, b), async.RuntimeError, "wait")
    async.wait { a }
    pcall(a.result, a)
    assert.equal(0, me():cancelling())
  end)

  it("refuses futures of other loops", function()
    local other = async.new_event_loop()
    local fut = other:create_future()
    class_in_message(caught(async.wait_for, fut, 1), async.RuntimeError, "loop")
    fut:set_result(1)
    class_in_message(caught(async.wait_for, fut, 1), async.RuntimeError, "loop")
    other:close()
  end)

  it("cannot wait outside a task, or where Lua cannot yield", function()
    local e
    loop:call_soon(function() e = select(2, pcall(async.wait_for, async.Future(), 1)) end)
    async.sleep(0)
    async.sleep(0)
    class_in_message(e, async.RuntimeError, "task")
    local ran = false
    e = caught(table.sort, { 2, 1 }, function()
      async.wait_for(function() ran = true end, 1)
    end)
    class_in_message(e, async.RuntimeError, "yield")
    async.sleep(0)
    assert.is_false(ran)
  end)

  it("keeps memory flat, however many succeed", function()
    local function burst(n)
      local fut
      for i = 1, n do
        fut = async.Future()
        loop:call_soon(fut.set_result, fut, i)
        async.wait_for(fut, 3600)
      end
      collectgarbage()
      collectgarbage()
    end
    burst(2000)
    local before = collectgarbage("count")
    burst(20000)
    assert.is_true(collectgarbage("count") - before < 200)
  end)

  it("names function and argument of bad input, and starts nothing", function()
    local started = false
    for _, bad in ipairs { 1, "x", true, {}, io.stdout } do
      class_in_message(caught(async.wait_for, bad, 1), async.TypeError,
        "wait_for", "#1", "awaitable expected")
    end
    class_in_message(caught(async.wait_for), async.TypeError, "wait_for", "#1")
    for _, bad in ipairs { "1", true, {}, print, 0 / 0 } do
      class_in_message(caught(async.wait_for, function() started = true end, bad),
        async.TypeError, "wait_for", "#2", "number expected")
    end
    async.sleep(0)
    assert.is_false(started)
  end)
end)

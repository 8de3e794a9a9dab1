-- async.shield: a future that follows another one and lets no cancel through.
local async = require "lunation"

local loop = async.get_running_loop()
local me = async.current_task

local function caught(f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  return e
end

local function class_in_message(e, class, ...)
  assert.is_true(async.isinstance(e, class))
  for _, text in ipairs { ... } do
    assert.is_truthy(e.message:find(text, 1, true), e.message)
  end
end

local function turns(n)
  for _ = 1, n do async.sleep(0) end
end

-- What the exception handler is told while `f` runs and afterwards, with all garbage collected.
local function reports(f, expected)
  local list = {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context) list[#list + 1] = context end)
  local ok, e = pcall(f)
  for i = 1, 60 do
    collectgarbage()
    async.sleep(i < 4 and 0 or 0.002)
    if i > 4 and #list >= (expected or 0) then break end
  end
  loop:set_exception_handler(before)
  assert.is_true(ok, e)
  return list
end

describe("shield", function()
  it("follows results, none, many and holes", function()
    assert.same(table.pack(nil, 2, nil), table.pack(async.await(async.shield(function()
      async.sleep(0)
      return nil, 2, nil
    end))))
    assert.equal(0, select("#", async.await(async.shield(function() end))))
    assert.equal("one", async.await(async.shield(function() return "one" end)))
    assert.equal(10000, select("#", async.await(async.shield(function()
      return table.unpack({}, 1, 10000)
    end))))
  end)

  it("follows errors by identity", function()
    local e = async.ValueError("inside")
    assert.equal(e, caught(async.await, async.shield(function() error(e) end)))
    assert.is_false(caught(async.await, async.shield(function() error(false) end)))
    assert.equal("nil", caught(async.await, async.shield(function() error(nil) end)).message)
  end)

  it("takes futures and values with __await", function()
    local fut = async.Future()
    local s = async.shield(fut)
    assert.are_not.equal(fut, s)
    loop:call_soon(fut.set_result, fut, "set")
    assert.equal("set", async.await(s))
    local value = setmetatable({}, { __await = function() async.sleep(0) return "awaited" end })
    assert.equal("awaited", async.await(async.shield(value)))
  end)

  it("is a pending Future until then", function()
    local fut = async.Future()
    local s = async.shield(fut)
    assert.is_false(s:done())
    assert.is_truthy(tostring(s):find("^<Future pending"))
    assert.equal("InvalidStateError", caught(s.result, s).name)
    fut:set_result(7)
    turns(2)
    assert.is_true(s:done())
    assert.equal(7, s:result())
  end)

  it("returns what is done as it is", function()
    local fut = async.Future()
    fut:set_result(1)
    assert.equal(fut, async.shield(fut))
    local t = async.create_task(function() return 2 end)
    async.await(t)
    assert.equal(t, async.shield(t))
    local c = async.Future()
    c:cancel()
    assert.equal(c, async.shield(c))
  end)

  it("spares the work when its awaiter is cancelled", function()
    local work = async.create_task(function() async.sleep(0.002) return "done" end)
    local t = async.create_task(function() return async.await(async.shield(work)) end)
    turns(2)
    t:cancel("outside")
    assert.equal("CancelledError: outside", tostring(caught(async.await, t)))
    assert.is_false(work:done())
    assert.equal(0, work:cancelling())
    assert.equal("done", async.await(work))
  end)

  it("spares it when it is cancelled itself", function()
    local work = async.create_task(function() async.sleep(0.002) return "untouched" end)
    local s = async.shield(work)
    assert.is_true(s:cancel())
    assert.is_true(s:cancelled())
    assert.is_false(s:cancel())
    assert.equal("untouched", async.await(work))
    turns(2)
    assert.is_true(s:cancelled())
  end)

  it("spares what it follows from the cancel of another awaiter", function()
    local work = async.create_task(function() async.sleep(0.002) return "kept" end)
    local s = async.shield(work)
    local t = async.create_task(async.await, work)
    turns(2)
    t:cancel()
    assert.equal("CancelledError", caught(async.await, t).name)
    assert.equal("kept", async.await(s))
  end)

  it("no longer does once it was cancelled", function()
    local work = async.create_task(async.sleep, 30)
    async.shield(work):cancel()
    local t = async.create_task(async.await, work)
    turns(2)
    t:cancel()
    pcall(async.await, t)
    assert.is_true(work:cancelled())
  end)

  it("is cancelled when the work is", function()
    local work = async.create_task(async.sleep, 30)
    local t = async.create_task(function() return async.await(async.shield(work)) end)
    turns(2)
    work:cancel("inner")
    local e = caught(async.await, t)
    assert.equal("CancelledError: inner", tostring(e))
    assert.is_true(t:cancelled())
    assert.equal(0, t:cancelling())
    local fut = async.Future()
    local s = async.shield(fut)
    fut:cancel()
    turns(2)
    assert.is_true(s:cancelled())
  end)

  it("stops waiting, not working, under wait_for and timeout", function()
    local go = async.Future()
    local work = async.create_task(function() return async.await(go) end)
    assert.equal("TimeoutError", caught(async.wait_for, async.shield(work), 0.001).name)
    assert.equal("TimeoutError", caught(function()
      local _ <close> = async.timeout(0.001)
      async.await(async.shield(work))
    end).name)
    assert.equal(0, work:cancelling())
    go:set_result("work")
    assert.equal("work", async.await(work))
  end)

  it("calls its done callbacks", function()
    local fut, seen = async.Future(), {}
    local s = async.shield(fut)
    s:add_done_callback(function(f) seen[#seen + 1] = f end)
    fut:set_result(1)
    turns(3)
    assert.same({ s }, seen)
  end)

  it("serves all its awaiters, and several shields of one thing", function()
    local fut = async.Future()
    local one, two = async.shield(fut), async.shield(fut)
    local tasks = {}
    for i = 1, 4 do tasks[i] = async.create_task(async.await, i % 2 == 0 and one or two) end
    turns(1)
    one:cancel()
    fut:set_result("all")
    async.wait(tasks)
    assert.is_true(tasks[2]:cancelled() and tasks[4]:cancelled())
    assert.equal("all", tasks[1]:result())
    assert.equal("all", tasks[3]:result())
  end)

  it("follows through a long chain without recursion", function()
    local fut = async.Future()
    local s = fut
    for _ = 1, 20000 do s = async.shield(s) end
    fut:set_result("far")
    assert.equal("far", async.await(s))
  end)

  describe("reports the error of the work once:", function()
    it("never, if the shield delivered it", function()
      assert.same({}, reports(function()
        local t = async.create_task(function() error(async.ValueError("x")) end)
        caught(async.await, async.shield(t))
      end))
    end)

    it("for the shield, if that followed and nobody looked", function()
      local shield
      local list = reports(function()
        local t = async.create_task(function() error(async.ValueError("x")) end)
        local s = async.shield(t)
        turns(3)
        shield = tostring(s)
        assert.is_true(s:done())
      end, 1)
      assert.equal(1, #list)
      assert.equal("Future exception was never retrieved", list[1].message)
      assert.equal("ValueError: x", tostring(list[1].exception))
      assert.equal(shield, tostring(list[1].future))
    end)

    it("for the task, if the shield was cancelled before", function()
      local list = reports(function()
        local t = async.create_task(function()
          async.sleep(0.001)
          error(async.ValueError("x"))
        end)
        async.shield(t):cancel()
        async.wait { t }
      end, 1)
      assert.equal(1, #list)
      assert.equal("Task exception was never retrieved", list[1].message)
    end)
  end)

  it("traces an error back to where it was thrown, and shows nothing of the loop", function()
    local function thrower() error(async.ValueError("x")) end
    local e = caught(async.await, async.shield(function() thrower() end))
    local trace = async.traceback(e)
    assert.is_truthy(trace:find("shield_spec.lua", 1, true))
    assert.is_nil(trace:find("awaited by", 1, true), trace)
  end)

  it("keeps memory flat over one long task", function()
    local work = async.create_task(async.sleep, 30)
    turns(1)
    local function burst(n)
      for _ = 1, n do
        local s = async.shield(work)
        s:cancel()
        if _ % 50 == 0 then async.sleep(0) end
      end
      turns(2)
      collectgarbage()
      collectgarbage()
    end
    burst(500)
    local before = collectgarbage("count")
    burst(10000)
    assert.is_true(collectgarbage("count") - before < 100)
    work:cancel()
    async.wait { work }
  end)

  it("survives being dropped while the work goes on", function()
    local done = false
    async.shield(function() async.sleep(0.002) done = true end)
    collectgarbage()
    collectgarbage()
    async.sleep(0.006)
    assert.is_true(done)
  end)

  it("leaves no request with its caller", function()
    assert.equal(0, me():cancelling())
  end)

  it("names function and argument of bad input", function()
    for _, bad in ipairs { 1, "x", true, {}, io.stdout } do
      class_in_message(caught(async.shield, bad), async.TypeError,
        "shield", "#1", "awaitable expected")
    end
    class_in_message(caught(async.shield), async.TypeError, "shield", "#1")
    local other = async.new_event_loop()
    class_in_message(caught(async.shield, other:create_future()), async.RuntimeError, "loop")
    other:close()
  end)
end)

-- Event: set wakes all that wait, and only those.
local async = require "lunation"
local support = require "spec.support.tasks"

local turns, thrown = support.turns, support.thrown

describe("Event", function()
  it("is waited for until it is set", function()
    local event = async.Event()
    assert.is_false(event:is_set())
    local task = async.create_task(event.wait, event)
    turns()
    assert.is_false(task:done())
    event:set()
    assert.is_true(event:is_set())
    assert.is_true(async.await(task))
    assert.is_true(event:wait())
    event:set()
    assert.is_true(event:is_set())
  end)

  it("wakes those that waited when it was set, even if it is cleared before they run", function()
    local event, tasks = async.Event(), {}
    for i = 1, 3 do tasks[i] = async.create_task(event.wait, event) end
    turns()
    event:set()
    event:clear()
    assert.is_false(event:is_set())
    local late = async.create_task(event.wait, event)
    assert.same({ true, true, true, n = 3 }, async.gather(tasks))
    turns()
    assert.is_false(late:done())
    event:set()
    assert.is_true(async.await(late))
  end)

  it("lets a waiter go that is cancelled", function()
    local event = async.Event()
    local a, b = async.create_task(event.wait, event), async.create_task(event.wait, event)
    turns()
    a:cancel("enough")
    turns()
    assert.equal("enough", select(2, pcall(async.await, a)).message)
    event:set()
    assert.is_true(async.await(b))
  end)

  it("is an outcome as soon as it is set: value first", function()
    local event, after = async.Event(), nil
    local task = async.create_task(function()
      after = event:wait()
      async.sleep(60)
    end)
    turns()
    event:set()
    task:cancel()
    assert.is_false(pcall(async.await, task))
    assert.is_true(after)
    assert.is_true(task:cancelled())
  end)

  it("set and cancel in one turn: the task ends with its result if it awaits nothing more", function()
    local event = async.Event()
    local task = async.create_task(event.wait, event)
    turns()
    task:cancel()
    event:set()
    assert.is_false(pcall(async.await, task))
    task = async.create_task(event.wait, event)
    event:clear()
    turns()
    event:set()
    task:cancel()
    assert.is_true(async.await(task))
  end)

  it("gives way now and then to a task that finds it set each time", function()
    local event, ran = async.Event(), false
    event:set()
    local task = async.create_task(function() ran = true end)
    for _ = 1, 400 do event:wait() end
    assert.is_true(ran)
    async.await(task)
  end)

  it("cannot be waited for outside a task", function()
    local event, done = async.Event(), async.Future()
    event:set()
    async.get_running_loop():call_soon(function() done:set_result(pcall(event.wait, event)) end)
    local ok, e = async.await(done)
    assert.is_false(ok)
    assert.is_true(async.isinstance(e, async.RuntimeError))
  end)

  it("names the function and the argument of bad input", function()
    local event = async.Event()
    for _, name in ipairs { "wait", "set", "clear", "is_set" } do
      for _, bad in ipairs { 42, "text", false, {}, async.Lock() } do
        local e = thrown(async.TypeError, event[name], bad)
        assert.matches(name, e.message)
        assert.matches("#1", e.message)
      end
    end
  end)
end)

-- as_completed: order, timeout, leaving early.
local async = require "lunation"
local support = require "spec.support.racing"
local turns, waiting, finish, reported, fails, fails_outside_a_task, must_not_run = support.turns, support.waiting, support.finish, support.reported, support.fails, support.fails_outside_a_task, support.must_not_run

describe("as_completed", function()
  it("gives the tasks in the order in which they end", function()
    local tasks, gates = waiting(4)
    local got = {}
    local consumer = async.create_task(function()
      for task in async.as_completed(tasks) do got[#got + 1] = task:get_name() end
      return "end"
    end)
    for k, i in ipairs { 3, 1, 4, 2 } do
      turns()
      assert.equal(k - 1, #got)
      gates[i]:set_result()
    end
    assert.equal("end", async.await(consumer))
    assert.same({ "t3", "t1", "t4", "t2" }, got)
  end)

  it("first gives those that had ended, in their order", function()
    local tasks, gates = waiting(5)
    for _, i in ipairs { 5, 2, 3 } do
      gates[i]:set_result()
      turns()
    end
    local got = {}
    async.create_task(function()
      turns()
      gates[4]:set_result()
      turns()
      gates[1]:set_result()
    end)
    for task in async.as_completed(tasks) do got[#got + 1] = task:get_name() end
    assert.same({ "t5", "t2", "t3", "t4", "t1" }, got)
  end)

  it("goes on counting while its user is busy", function()
    local tasks, gates = waiting(4)
    local got = {}
    gates[2]:set_result()
    for task in async.as_completed(tasks) do
      got[#got + 1] = task:get_name()
      if #got == 1 then
        for _, i in ipairs { 4, 1, 3 } do
          gates[i]:set_result()
          turns()
        end
      end
    end
    assert.same({ "t2", "t4", "t1", "t3" }, got)
  end)

  it("gives each future once, and the very one", function()
    local tasks, gates = waiting(3)
    gates[2]:set_result()
    turns()
    local a, b, c = tasks[1], tasks[2], tasks[3]
    local got = {}
    async.get_running_loop():call_later(0.002, function() gates[3]:set_result() gates[1]:set_result() end)
    for task in async.as_completed { a, b, c, a, b, b, c, a } do got[#got + 1] = task end
    assert.equal(3, #got)
    assert.equal(b, got[1])
    assert.is_true((got[2] == c and got[3] == a) or (got[2] == a and got[3] == c))
  end)

  it("makes tasks of functions", function()
    local got = {}
    for task in async.as_completed { function() turns(6) return "slow" end, function() return "fast" end,
      setmetatable({}, { __await = function() turns(12) return "awaited" end }) } do
      got[#got + 1] = task:result()
    end
    assert.same({ "fast", "slow", "awaited" }, got)
  end)

  it("of nothing ends at once", function()
    for _ in async.as_completed {} do error("must not run") end
    local it = async.as_completed {}
    assert.is_nil(it())
    assert.is_nil(it())
  end)

  it("gives failed and cancelled ones; that is no retrieval", function()
    local list, n = reported(function()
      local gone = async.create_task(async.sleep, 60)
      gone:cancel()
      local count = 0
      for task in async.as_completed { function() error("lost", 0) end, gone, function() error("seen", 0) end } do
        count = count + 1
        if not task:cancelled() and tostring(task):find("seen") then task:exception() end
      end
      return count
    end)
    assert.equal(3, n)
    assert.same({ "lost" }, list)
  end)

  it("leaves the rest running when its user leaves", function()
    local tasks, gates = waiting(3)
    gates[1]:set_result()
    for _ in async.as_completed(tasks) do break end
    collectgarbage()
    collectgarbage()
    turns()
    assert.is_false(tasks[2]:done())
    assert.equal(0, tasks[2]:cancelling())
    finish(tasks, gates)
  end)

  it("keeps no hold on the children once it is closed", function()
    local tasks = waiting(1)
    local it = async.as_completed(tasks)
    it:close()
    it:close()
    assert.is_nil(it())
    local a = async.create_task(async.await, tasks[1])
    turns()
    a:cancel()
    pcall(async.await, a)
    assert.is_true(tasks[1]:cancelled())
  end)

  it("ends for who waits in it when somebody closes it", function()
    local tasks, gates = waiting(1)
    local it = async.as_completed(tasks)
    local consumer = async.create_task(function() return it(), "ended" end)
    turns()
    it:close()
    local task, word = async.await(consumer)
    assert.is_nil(task)
    assert.equal("ended", word)
    finish(tasks, gates)
  end)

  it("can be closed by a block", function()
    local tasks, gates = waiting(2)
    do
      local it <close> = async.as_completed(tasks)
      gates[2]:set_result()
      assert.equal(tasks[2], it())
    end
    finish(tasks, gates)
  end)

  it("may be dropped with everything in it", function()
    for _ = 1, 20 do
      local it = async.as_completed({ async.Future(), async.Future() }, { timeout = 60 })
      assert.is_truthy(it)
    end
    collectgarbage()
    collectgarbage()
    turns()
  end)

  it("lets go of nothing that a walk over its children may still look at", function()
    local consumer
    consumer = async.create_task(function()
      local list = {}
      for i = 1, 5 do list[i] = function() turns(i * 3) end end
      local n = 0
      for _ in async.as_completed(list) do
        n = n + 1
        collectgarbage()
      end
      return n
    end)
    assert.equal(5, async.await(consumer)) -- awaited, so that each wait in it looks for a cycle
  end)

  it("serves one waiting task at a time", function()
    local tasks, gates = waiting(2)
    local it = async.as_completed(tasks)
    local first = async.create_task(function() return it() end)
    turns()
    local ok, e = pcall(it)
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
    gates[2]:set_result()
    assert.equal(tasks[2], async.await(first))
    gates[1]:set_result()
    assert.equal(tasks[1], it())
    assert.is_nil(it())
  end)

  it("gives way now and then although all is done", function()
    local fut, ran = async.Future(), false
    fut:set_result()
    local t = async.create_task(function() ran = true end)
    for _ = 1, 300 do
      for _ in async.as_completed { fut } do end
    end
    assert.is_true(ran)
    async.await(t)
  end)

  it("can go on after its user was cancelled", function()
    local tasks, gates = waiting(2)
    local it = async.as_completed(tasks)
    local consumer = async.create_task(function()
      local ok, e = pcall(it)
      assert(not ok)
      return e, it()
    end)
    turns()
    consumer:cancel("stop")
    turns()
    assert.equal(0, tasks[1]:cancelling())
    gates[1]:set_result()
    local e, task = async.await(consumer)
    assert.equal("CancelledError: stop", tostring(e))
    assert.equal(tasks[1], task)
    gates[2]:set_result()
    assert.equal(tasks[2], it())
  end)

  it("gives what was there before a request", function()
    local tasks, gates = waiting(1)
    local consumer = async.create_task(function()
      local task = async.as_completed(gates)()
      return task, pcall(async.sleep, 60)
    end)
    turns()
    gates[1]:set_result()
    consumer:cancel()
    local task, ok, e = async.await(consumer)
    assert.equal(gates[1], task)
    assert.is_false(ok)
    assert.equal("CancelledError", e.name)
    finish(tasks, gates)
  end)

  it("refuses to wait for nobody but its user", function()
    local ok, e = pcall(async.as_completed { async.current_task() })
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
  end)

  it("refuses bad input before it makes a task", function()
    local function bad(...) fails(async.as_completed, "as_completed", ...) end
    bad("TypeError", "#1")
    for _, v in ipairs { 1, "x", print } do bad("TypeError", "#1", v) end
    bad("TypeError", "index 2", { must_not_run, 1 })
    bad("TypeError", "index 2", { must_not_run, false, must_not_run })
    bad("TypeError", "#2", { must_not_run }, 1)
    for _, v in ipairs { "1", true, 0 / 0 } do bad("TypeError", "timeout", { must_not_run }, { timeout = v }) end
    local it = async.as_completed {}
    assert.equal("TypeError", select(2, pcall(it.close)).name)
    assert.equal("TypeError", select(2, pcall(it.close, {})).name)
    turns()
  end)

  it("is refused in another loop", function()
    require("spec.helper").plain [[
      local one, two = async.new_event_loop { exception_handler = function() end }, async.new_event_loop()
      local iterator
      one:run_until_complete(function() iterator = async.as_completed { function() async.sleep(3600) end } end)
      two:run_until_complete(function() refuses("RuntimeError", "another loop", iterator) end)
      two:close()
      one:close()
    ]]
  end)

  it("can be made, not iterated, outside a task", function()
    fails_outside_a_task(function()
      local fut = async.Future()
      fut:set_result()
      local it = async.as_completed { fut }
      it()
    end)
  end)
end)

describe("as_completed's timeout", function()
  it("throws one TimeoutError after those that were in time", function()
    local tasks, gates = waiting(4)
    gates[2]:set_result()
    local got, failed = {}, 0
    local it = async.as_completed(tasks, { timeout = 0.005 })
    while true do
      local ok, r = pcall(it)
      if ok and not r then break end
      if ok then
        got[#got + 1] = r:get_name()
        if #got == 1 then gates[4]:set_result() end
        turns()
      else
        assert.equal("TimeoutError", r.name)
        assert.is_true(async.isinstance(r, async.TimeoutError))
        failed = failed + 1
      end
    end
    assert.same({ "t2", "t4" }, got)
    assert.equal(1, failed)
    assert.is_false(tasks[1]:done())
    assert.equal(0, tasks[1]:cancelling())
    finish(tasks, gates)
  end)

  it("counts from the call; what ended later is late", function()
    local tasks, gates = waiting(3)
    gates[3]:set_result()
    local it = async.as_completed(tasks, { timeout = 0.002 })
    async.sleep(0.004)
    gates[1]:set_result()
    turns()
    assert.equal(tasks[3], it())
    assert.equal("TimeoutError", select(2, pcall(it)).name)
    assert.is_nil(it())
    finish(tasks, gates)
  end)

  it("does not matter if all are done in time", function()
    local tasks, gates = waiting(2)
    gates[1]:set_result()
    gates[2]:set_result()
    turns()
    local n = 0
    for _ in async.as_completed(tasks, { timeout = 0 }) do
      n = n + 1
      async.sleep(0.002)
    end
    assert.equal(2, n)
  end)

  it("of zero is up at once", function()
    local tasks, gates = waiting(2)
    gates[2]:set_result()
    turns()
    local it = async.as_completed(tasks, { timeout = 0 })
    assert.equal(tasks[2], it())
    assert.equal("TimeoutError", select(2, pcall(it)).name)
    finish(tasks, gates)
  end)
end)

-- async.wait: who is done, who is pending, in which order, and that it touches nobody.
local async = require "lunation"
local racing = require "spec.support.racing"

local turns, waiting, finish = racing.turns, racing.waiting, racing.finish

local function names(list)
  local t = {}
  for i, task in ipairs(list) do t[i] = task:get_name() end
  return table.concat(t, " ")
end

local FIRST_COMPLETED = { return_when = async.FIRST_COMPLETED }
local FIRST_EXCEPTION = { return_when = async.FIRST_EXCEPTION }

describe("wait", function()
  it("has its constants", function()
    assert.equal("FIRST_COMPLETED", async.FIRST_COMPLETED)
    assert.equal("FIRST_EXCEPTION", async.FIRST_EXCEPTION)
    assert.equal("ALL_COMPLETED", async.ALL_COMPLETED)
  end)

  it("waits for all and lists them in the order in which they ended", function()
    local tasks, gates = waiting(4)
    local w = async.create_task(async.wait, tasks)
    turns()
    for _, i in ipairs { 3, 1, 4, 2 } do
      gates[i]:set_result(i)
      turns()
    end
    local done, pending = async.await(w)
    assert.equal("t3 t1 t4 t2", names(done))
    assert.same({}, pending)
    assert.equal(3, done[1]:result())
  end)

  it("keeps the order of those that had ended before", function()
    local tasks, gates = waiting(5)
    for _, i in ipairs { 4, 2, 5 } do
      gates[i]:set_result()
      turns()
    end
    local w = async.create_task(async.wait, tasks)
    turns()
    gates[3]:set_result()
    turns()
    gates[1]:set_result()
    local done, pending = async.await(w)
    assert.equal("t4 t2 t5 t3 t1", names(done))
    assert.equal(0, #pending)
    assert.equal("t4 t2 t5 t3 t1", names((async.wait(tasks))))
    table.sort(tasks, function(a, b) return a:get_name() > b:get_name() end)
    assert.equal("t4 t2 t5 t3 t1", names((async.wait(tasks))))
  end)

  it("keeps it for many", function()
    local futures, order = {}, {}
    for i = 1, 300 do
      futures[i] = async.Future()
      order[i] = (i * 7919) % 300 + 1
    end
    for _, i in ipairs(order) do futures[i]:set_result() end
    local done = async.wait(futures)
    for k = 1, 300 do assert.equal(futures[order[k]], done[k]) end
  end)

  it("takes lists that are too long for the stack", function()
    local futures, list = {}, {}
    for i = 1, 100 do futures[i] = async.Future() end
    for i = 1, 20000 do list[i] = futures[(i - 1) % 100 + 1] end
    futures[7]:set_result()
    futures[3]:set_result()
    local done, pending = async.wait(list, FIRST_COMPLETED)
    assert.equal(2, #done)
    assert.is_true(done[1] == futures[7] and done[2] == futures[3])
    assert.equal(98, #pending)
  end)

  it("with FIRST_COMPLETED returns at the first; pending has the order of the list", function()
    local tasks, gates = waiting(5)
    local w = async.create_task(async.wait, { tasks[5], tasks[2], tasks[4], tasks[1], tasks[3] }, FIRST_COMPLETED)
    turns()
    gates[4]:set_result()
    local done, pending = async.await(w)
    assert.equal("t4", names(done))
    assert.equal("t5 t2 t1 t3", names(pending))
    assert.equal(4, #pending)
    for _, task in ipairs(pending) do assert.equal(0, task:cancelling()) end
    finish(tasks, gates)
  end)

  it("may return several at once, and at once if one is done", function()
    local tasks, gates = waiting(3)
    gates[2]:set_result()
    turns()
    gates[3]:set_result()
    turns()
    local ran = false
    local t = async.create_task(function() ran = true end)
    local done, pending = async.wait(tasks, FIRST_COMPLETED)
    assert.equal("t2 t3", names(done))
    assert.equal("t1", names(pending))
    assert.is_false(ran)
    async.await(t)
    finish(tasks, gates)
  end)

  it("with FIRST_EXCEPTION returns at the first error", function()
    local tasks, gates = waiting(4)
    local w = async.create_task(async.wait, tasks, FIRST_EXCEPTION)
    turns()
    gates[3]:set_result()
    turns()
    gates[1]:cancel() -- no exception
    turns()
    assert.is_false(w:done())
    gates[2]:set_exception("failed")
    local done, pending = async.await(w)
    assert.equal("t3 t1 t2", names(done))
    assert.equal("t4", names(pending))
    assert.equal("failed", tasks[2]:exception())
    finish(tasks, gates)
  end)

  it("with FIRST_EXCEPTION waits for all if there is none", function()
    local tasks, gates = waiting(2)
    local w = async.create_task(async.wait, tasks, FIRST_EXCEPTION)
    turns()
    gates[2]:set_result()
    gates[1]:cancel()
    local done, pending = async.await(w)
    assert.equal(2, #done)
    assert.equal(0, #pending)
  end)

  it("with FIRST_EXCEPTION returns at once if one has failed", function()
    local tasks, gates = waiting(2)
    gates[2]:set_exception("failed")
    turns()
    local done, pending = async.wait(tasks, FIRST_EXCEPTION)
    assert.equal("t2", names(done))
    assert.equal("t1", names(pending))
    assert.equal("failed", tasks[2]:exception())
    finish(tasks, gates)
  end)

  it("counts each future once", function()
    local tasks, gates = waiting(2)
    local a, b = tasks[1], tasks[2]
    gates[1]:set_result()
    turns()
    local done, pending = async.wait({ b, a, b, a, a, b }, FIRST_COMPLETED)
    assert.equal("t1", names(done))
    assert.equal("t2", names(pending))
    local w = async.create_task(async.wait, { b, a, b })
    turns()
    gates[2]:set_result()
    done, pending = async.await(w)
    assert.equal("t1 t2", names(done))
    assert.equal(0, #pending)
  end)

  it("lists the very futures that it was given, and tasks for functions", function()
    local fut = async.Future()
    fut:set_result(1)
    local done = async.wait { fut, function() turns(2) return "made" end }
    assert.equal(fut, done[1])
    assert.equal("made", done[2]:result())
    done = async.wait { setmetatable({}, { __await = function() return "awaited" end }) }
    assert.equal("awaited", done[1]:result())
  end)

  it("leaves the list that it was given alone, and does not mind what becomes of it", function()
    local tasks, gates = waiting(3)
    local list = { tasks[1], tasks[2], tasks[3] }
    local w = async.create_task(async.wait, list, FIRST_COMPLETED)
    turns()
    assert.same(tasks, list)
    list[1], list[2] = nil, nil
    collectgarbage()
    gates[2]:set_result()
    local done, pending = async.await(w)
    assert.equal("t2", names(done))
    assert.equal("t1 t3", names(pending))
    finish(tasks, gates)
  end)

  it("keeps futures alive that nobody else holds", function()
    local done, pending = async.wait({ async.Future(), async.Future() }, { timeout = 0.001 })
    collectgarbage()
    assert.equal(0, #done)
    assert.equal(2, #pending)
    assert.is_false(pending[1]:done())
  end)

  it("throws no error of a child", function()
    local done = async.wait { function() error("a", 0) end, function() error("b", 0) end }
    assert.equal(2, #done)
    local errors = { done[1]:exception(), done[2]:exception() }
    table.sort(errors)
    assert.same({ "a", "b" }, errors)
  end)

  it("retrieves none", function()
    local loop, list = async.get_running_loop(), {}
    local before = loop:get_exception_handler()
    loop:set_exception_handler(function(_, context) list[#list + 1] = context.exception end)
    async.wait({ function() error("lost", 0) end }, FIRST_EXCEPTION)
    for _ = 1, 2 do
      collectgarbage()
      async.sleep(0.002)
    end
    loop:set_exception_handler(before)
    assert.same({ "lost" }, list)
  end)

  it("is how to cancel and wait for the end", function()
    local ended = false
    local t = async.create_task(function()
      local _ <close> = async.defer(function() turns(2) ended = true end)
      async.sleep(60)
    end)
    turns()
    t:cancel()
    local done = async.wait { t }
    assert.equal(t, done[1])
    assert.is_true(ended and t:cancelled())
  end)

  it("gives way now and then although all is done", function()
    local fut, ran = async.Future(), false
    fut:set_result()
    local t = async.create_task(function() ran = true end)
    for _ = 1, 300 do async.wait { fut } end
    assert.is_true(ran)
    async.await(t)
  end)
end)

describe("wait's timeout", function()
  it("returns what there is; the rest goes on", function()
    local tasks, gates = waiting(3)
    gates[2]:set_result()
    local start = async.get_running_loop():time()
    local done, pending = async.wait(tasks, { timeout = 0.01 })
    local took = async.get_running_loop():time() - start
    assert.is_true(took >= 0.01 - 1e-9 and took < 1) -- a difference of floats is not exact
    assert.equal("t2", names(done))
    assert.equal("t1 t3", names(pending))
    assert.equal(0, pending[1]:cancelling())
    finish(tasks, gates)
  end)

  it("is over when all are done before", function()
    local tasks, gates = waiting(2)
    local w = async.create_task(async.wait, tasks, { timeout = 60 })
    turns()
    gates[1]:set_result()
    gates[2]:set_result()
    local done, pending = async.await(w)
    assert.equal(2, #done)
    assert.equal(0, #pending)
  end)

  it("of zero or less is a snapshot after one turn", function()
    for _, timeout in ipairs { 0, -1, -math.huge } do
      local soon, later = async.Future(), async.Future()
      async.get_running_loop():call_soon(function() soon:set_result() end)
      local done, pending = async.wait({ later, soon }, { timeout = timeout })
      assert.equal(soon, done[1])
      assert.equal(later, pending[1])
    end
  end)

  it("does not suspend if all are done", function()
    local fut, ran = async.Future(), false
    fut:set_result()
    local t = async.create_task(function() ran = true end)
    local done = async.wait({ fut }, { timeout = 0 })
    assert.equal(fut, done[1])
    assert.is_false(ran)
    async.await(t)
  end)

  it("goes with return_when, whichever comes first", function()
    local tasks, gates = waiting(2)
    local done, pending = async.wait(tasks, { timeout = 0.002, return_when = async.FIRST_COMPLETED })
    assert.equal(0, #done)
    assert.equal("t1 t2", names(pending))
    local w = async.create_task(async.wait, tasks, { timeout = 60, return_when = async.FIRST_COMPLETED })
    turns()
    gates[2]:set_result()
    done, pending = async.await(w)
    assert.equal("t2", names(done))
    finish(tasks, gates)
  end)

  it("may be infinite or nil", function()
    for _, opts in ipairs { { timeout = math.huge }, { timeout = nil } } do
      local done = async.wait({ function() turns(2) end }, opts)
      assert.equal(1, #done)
    end
  end)
end)

describe("wait whose caller is cancelled", function()
  it("throws at once; the others go on", function()
    for _, opts in ipairs { {}, FIRST_COMPLETED, FIRST_EXCEPTION, { timeout = 60 }, { timeout = 0 } } do
      local tasks, gates = waiting(2)
      local w = async.create_task(async.wait, tasks, opts)
      if opts.timeout == 0 then
        async.get_running_loop():call_soon(function() w:cancel("stop") end)
      else
        turns()
        w:cancel("stop")
      end
      local ok, e = pcall(async.await, w)
      if not ok then -- a snapshot may have been faster
        assert.equal("CancelledError: stop", tostring(e))
        assert.is_true(w:cancelled())
      end
      assert.equal(0, tasks[1]:cancelling())
      assert.is_false(tasks[2]:done())
      finish(tasks, gates)
    end
  end)

  it("leaves no trace at the children: they are nobody's but their awaiter's", function()
    local tasks, gates = waiting(1)
    local w = async.create_task(async.wait, tasks)
    turns()
    w:cancel()
    pcall(async.await, w)
    local a = async.create_task(async.await, tasks[1])
    turns()
    a:cancel()
    pcall(async.await, a)
    assert.is_true(tasks[1]:cancelled())
    assert.is_true(gates[1]:cancelled())
  end)

  it("counts as one who needs the child while it waits", function()
    local tasks, gates = waiting(1)
    local w = async.create_task(async.wait, tasks)
    local a = async.create_task(async.await, tasks[1])
    turns()
    a:cancel()
    pcall(async.await, a)
    assert.is_true(a:cancelled())
    assert.equal(0, tasks[1]:cancelling())
    gates[1]:set_result(5)
    assert.equal(5, async.await(w)[1]:result())
  end)

  it("gets the lists if they were there before", function()
    local tasks, gates = waiting(1)
    local w = async.create_task(function()
      local done = async.wait { gates[1] }
      local ok, e = pcall(async.sleep, 60)
      return #done, ok, e.name
    end)
    turns()
    gates[1]:set_result()
    w:cancel()
    local n, ok, name = async.await(w)
    assert.equal(1, n)
    assert.is_false(ok)
    assert.equal("CancelledError", name)
    finish(tasks, gates)
  end)

  it("before it suspends throws, too", function()
    local fut = async.Future()
    local w
    w = async.create_task(function()
      w:cancel("myself")
      return async.wait { fut }
    end)
    assert.equal("CancelledError: myself", tostring(select(2, pcall(async.await, w))))
    assert.is_false(fut:done())
  end)
end)

describe("wait for oneself", function()
  it("is an error if nothing else can end it", function()
    local ok, e = pcall(async.wait, { async.current_task() })
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
  end)

  it("is fine if something else can", function()
    local me = async.current_task()
    local done, pending = async.wait({ me }, { timeout = 0.001 })
    assert.equal(0, #done)
    assert.equal(me, pending[1])
    done, pending = async.wait({ me, function() end }, FIRST_COMPLETED)
    assert.equal(1, #done)
    assert.equal(me, pending[1])
  end)
end)

describe("wait refuses", function()
  local function fails(class, pattern, ...)
    local before = #async.all_tasks()
    local ok, e = pcall(async.wait, ...)
    assert.is_false(ok)
    assert.equal(class, type(e) == "table" and e.name or type(e))
    assert.matches("wait", e.message)
    assert.matches(pattern, e.message)
    assert.equal(before, #async.all_tasks(), "a task was made")
  end
  local function f() error("must not run") end

  it("what is no list of awaitables", function()
    fails("TypeError", "#1")
    for _, v in ipairs { 1, "x", true, print } do fails("TypeError", "#1", v) end
    for _, v in ipairs { 1, "x", true, {} } do fails("TypeError", "index 2", { f, v }) end
    fails("TypeError", "index 2", { f, false, f })
    turns()
  end)

  it("an empty list", function()
    fails("ValueError", "#1", {})
    fails("ValueError", "#1", {}, { timeout = 1 })
  end)

  it("bad options", function()
    fails("TypeError", "#2", { f }, 1)
    for _, v in ipairs { "1", true, {}, 0 / 0 } do fails("TypeError", "timeout", { f }, { timeout = v }) end
    for _, v in ipairs { "FIRST", "", 1, true, {}, "first_completed" } do
      fails("ValueError", "return_when", { f }, { return_when = v })
    end
    fails("ValueError", "return_when", { f }, { return_when = false })
    turns()
  end)

  it("to be called outside a task", function()
    local fut, error_of = async.Future(), nil
    async.get_running_loop():call_soon(function()
      local _, e = pcall(async.wait, { fut })
      error_of = e
      fut:set_result()
    end)
    async.await(fut)
    assert.equal("RuntimeError", error_of.name)
  end)
end)

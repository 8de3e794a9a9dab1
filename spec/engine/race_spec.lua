-- as_completed, map and race.
local async = require "lunation"

local function turns(n)
  for _ = 1, n or 4 do async.sleep(0) end
end

local function waiting(n)
  local tasks, gates = {}, {}
  for i = 1, n do
    local gate = async.Future()
    gates[i] = gate
    tasks[i] = async.create_task(function() return async.await(gate) end):set_name("t" .. i)
  end
  turns()
  return tasks, gates
end

local function finish(tasks, gates)
  for _, gate in ipairs(gates) do
    if not gate:done() then gate:set_result() end
  end
  for _, task in ipairs(tasks) do pcall(async.await, task) end
end

-- A task that ends some turns after it was cancelled, and logs that.
local function slow_to_end(log, name, cleanup)
  return async.create_task(function()
    local _, e = pcall(async.sleep, 60)
    turns(cleanup or 6)
    log[#log + 1] = name
    error(e)
  end)
end

local function reported(fn)
  local loop, list = async.get_running_loop(), {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context) list[#list + 1] = context.exception end)
  local results = table.pack(pcall(fn))
  for _ = 1, 2 do
    collectgarbage()
    async.sleep(0.002)
  end
  loop:set_exception_handler(before)
  if not results[1] then error(results[2], 0) end
  return list, table.unpack(results, 2, results.n)
end

local function fails(fn, name, class, pattern, ...)
  local before = #async.all_tasks()
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  assert.equal(class, type(e) == "table" and e.name or type(e))
  assert.matches(name, e.message)
  assert.matches(pattern, e.message)
  assert.equal(before, #async.all_tasks(), "a task was made")
end

local function fails_outside_a_task(fn)
  local fut, error_of = async.Future(), nil
  async.get_running_loop():call_soon(function()
    local _, e = pcall(fn)
    error_of = e
    fut:set_result()
  end)
  async.await(fut)
  assert.equal("RuntimeError", error_of.name)
end

local function must_not_run() error("must not run") end

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

describe("map", function()
  it("gives the first results in order, with n", function()
    local r = async.map({ "a", "b", "c" }, function(item, index)
      turns(4 - index)
      return item .. index, "second"
    end)
    assert.same({ "a1", "b2", "c3", n = 3 }, r)
  end)

  it("runs all at once without a limit", function()
    local running, most = 0, 0
    async.map({ 1, 2, 3, 4, 5 }, function()
      running = running + 1
      most = math.max(most, running)
      turns(3)
      running = running - 1
    end)
    assert.equal(5, most)
  end)

  it("runs at most `limit` at a time, in order, and keeps them busy", function()
    for limit = 1, 6 do
      local running, most, order, list = 0, 0, {}, {}
      for i = 1, 20 do list[i] = i * 10 end
      local r = async.map(list, function(item, index)
        running = running + 1
        most = math.max(most, running)
        order[#order + 1] = index
        turns(item % 7)
        running = running - 1
        return item
      end, { limit = limit })
      assert.equal(limit, most)
      assert.equal(20, r.n)
      for i = 1, 20 do assert.equal(i * 10, r[i]) end
      table.sort(order)
      for i = 1, 20 do assert.equal(i, order[i]) end
    end
  end)

  it("starts the next item as soon as one ends", function()
    local started, gates = {}, {}
    local m = async.create_task(async.map, { 1, 2, 3, 4 }, function(item)
      started[#started + 1] = item
      gates[item] = async.Future()
      return async.await(gates[item])
    end, { limit = 2 })
    turns()
    assert.equal(2, #started)
    gates[2]:set_result("b")
    turns(6)
    assert.same({ 3 }, { started[3] })
    gates[3]:set_result("c")
    turns(6)
    gates[1]:set_result("a")
    gates[4]:set_result("d")
    assert.same({ "a", "b", "c", "d", n = 4 }, async.await(m))
  end)

  it("takes a limit beyond the list", function()
    for _, limit in ipairs { 3, 4, 1000000, math.maxinteger, 2.0 } do
      assert.same({ 2, 4, 6, n = 3 }, (async.map({ 1, 2, 3 }, function(x) async.sleep(0) return 2 * x end, { limit = limit })))
    end
  end)

  it("keeps nil results in their places", function()
    local r = async.map({ 1, 2, 3 }, function(x) if x == 2 then return false end end, { limit = 1 })
    assert.equal(3, r.n)
    assert.is_nil(r[1])
    assert.is_false(r[2])
    assert.is_nil(r[3])
  end)

  it("of nothing is an empty list", function()
    assert.same({ n = 0 }, async.map({}, must_not_run))
    assert.same({ n = 0 }, async.map({}, must_not_run, { limit = 3 }))
  end)

  it("takes what can be called, and items of any kind", function()
    local twice = setmetatable({}, { __call = function(_, x, i) return x, i end })
    local t = {}
    local r = async.map({ t, false, print, async.sleep }, twice)
    assert.equal(t, r[1])
    assert.is_false(r[2])
    assert.equal(print, r[3])
    assert.equal(async.sleep, r[4])
  end)

  it("does not mind what becomes of the list meanwhile", function()
    local list = { 1, 2, 3, 4 }
    local r = async.map(list, function(x)
      list[x + 1] = nil
      async.sleep(0)
      return x
    end, { limit = 1 })
    assert.same({ 1, 2, 3, 4, n = 4 }, r)
  end)

  it("takes many", function()
    local list = {}
    for i = 1, 1000 do list[i] = i end
    local r = async.map(list, function(x) async.sleep(0) return x end, { limit = 100 })
    for i = 1, 1000 do if r[i] ~= i then error("wrong at " .. i) end end
  end)
end)

describe("map's first error", function()
  for _, opts in ipairs { {}, { limit = 3 } } do
    local name = opts.limit and " (limit)" or ""

    it("cancels the rest, waits for them, is thrown; the rest never starts" .. name, function()
      local ended, started = {}, 0
      local ok, e = pcall(async.map, { 1, 2, 3, 4, 5, 6 }, function(x)
        started = started + 1
        if x == 2 then turns(2) error("first", 0) end
        local _ <close> = async.defer(function() turns(5) ended[#ended + 1] = x end)
        async.sleep(60)
      end, opts)
      assert.is_false(ok)
      assert.equal("first", e)
      assert.equal(opts.limit or 6, started)
      assert.equal(started - 1, #ended)
      turns()
      assert.equal(opts.limit or 6, started)
    end)

    it("is delivered; those of the others are reported" .. name, function()
      local list, e = reported(function()
        return select(2, pcall(async.map, { 1, 2, 3 }, function(x)
          if x == 2 then turns(2) error("first", 0) end
          pcall(async.sleep, 60)
          if x == 3 then error("on the way out", 0) end
        end, opts))
      end)
      assert.equal("first", e)
      assert.same({ "on the way out" }, list)
    end)
  end

  it("may be the cancellation of a child by somebody else", function()
    local child
    local m = async.create_task(function()
      local ok, e = pcall(async.map, { 1, 2 }, function(x)
        if x == 1 then child = async.current_task() end
        async.sleep(60)
      end)
      return ok, e, async.current_task():cancelling()
    end)
    turns()
    child:cancel("only this one")
    local ok, e, asked = async.await(m)
    assert.is_false(ok)
    assert.equal("CancelledError: only this one", tostring(e))
    assert.equal(0, asked)
  end)
end)

describe("map whose caller is cancelled", function()
  for _, opts in ipairs { {}, { limit = 2 } } do
    it("cancels all children and waits for them" .. (opts.limit and " (limit)" or ""), function()
      local started, ended = 0, 0
      local m = async.create_task(async.map, { 1, 2, 3, 4 }, function()
        started = started + 1
        local _ <close> = async.defer(function() turns(3) ended = ended + 1 end)
        async.sleep(60)
      end, opts)
      turns()
      m:cancel("stop")
      local ok, e = pcall(async.await, m)
      assert.equal("CancelledError: stop", tostring(e))
      assert.is_true(m:cancelled())
      assert.equal(opts.limit or 4, started)
      assert.equal(started, ended)
      turns()
      assert.equal(opts.limit or 4, started)
    end)
  end

  it("between two items starts no more", function()
    local started, gates = 0, {}
    local m = async.create_task(async.map, { 1, 2, 3 }, function(x)
      started = started + 1
      gates[x] = async.Future()
      async.await(gates[x])
    end, { limit = 1 })
    turns()
    local m_name = m:get_name()
    gates[1]:add_done_callback(function() end)
    gates[1]:set_result()
    turns(1)
    m:cancel()
    local ok = pcall(async.await, m)
    assert.is_false(ok)
    assert.is_truthy(m_name)
    local now = started
    assert.is_true(now <= 2)
    turns()
    assert.equal(now, started)
  end)

  it("while the rest ends throws CancelledError; the error is reported", function()
    local list, e = reported(function()
      local m = async.create_task(async.map, { 1, 2 }, function(x)
        if x == 1 then error("first", 0) end
        pcall(async.sleep, 60)
        turns(12)
      end)
      turns(6)
      m:cancel("stop")
      return select(2, pcall(async.await, m))
    end)
    assert.equal("CancelledError: stop", tostring(e))
    assert.same({ "first" }, list)
  end)
end)

describe("map refuses", function()
  local function bad(...) fails(async.map, "map", ...) end

  it("bad input, before it makes a task", function()
    bad("TypeError", "#1")
    bad("TypeError", "#1", 1, must_not_run)
    bad("TypeError", "#1", "abc", must_not_run)
    for _, v in ipairs { 1, "x", true, {} } do bad("TypeError", "#2", { 1 }, v) end
    bad("TypeError", "#2", { 1 })
    bad("TypeError", "#3", { 1 }, must_not_run, 2)
    for _, v in ipairs { "2", true, 1.5, 0 / 0, math.huge } do bad("TypeError", "limit", { 1 }, must_not_run, { limit = v }) end
    for _, v in ipairs { 0, -1, math.mininteger } do bad("ValueError", "limit", { 1 }, must_not_run, { limit = v }) end
    turns()
  end)

  it("to be called outside a task", function()
    fails_outside_a_task(function() async.map({ 1 }, must_not_run) end)
  end)
end)

describe("race", function()
  it("gives all results of the first to end; the others are cancelled and have ended", function()
    local log = {}
    local a, b = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8)
    local fut = async.Future()
    local r = table.pack(async.race { a, b, function() turns(2) return 1, nil, 3, nil end, fut })
    assert.equal(4, r.n)
    assert.equal(1, r[1])
    assert.equal(3, r[3])
    assert.same({ "a", "b" }, log)
    assert.is_true(a:cancelled() and b:cancelled() and fut:cancelled())
  end)

  it("throws the error of the first to end", function()
    local log = {}
    local a = slow_to_end(log, "a")
    local e = async.ValueError("failed")
    local ok, got = pcall(async.race, { a, function() turns(2) error(e) end })
    assert.is_false(ok)
    assert.equal(e, got)
    assert.same({ "a" }, log)
  end)

  it("throws CancelledError if the first to end was cancelled", function()
    local gone, other = async.create_task(async.sleep, 60), async.Future()
    gone:cancel("gone")
    local ok, e = pcall(async.race, { other, gone })
    assert.is_false(ok)
    assert.equal("CancelledError: gone", tostring(e))
    assert.is_true(other:cancelled())
    assert.equal(0, async.current_task():cancelling())
  end)

  it("takes the earliest of those that had ended; functions never start", function()
    local tasks, gates = waiting(3)
    for _, i in ipairs { 3, 1 } do
      gates[i]:set_result(i)
      turns()
    end
    local started = false
    assert.equal(3, async.race { tasks[1], function() started = true end, tasks[2], tasks[3] })
    turns()
    assert.is_false(started)
    assert.is_true(tasks[2]:cancelled())
    assert.equal(1, tasks[1]:result())
  end)

  it("of one is its result", function()
    assert.equal(5, async.race { function() return 5 end })
    local fut = async.Future()
    fut:set_result(6)
    assert.equal(6, async.race { fut, fut })
  end)

  it("cancels a loser that is named twice once, and whoever else waits for it", function()
    local log = {}
    local a = slow_to_end(log, "a")
    local other = async.create_task(function() return pcall(async.await, a) end)
    async.race { a, a, function() turns(1) end, a }
    assert.equal(1, a:cancelling())
    assert.equal("CancelledError", select(2, async.await(other)).name)
  end)

  it("waits for losers that do not want to end", function()
    local ended = false
    assert.equal("won", async.race {
      function() pcall(async.sleep, 60) turns(5) ended = true return "stubborn" end,
      function() return "won" end,
    })
    assert.is_true(ended)
  end)

  it("reports the errors of losers", function()
    local list, r = reported(function()
      return async.race {
        function() pcall(async.sleep, 60) error("loser", 0) end,
        function() turns(1) return "won" end,
        function() async.sleep(60) end,
      }
    end)
    assert.equal("won", r)
    assert.same({ "loser" }, list)
  end)

  it("gives way now and then although all is done", function()
    local fut, ran = async.Future(), false
    fut:set_result(1)
    local t = async.create_task(function() ran = true end)
    for _ = 1, 300 do assert.equal(1, async.race { fut }) end
    assert.is_true(ran)
    async.await(t)
  end)

  it("refuses to wait for its caller", function()
    local ok, e = pcall(async.race, { async.current_task() })
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
  end)

  it("refuses bad input before it makes a task", function()
    local function bad(...) fails(async.race, "race", ...) end
    bad("TypeError", "#1")
    for _, v in ipairs { 1, "x", print } do bad("TypeError", "#1", v) end
    bad("TypeError", "index 2", { must_not_run, 1 })
    bad("TypeError", "index 2", { must_not_run, false, must_not_run })
    bad("ValueError", "#1", {})
    turns()
    fails_outside_a_task(function() async.race { must_not_run } end)
  end)
end)

describe("race whose caller is cancelled", function()
  it("cancels all children and waits for them", function()
    local log = {}
    local a, b, fut = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8), async.Future()
    local r = async.create_task(async.race, { a, b, fut })
    turns()
    r:cancel("stop")
    assert.equal("CancelledError: stop", tostring(select(2, pcall(async.await, r))))
    assert.is_true(r:cancelled())
    assert.same({ "a", "b" }, log)
    assert.is_true(fut:cancelled())
  end)

  it("throws also if a child swallows it and returns", function()
    local r = async.create_task(async.race, { function() pcall(async.sleep, 60) return "value" end })
    turns()
    r:cancel()
    assert.equal("CancelledError", select(2, pcall(async.await, r)).name)
  end)

  it("gives the outcome that was there before, and the request at the next await", function()
    for _, losers in ipairs { 0, 2 } do
      local log, list = {}, { async.Future() }
      for i = 1, losers do list[i + 1] = slow_to_end(log, i) end
      local r = async.create_task(function()
        local v = async.race(list)
        return v, pcall(async.sleep, 60)
      end)
      turns()
      list[1]:set_result("socket")
      r:cancel("stop")
      local v, ok, e = async.await(r)
      assert.equal("socket", v)
      assert.is_false(ok)
      assert.equal("CancelledError: stop", tostring(e))
      assert.equal(losers, #log)
    end
  end)

  it("while the losers end asks them again, gives the outcome, and the request at the next await", function()
    local log, asked = {}, 0
    local loser = async.create_task(function()
      for _ = 1, 2 do
        if not pcall(async.sleep, 60) then asked = asked + 1 end
      end
      log[#log + 1] = "loser"
    end)
    local fut = async.Future()
    local r = async.create_task(function()
      local v = async.race { loser, fut }
      return v, pcall(async.sleep, 60)
    end)
    turns()
    fut:set_result("socket")
    turns()
    assert.equal(1, asked)
    r:cancel("stop")
    local v, ok, e = async.await(r)
    assert.equal(2, asked)
    assert.equal("socket", v)
    assert.is_false(ok)
    assert.equal("CancelledError: stop", tostring(e))
    assert.equal(1, r:cancelling())
  end)

  it("before it suspends cancels the children that it has just made", function()
    local started = false
    local r
    r = async.create_task(function()
      r:cancel("myself")
      return async.race { function() started = true end }
    end)
    assert.equal("CancelledError: myself", tostring(select(2, pcall(async.await, r))))
    assert.is_false(started)
  end)
end)

-- async.gather: results in order, errors in three modes, and who is cancelled when.
local async = require "lunation"
local support = require "spec.support.gathering"
local turns, waiting, slow_to_end, reported, class_of = support.turns, support.waiting, support.slow_to_end, support.reported, support.class_of

describe("gather", function()
  it("gives the first results in the order of the list, with n", function()
    local r, errors = async.gather {
      function() turns(3) return "slow", "second" end,
      function() return "fast" end,
      async.create_task(function() turns(2) return "middle" end),
    }
    assert.same({ "slow", "fast", "middle", n = 3 }, r)
    assert.is_nil(errors)
  end)

  it("keeps nil and false in their places", function()
    local r = async.gather {
      function() end, function() return nil, 1 end, function() return false end, function() return "x" end, function() end,
    }
    assert.equal(5, r.n)
    assert.is_nil(r[1])
    assert.is_nil(r[2])
    assert.is_false(r[3])
    assert.equal("x", r[4])
    assert.is_nil(r[5])
  end)

  it("of nothing is an empty list", function()
    assert.same({ n = 0 }, (async.gather {}))
    local r, errors = async.gather({}, { return_exceptions = true })
    assert.same({ n = 0 }, r)
    assert.same({}, errors)
    assert.same({ n = 0 }, (async.gather({}, { cancel_on_error = true })))
  end)

  it("takes futures, tasks, functions and values with __await", function()
    local fut = async.Future()
    fut:set_result("future")
    local awaitable
    awaitable = setmetatable({}, { __await = function(self)
      async.sleep(0)
      return rawequal(self, awaitable) and "awaitable"
    end })
    local function f(...) return select("#", ...) == 0 and "function" end
    assert.same({ "future", "function", "awaitable", "function", n = 4 }, (async.gather { fut, f, awaitable, f }))
  end)

  it("leaves the list that it was given alone", function()
    local f = function() return 1 end
    local list = { f, f }
    async.gather(list)
    assert.equal(f, list[1])
    assert.equal(f, list[2])
    assert.is_nil(list.n)
  end)

  it("does not mind what becomes of the list meanwhile", function()
    local t, gate = waiting()
    local list = { t, async.Future() }
    list[2]:set_result("b")
    local g = async.create_task(async.gather, list)
    turns()
    list[1], list[2], t = nil, nil, nil
    collectgarbage()
    gate:set_result("a")
    assert.same({ "a", "b", n = 2 }, async.await(g))
  end)

  it("does not suspend if all are done, but gives way now and then", function()
    local fut, ran = async.Future(), false
    fut:set_result(1)
    local t = async.create_task(function() ran = true end)
    assert.same({ 1, 1, n = 2 }, async.gather { fut, fut })
    assert.is_false(ran)
    for _ = 1, 300 do async.gather { fut } end
    assert.is_true(ran)
    async.await(t)
  end)

  it("puts a future that is named twice in both places", function()
    local t, gate = waiting()
    local u, gate_u = waiting()
    local g = async.create_task(async.gather, { t, u, t, gate, t })
    turns()
    gate_u:set_result("u")
    gate:set_result("g")
    assert.same({ "g", "u", "g", "g", "g", n = 5 }, async.await(g))
  end)

  it("takes any number of children", function()
    local list = {}
    for i = 1, 10000 do list[i] = function() if i % 100 == 0 then async.sleep(0) end return i end end
    local r = async.gather(list)
    assert.equal(10000, r.n)
    for i = 1, 10000 do if r[i] ~= i then error("wrong at " .. i) end end
  end)

  it("takes lists that are too long for the stack", function()
    local fut, list = async.Future(), {}
    fut:set_result("future")
    for i = 1, 20000 do list[i] = i % 2 == 0 and fut or function() return i end end
    local r = async.gather(list)
    assert.equal(20000, r.n)
    for i = 1, 20000 do if r[i] ~= (i % 2 == 0 and "future" or i) then error("wrong at " .. i) end end
    local before = #async.all_tasks()
    list[20000] = 1
    local ok, e = pcall(async.gather, list)
    assert.is_false(ok)
    assert.matches("awaitable expected at index 20000, got number", e.message)
    assert.equal(before, #async.all_tasks())
  end)

  it("nests", function()
    local function tree(depth)
      if depth == 0 then async.sleep(0) return 1 end
      local r = async.gather { function() return tree(depth - 1) end, function() return tree(depth - 1) end }
      return r[1] + r[2]
    end
    assert.equal(64, tree(6))
  end)
end)

describe("gather's first error", function()
  it("is thrown at once, by identity, and the others go on", function()
    for _, e in ipairs { "text", async.ValueError("object"), {}, 42 } do
      local other, gate = waiting()
      local ok, got = pcall(async.gather, { other, function() error(e, 0) end })
      assert.is_false(ok)
      assert.equal(e, got)
      assert.is_false(other:done())
      assert.equal(0, other:cancelling())
      gate:set_result(1)
      assert.equal(1, async.await(other))
    end
  end)

  it("may be false or nil", function()
    local ok, e = pcall(async.gather, { function() error(false) end })
    assert.is_false(ok)
    assert.is_false(e)
    ok, e = pcall(async.gather, { function() error(nil) end })
    assert.is_false(ok)
    assert.equal("Error: nil", tostring(e))
  end)

  it("is the first in time, not in the list", function()
    local a, gate_a = waiting()
    local b, gate_b = waiting()
    local g = async.create_task(async.gather, { a, b })
    turns()
    gate_b:set_exception("b failed")
    turns()
    gate_a:set_exception("a failed")
    local ok, e = pcall(async.await, g)
    assert.equal("b failed", e)
    assert.equal("a failed", select(2, pcall(async.await, a)))
  end)

  it("is thrown without suspending if it is there already", function()
    local fut, ran = async.Future(), false
    fut:set_exception("failed")
    local t = async.create_task(function() ran = true end)
    assert.equal("failed", select(2, pcall(async.gather, { t, fut })))
    assert.is_false(ran)
    async.await(t)
  end)

  it("may be the cancellation of a child by somebody else", function()
    local a, b, gate = async.create_task(async.sleep, 60), waiting()
    local g = async.create_task(function()
      local ok, e = pcall(async.gather, { a, b })
      return e, async.current_task():cancelling()
    end)
    turns()
    a:cancel("only this one")
    local e, asked = async.await(g)
    assert.equal("CancelledError: only this one", tostring(e))
    assert.equal(0, asked)
    assert.is_false(b:done())
    gate:set_result()
    async.await(b)
  end)

  it("is delivered; later ones are reported, once", function()
    local list, e = reported(function()
      local function failing(n, text) return function() turns(n) error(text, 0) end end
      local ok, e = pcall(async.gather, { failing(6, "third"), failing(1, "first"), failing(3, "second") })
      turns(10)
      return e
    end)
    assert.equal("first", e)
    assert.equal(2, #list)
    local seen = {}
    for _, r in ipairs(list) do
      assert.equal("Task exception was never retrieved", r.message)
      seen[r.exception] = true
    end
    assert.same({ second = true, third = true }, seen)
  end)
end)

describe("gather with return_exceptions", function()
  local opts = { return_exceptions = true }

  it("puts errors in their places and into a second table", function()
    local returned = async.ValueError("returned")
    local gone = async.create_task(async.sleep, 60)
    gone:cancel("gone")
    local r, errors = async.gather({
      function() return 1 end,
      function() error("text", 0) end,
      function() return returned end,
      function() error(false) end,
      gone,
      function() end,
    }, opts)
    assert.equal(6, r.n)
    assert.equal(1, r[1])
    assert.equal("text", r[2])
    assert.equal(returned, r[3])
    assert.is_false(r[4])
    assert.equal("CancelledError: gone", tostring(r[5]))
    assert.is_nil(r[6])
    assert.equal("text", errors[2])
    assert.is_false(errors[4])
    assert.equal(r[5], errors[5])
    assert.is_nil(errors[1])
    assert.is_nil(errors[3])
    assert.is_nil(errors[6])
  end)

  it("has retrieved the errors", function()
    local list = reported(function()
      async.gather({ function() error("a") end, function() error("b") end }, opts)
    end)
    assert.same({}, list)
  end)

  it("has an empty table of errors if nothing failed", function()
    local _, errors = async.gather({ function() return 1 end }, opts)
    assert.same({}, errors)
  end)

  it("takes 10,000 failing children in linear time", function()
    local function run(n)
      local list, start = {}, os.clock()
      for i = 1, n do list[i] = function() error(i, 0) end end
      local r, errors = async.gather(list, opts)
      assert.equal(n, r.n)
      assert.equal(n, errors[n])
      return os.clock() - start
    end
    run(1000)
    local small, large = run(1000), run(10000)
    assert.is_true(large < 10 * small * 5 + 0.05, ("%g s for 1,000, %g s for 10,000"):format(small, large))
  end)
end)

describe("gather with cancel_on_error", function()
  local opts = { cancel_on_error = true }

  it("gives the results if nothing fails", function()
    assert.same({ 1, 2, n = 2 }, (async.gather({ function() return 1 end, function() turns(2) return 2 end }, opts)))
  end)

  it("cancels the others and waits for their end before it throws", function()
    local log = {}
    local a, b = slow_to_end(log, "a", 3), slow_to_end(log, "b", 8)
    local fut = async.Future()
    local ok, e = pcall(async.gather, { a, function() turns(1) error("first", 0) end, b, fut }, opts)
    assert.equal("first", e)
    assert.same({ "a", "b" }, log)
    assert.is_true(a:cancelled())
    assert.is_true(b:cancelled())
    assert.is_true(fut:cancelled())
    assert.equal(1, a:cancelling())
  end)

  it("never starts what has not started", function()
    local fut, started = async.Future(), false
    fut:set_exception("failed")
    assert.equal("failed", select(2, pcall(async.gather, { function() started = true end, fut }, opts)))
    turns()
    assert.is_false(started)
  end)

  it("keeps what is done, and throws when nothing is left to cancel", function()
    local bad, good = async.Future(), async.Future()
    bad:set_exception("failed")
    good:set_result("good")
    assert.equal("failed", select(2, pcall(async.gather, { good, bad }, opts)))
    assert.equal("good", good:result())
  end)

  it("cancels a future that is named twice once", function()
    local log = {}
    local a = slow_to_end(log, "a")
    pcall(async.gather, { a, a, function() turns(1) error("first", 0) end, a }, opts)
    assert.equal(1, a:cancelling())
  end)

  it("cancels them also if somebody else waits for them", function()
    local a, gate = waiting()
    local other = async.create_task(function() return pcall(async.await, a) end)
    turns()
    pcall(async.gather, { a, function() error("first", 0) end }, opts)
    assert.is_true(a:cancelled())
    assert.is_true(gate:cancelled())
    assert.equal("CancelledError", select(2, async.await(other)).name)
  end)

  it("reports what the others throw on their way out", function()
    local list, e = reported(function()
      local a = async.create_task(function() pcall(async.sleep, 60) error("on the way out", 0) end)
      local b = async.create_task(async.sleep, 60)
      return select(2, pcall(async.gather, { a, b, function() turns(1) error("first", 0) end }, opts))
    end)
    assert.equal("first", e)
    assert.equal(1, #list)
    assert.equal("on the way out", list[1].exception)
  end)

  it("and return_exceptions returns all, after the others have ended", function()
    local log = {}
    local r, errors = async.gather({ slow_to_end(log, "a"), function() turns(1) error("first", 0) end, function() return 3 end },
      { cancel_on_error = true, return_exceptions = true })
    assert.same({ "a" }, log)
    assert.equal(3, r.n)
    assert.equal("CancelledError", errors[1].name)
    assert.equal("first", errors[2])
    assert.equal(3, r[3])
    assert.is_nil(errors[3])
  end)

  it("throws CancelledError if its caller is cancelled while the others end; the error is reported", function()
    local log = {}
    local list, state = reported(function()
      local a = async.create_task(function()
        local _, e = pcall(async.sleep, 60)
        for _ = 1, 12 do pcall(turns, 1) end -- a further request does not cut it short
        log[#log + 1] = "a"
        error(e)
      end)
      local g = async.create_task(async.gather, { a, function() error("first", 0) end }, opts)
      turns(6)
      assert.equal(1, a:cancelling())
      g:cancel("from outside")
      local ok, e = pcall(async.await, g)
      assert.equal("CancelledError: from outside", tostring(e))
      assert.is_true(a:cancelled())
      assert.equal(2, a:cancelling())
      return g:cancelled()
    end)
    assert.is_true(state)
    assert.same({ "a" }, log)
    assert.equal(1, #list)
    assert.equal("first", list[1].exception)
  end)
end)

describe("gather refuses", function()
  local function fails(class, pattern, ...)
    local before = #async.all_tasks()
    local ok, e = pcall(async.gather, ...)
    assert.is_false(ok)
    assert.equal(class, class_of(e))
    assert.matches("gather", e.message)
    assert.matches(pattern, e.message)
    assert.equal(before, #async.all_tasks(), "a task was made")
  end

  it("what is no list", function()
    for _, v in ipairs { 1, "x", true, print } do fails("TypeError", "#1", v) end
    fails("TypeError", "#1")
    fails("TypeError", "#1", nil, {})
    fails("TypeError", "#1", async.current_task())
  end)

  it("what is not awaitable, before it makes any task", function()
    local f = function() error("must not run") end
    local callable = setmetatable({}, { __call = f })
    for _, v in ipairs { 1, "x", true, {}, callable, coroutine.create(f), io.stdout } do
      fails("TypeError", "index 2", { f, v })
    end
    fails("TypeError", "index 2", { f, false, f })
    turns()
  end)

  it("holes", function()
    local list = { function() end, function() end, function() end }
    list[2] = nil
    fails("TypeError", "index 2", list)
  end)

  it("bad options, before it makes any task", function()
    local f = function() error("must not run") end
    fails("TypeError", "#2", { f }, 1)
    fails("TypeError", "#2", { f }, "return_exceptions")
    for _, name in ipairs { "return_exceptions", "cancel_on_error" } do
      for _, v in ipairs { 1, "true", {} } do fails("TypeError", name, { f }, { [name] = v }) end
    end
    turns()
  end)

  it("to be called outside a task", function()
    local fut, error_of = async.Future(), nil
    async.get_running_loop():call_soon(function()
      local ok, e = pcall(async.gather, { fut })
      error_of = e
      if not fut:done() then fut:set_result() end
    end)
    async.await(fut)
    assert.equal("RuntimeError", class_of(error_of))
  end)
end)

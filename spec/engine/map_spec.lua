-- map: limit, order, errors, cancellation.
local async = require "lunation"
local support = require "spec.support.racing"
local turns, reported, fails, fails_outside_a_task, must_not_run = support.turns, support.reported, support.fails, support.fails_outside_a_task, support.must_not_run

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

  it("of nothing gives way now and then", function()
    local turned = false
    async.get_running_loop():call_soon(function() turned = true end)
    for _ = 1, 300 do async.map({}, must_not_run) end
    assert.is_true(turned)
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

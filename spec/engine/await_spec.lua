-- async.await and async.sleep: what can be awaited, what comes back, and where a task may suspend at all.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, refuses, turns = helper.thrown, helper.refuses, helper.turns
local unpack = table.unpack

describe("await", function()
  it("of a task gives all its results", function()
    for _, values in ipairs {
      { n = 0 }, { n = 1, "x" }, { n = 1, nil }, { n = 1, false }, { n = 3, nil, 2, nil }, { n = 3, 1, nil, 3 },
      { n = 2, "a", nil },
    } do
      local task = async.create_task(function() return unpack(values, 1, values.n) end)
      for _, got in ipairs { table.pack(async.await(task)), table.pack(async.await(task)),
        table.pack(task:result()) } do
        assert.equal(values.n, got.n)
        for i = 1, values.n do assert.is_true(rawequal(values[i], got[i])) end
      end
    end
  end)

  it("of a task gives many results, also across a suspension", function()
    for _, n in ipairs { 250, 100000 } do
      local values = {}
      for i = 1, n do values[i] = i end
      local task = async.create_task(function()
        turns(1)
        return unpack(values)
      end)
      assert.equal(n, select("#", async.await(task)))
      assert.equal(n, (select(n, async.await(task))))
    end
  end)

  it("of a task throws its error, whatever value it is", function()
    local hostile = setmetatable({}, { __tostring = function() error("no") end })
    for _, e in ipairs { "text", 42, {}, false, true, print, hostile, async.TypeError("t"), coroutine.create(print) } do
      local task = async.create_task(error, e, 0)
      assert.is_true(rawequal(e, thrown(async.await, task)))
      assert.is_true(rawequal(e, thrown(async.await, task)))
      assert.is_true(rawequal(e, task:exception()))
      task = async.create_task(function()
        turns(1)
        error(e, 0)
      end)
      assert.is_true(rawequal(e, thrown(async.await, task)))
    end
    local e = thrown(async.await, async.create_task(error))
    assert.equal("Error", e.name)
    assert.equal("nil", e.message)
  end)

  it("of a function calls it in place", function()
    local me, n = async.current_task(), #async.all_tasks()
    local got = table.pack(async.await(function(...)
      assert.equal(0, select("#", ...))
      assert.equal(me, async.current_task())
      turns(1)
      assert.equal(n, #async.all_tasks())
      return 1, nil, 3, nil
    end))
    assert.equal(4, got.n)
    assert.equal(3, got[3])
    local e = {}
    assert.equal(e, thrown(async.await, function() error(e) end))
    assert.equal(e, thrown(async.await, function()
      turns(1)
      error(e)
    end))
  end)

  it("of a value with __await calls that", function()
    local Delayed = {
      __await = function(self, ...)
        assert.equal(0, select("#", ...))
        turns(self.turns)
        if self.error then error(self.error) end
        return self, nil, "last"
      end,
    }
    local value = setmetatable({ turns = 0 }, Delayed)
    local got = table.pack(async.await(value))
    assert.equal(3, got.n)
    assert.equal(value, got[1])
    value.turns = 2
    assert.equal(value, (async.await(value)))
    value.error = async.ValueError("in it")
    assert.equal(value.error, thrown(async.await, value))
    -- what it returns is a result, not something to await
    local inner = function() error("not called") end
    assert.equal(inner, async.await(setmetatable({}, { __await = function() return inner end })))
  end)

  it("does not suspend when the result is there", function()
    local f, done = async.Future(), async.create_task(function() return "done" end)
    f:set_result("set")
    async.await(done)
    local ran = false
    local handle = async.get_running_loop():call_soon(function() ran = true end)
    for _ = 1, 20 do
      assert.equal("set", async.await(f))
      assert.equal("done", async.await(done))
      assert.equal("called", async.await(function() return "called" end))
    end
    assert.is_false(ran)
    handle:cancel()
  end)

  it("gives way now and then even so: every 128th that does not suspend", function()
    local f = async.Future()
    f:set_result("set")
    local loop = async.get_running_loop()
    local rounds, on = 0, true
    local function count()
      rounds = rounds + 1
      if on then loop:call_soon(count) end
    end
    loop:call_soon(count)
    for _ = 1, 1280 do assert.equal("set", async.await(f)) end
    on = false
    assert.is_true(rounds >= 9 and rounds <= 11, "rounds: " .. rounds)
    turns(2)
  end)

  it("keeps what it delivers when it gives way", function()
    local f, e = async.Future(), async.Future()
    f:set_result(1, nil, 3)
    local err = async.ValueError("kept")
    e:set_exception(err)
    for _ = 1, 300 do
      assert.equal(3, select("#", async.await(f)))
      assert.equal(err, thrown(async.await, e))
    end
  end)

  it("a wake-up of an earlier wait does not end a later one", function()
    local a, b = async.Future(), async.Future()
    local loop = async.get_running_loop()
    local task = async.create_task(function()
      async.wait({ a, b }, { return_when = async.FIRST_COMPLETED })
      local from = loop:time()
      b:set_result(2)
      async.sleep(0.01)
      return loop:time() - from
    end)
    turns(2)
    a:set_result(1)
    assert.is_true(async.await(task) >= 0.01 - 1e-9)
  end)

  describe("refuses", function()
    it("what cannot be awaited", function()
      local callable = setmetatable({}, { __call = function() end })
      for _, bad in ipairs { 42, "text", true, false, {}, callable, coroutine.create(print), io.stdout } do
        refuses("TypeError", { "await", "#1", "awaitable expected, got " }, async.await, bad)
      end
      refuses("TypeError", { "await", "awaitable expected, got n" }, async.await)
      refuses("TypeError", { "await", "awaitable expected, got n" }, async.await, nil)
      assert.equal("bad argument #1 to 'await' (awaitable expected, got number)",
        thrown(function() async.await(42) end).message)
      -- the __await of a value has to be callable
      assert.is_string(thrown(async.await, setmetatable({}, { __await = 42 })))
    end)

    it("the future of another loop", function()
      local other = async.new_event_loop()
      local f = other:create_future()
      refuses("RuntimeError", "loop", async.await, f)
      f:set_result(1)
      refuses("RuntimeError", "loop", async.await, f)
      refuses("RuntimeError", "loop", async.gather, { f })
      refuses("RuntimeError", "loop", async.wait, { f })
      refuses("RuntimeError", "loop", async.wait_for, f, 1)
      refuses("RuntimeError", "loop", async.shield, f)
      other:close()
    end)

    it("the task of another loop", function()
      helper.plain [[
        local other = async.new_event_loop()
        local task = other:create_task(function() return "its own" end)
        async.run(function() refuses("RuntimeError", "loop", async.await, task) end)
        eq("its own", other:run_until_complete(task))
        other:close()
      ]]
    end)

    it("the task itself", function()
      local task
      task = async.create_task(function() return async.await(task) end)
      refuses("RuntimeError", "itself", async.await, task)
      refuses("RuntimeError", "itself", async.await, async.current_task())
      refuses("RuntimeError", {}, async.gather, { async.current_task() })
    end)

    it("to close a cycle, at the await that would close it", function()
      for _, length in ipairs { 2, 3, 10 } do
        local tasks, log = {}, {}
        for i = 1, length do
          tasks[i] = async.create_task(function()
            local ok, e = pcall(async.await, tasks[i % length + 1])
            log[#log + 1] = ok and "ok" or e.name
            return i
          end)
        end
        async.wait(tasks)
        table.sort(log)
        assert.equal("RuntimeError", log[1])
        for i = 2, length do assert.equal("ok", log[i]) end
      end
    end)

    it("to close a cycle through gather", function()
      local a, b
      a = async.create_task(function() return async.gather { function() return async.sleep(0, 1) end, b } end)
      b = async.create_task(function() return async.gather { a, a } end)
      async.wait { a, b }
      local names = {}
      for _, task in ipairs { a, b } do names[#names + 1] = task:exception() and task:exception().name or "ok" end
      assert.truthy(names[1] == "RuntimeError" or names[2] == "RuntimeError")
    end)

    it("nothing that only looks like a cycle", function()
      -- a diamond: two wait for one that waits for another
      local f = async.Future()
      local base = async.create_task(async.await, f)
      local left, right = async.create_task(async.await, base), async.create_task(async.await, base)
      local top = async.create_task(function() return async.gather { left, right } end)
      turns(3)
      f:set_result("r")
      assert.same({ "r", "r", n = 2 }, (async.await(top)))
    end)
  end)
end)

describe("outside of a task", function()
  local function outside(register)
    local f = async.Future()
    local got = {}
    register(function()
      got[1] = thrown(function() async.await(f) end)
      got[2] = thrown(function() async.sleep(0) end)
      got[3] = thrown(async.sleep, 1)
      got[4] = thrown(async.await, function() end)
      got[5] = thrown(async.gather, { f })
      got[6] = thrown(async.wait, { f })
      got[7] = thrown(async.wait_for, f, 1)
      got[8] = async.current_task() == nil
    end)
    assert.is_true(helper.eventually(function() return #got == 8 end, 2))
    for i = 1, 7 do
      assert.equal("RuntimeError", got[i].name)
      assert.truthy(got[i].message:find("outside a task", 1, true))
    end
    assert.truthy(got[1].message:find("await", 1, true))
    assert.truthy(got[2].message:find("sleep", 1, true))
    assert.is_true(got[8])
    f:cancel()
    -- the task is whole
    assert.equal("whole", async.sleep(0, "whole"))
  end

  it("await is refused in call_soon", function()
    outside(function(fn) async.get_running_loop():call_soon(fn) end)
  end)
  it("await is refused in a timer", function()
    outside(function(fn) async.get_running_loop():call_later(0, fn) end)
  end)
  it("await is refused in a done callback", function()
    outside(function(fn)
      local f = async.Future()
      f:add_done_callback(fn)
      f:set_result()
    end)
  end)
  it("await is refused in an exception handler", function()
    local loop = async.get_running_loop()
    local before = loop:get_exception_handler()
    outside(function(fn)
      loop:set_exception_handler(fn)
      loop:call_soon(error)
    end)
    loop:set_exception_handler(before)
  end)
  it("await is refused without a loop", function()
    helper.plain [[
      for name, fn in pairs {
        await = function() async.await(function() end) end, sleep = function() async.sleep(0) end,
        gather = function() async.gather {} end,
      } do
        refuses("RuntimeError", {}, fn)
        refuses("RuntimeError", {}, coroutine.wrap(fn))
      end
    ]]
  end)
end)

describe("where Lua cannot yield", function()
  -- run(fn) calls fn in such a place and gives what fn returned.
  local function refused(place, run)
    local e = run(function() return thrown(async.sleep, 0) end)
    assert.equal("RuntimeError", e.name)
    if place then assert.truthy(e.message:find(place, 1, true), e.message) end
    e = run(function() return thrown(async.await, async.Future()) end)
    assert.equal("RuntimeError", e.name)
    e = run(function() return thrown(async.gather, { async.Future() }) end)
    assert.equal("RuntimeError", e.name)
    assert.equal("goes on", async.sleep(0, "goes on"))
  end

  it("a table.sort comparator", function()
    refused("sort", function(fn)
      local e
      table.sort({ 3, 1, 2 }, function(a, b)
        e = e or fn()
        return a < b
      end)
      return e
    end)
  end)

  it("a string.gsub callback", function()
    refused("gsub", function(fn)
      local e
      string.gsub("a", ".", function() e = fn() end)
      return e
    end)
  end)

  it("a finaliser", function()
    refused(nil, function(fn)
      local e
      setmetatable({}, { __gc = function() e = fn() end })
      collectgarbage()
      collectgarbage()
      return e
    end)
  end)

  it("a __tostring", function()
    refused("tostring", function(fn)
      local e
      tostring(setmetatable({}, { __tostring = function() e = fn() return "" end }))
      return e
    end)
  end)

  it("the reader of load", function()
    refused(nil, function(fn)
      local e
      load(function() e = e or fn() end)
      return e
    end)
  end)

  it("a message handler of xpcall", function()
    refused(nil, function(fn)
      local e
      xpcall(error, function() e = fn() end)
      return e
    end)
  end)

  it("a hook", function()
    refused(nil, function(fn)
      local e
      debug.sethook(function()
        debug.sethook()
        e = fn()
      end, "", 1)
      for _ = 1, 10 do end
      return e
    end)
  end)

  it("thrown out of it, it fails the C function, and only that", function()
    refuses("RuntimeError", "sort", table.sort, { 3, 1, 2 }, function() async.sleep(0) end)
    refuses("RuntimeError", "gsub", string.gsub, "abc", "%w", function() async.sleep(0.01) end)
    assert.equal("goes on", async.sleep(0.001, "goes on"))
  end)

  it("a coroutine of the stock table, whose caller would get our yield", function()
    helper.plain [[
      async.run(function()
        local stock = coroutine
        local e = stock.wrap(function() return thrown(async.sleep, 0.01) end)()
        eq("RuntimeError", e.name)
        assert(e.message:find("async.coroutine", 1, true), e.message)
        -- nested, in the one of ours, and the other way round
        e = stock.wrap(function() return stock.wrap(function() return thrown(async.sleep, 0) end)() end)()
        eq("RuntimeError", e.name)
        e = async.coroutine.wrap(function() return stock.wrap(function() return thrown(async.sleep, 0) end)() end)()
        eq("RuntimeError", e.name)
        e = stock.wrap(function() return async.coroutine.wrap(function() return thrown(async.sleep, 0) end)() end)()
        eq("RuntimeError", e.name)
        -- a generator in a for, closed half way, and the task goes on
        local seen = {}
        for v in stock.wrap(function()
          for i = 1, 3 do
            stock.yield(i)
            eq("RuntimeError", thrown(async.sleep, 0).name)
          end
        end) do
          seen[#seen + 1] = v
          if v == 2 then break end
        end
        eq("1 2", table.concat(seen, " "))
        eq("whole", async.sleep(0.001, "whole"))
      end)
    ]]
  end)
end)

describe("where Lua can yield", function()
  it("pcall, xpcall and their kin", function()
    assert.same({ true, "a" }, { pcall(async.sleep, 0, "a") })
    assert.same({ true, "b" }, { xpcall(async.sleep, print, 0, "b") })
    assert.same({ true, "c" }, { select(2, pcall(pcall, async.sleep, 0, "c")) })
    local ok, e = pcall(function()
      turns(1)
      error("text", 0)
    end)
    assert.is_false(ok)
    assert.equal("text", e)
  end)

  it("metamethods", function()
    local meta = {}
    for _, name in ipairs {
      "add", "sub", "mul", "div", "mod", "pow", "unm", "idiv", "band", "bor", "bxor", "shl", "shr", "bnot", "concat",
      "len", "index", "call",
    } do
      meta["__" .. name] = function() return async.sleep(0, name) end
    end
    for _, name in ipairs { "eq", "lt", "le" } do meta["__" .. name] = function() return async.sleep(0, true) end end
    local assigned
    meta.__newindex = function(_, k) assigned = async.sleep(0, k) end
    local v, w = setmetatable({}, meta), setmetatable({}, meta)
    assert.same({ "add", "sub", "mul", "div", "mod", "pow", "unm", "idiv" }, { v + 1, v - 1, v * 1, v / 1, v % 1,
      v ^ 1, -v, v // 1 })
    assert.same({ "band", "bor", "bxor", "shl", "shr", "bnot" }, { v & 1, v | 1, v ~ 1, v << 1, v >> 1, ~v })
    assert.same({ "concat", "len", "index", "call" }, { v .. "x", #v, v.field, v() })
    assert.same({ true, true, true }, { v == w, v < w, v <= w })
    v.key = 1
    assert.equal("key", assigned)
  end)

  it("iterators, loaded chunks, closers", function()
    local seen = {}
    for i in function(_, i) return async.sleep(0, i < 3 and i + 1 or nil) end, nil, 0 do seen[#seen + 1] = i end
    assert.same({ 1, 2, 3 }, seen)
    assert.equal("loaded", load("local a = ... return a.sleep(0, 'loaded')")(async))
    local closed = {}
    local function body(how)
      local _ <close> = setmetatable({}, { __close = function(_, e) closed[#closed + 1] = async.sleep(0,
        e or how) end })
      if how == "error" then error("thrown", 0) end
      return how, "kept"
    end
    assert.same({ "return", "kept" }, { body("return") })
    assert.equal("thrown", thrown(body, "error"))
    for _ = 1, 1 do
      local _ <close> = setmetatable({}, { __close = function() closed[#closed + 1] = async.sleep(0, "break") end })
      break
    end
    assert.same({ "return", "thrown", "break" }, closed)
  end)

  it("coroutines of async.coroutine", function()
    local co = async.coroutine
    local gen = co.wrap(function()
      for i = 1, 3 do
        async.sleep(0.001)
        co.yield(i)
      end
    end)
    assert.same({ 1, 2, 3 }, { gen(), gen(), gen() })
  end)
end)

describe("a bare yield", function()
  local yield = async.coroutine.yield

  it("gives way", function()
    local ran = false
    async.get_running_loop():call_soon(function() ran = true end)
    assert.equal(0, select("#", yield()))
    assert.is_true(ran)
  end)

  it("of a future awaits it", function()
    local f = async.Future()
    async.get_running_loop():call_soon(f.set_result, f, 1, nil, 3)
    assert.equal(3, select("#", yield(f)))
    assert.equal(3, select("#", yield(f)))
    local e = {}
    assert.equal(e, thrown(yield, async.create_task(error, e)))
  end)

  it("of anything else is an error there", function()
    for _, bad in ipairs { 42, "text", {}, print, false, true } do refuses("RuntimeError", {}, yield, bad) end
    refuses("RuntimeError", {}, yield, nil)
    refuses("RuntimeError", {}, yield, async.Future(), 2)
    refuses("RuntimeError", {}, yield, async.current_task())
    assert.equal("goes on", async.sleep(0, "goes on"))
  end)

  it("of the stock table is as good", function()
    helper.plain [[
      async.run(function()
        local yield = coroutine.yield
        local loop = async.get_running_loop()
        local ran = false
        loop:call_soon(function() ran = true end)
        eq(0, select("#", yield()))
        eq(true, ran)
        -- a future: pending, done, failed, cancelled
        local f = async.Future()
        loop:call_soon(function() f:set_result(1, nil, 3) end)
        eq(3, select("#", yield(f)))
        eq(3, select("#", yield(f)))
        local e = {}
        eq(e, thrown(function() yield(async.create_task(function() error(e) end)) end))
        local bad = async.Future()
        bad:set_exception("set")
        eq("set", thrown(function() yield(bad) end))
        local gone = async.Future()
        gone:cancel("why")
        eq("why", thrown(function() yield(gone) end).message)
        -- anything else: an error in the function that called it
        for _, v in ipairs { 42, "text", {}, false, print } do
          refuses("RuntimeError", {}, function() yield(v) end)
        end
        refuses("RuntimeError", {}, function() yield(nil, nil) end)
        refuses("RuntimeError", {}, function() yield(async.current_task()) end)
        local other = async.new_event_loop()
        local foreign = other:create_future()
        refuses("RuntimeError", {}, function() yield(foreign) end)
        other:close()
        -- a cancellation arrives there
        local t = async.create_task(function()
          local ok, err = pcall(function() while true do yield() end end)
          return ok, err.name, err.message
        end)
        turns(3)
        t:cancel("stop")
        local ok, name, message = async.await(t)
        eq(false, ok) eq("CancelledError", name) eq("stop", message)
        local waits = async.create_task(function() yield(async.Future()) end)
        turns(2)
        waits:cancel("this")
        eq("CancelledError: this", tostring(thrown(async.await, waits)))
        -- what another one waits for, too, is spared
        local shared = async.Future()
        waits = async.create_task(function() yield(shared) end)
        local reader = async.create_task(function() return yield(shared) end)
        turns(2)
        waits:cancel("that")
        eq("CancelledError: that", tostring(thrown(async.await, waits)))
        shared:set_result("kept")
        eq("kept", async.await(reader))
        eq("whole", async.sleep(0.001, "whole"))
      end)
    ]]
  end)
end)
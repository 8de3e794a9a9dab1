-- What goes wrong in a task: recursion, memory, errors with frames. Each ends as an error in the right place.
local async = require "lunation"
local helper = require "spec.helper"

local thrown, turns = helper.thrown, helper.turns
local unpack = table.unpack

describe("what goes wrong in a task", function()
  it("endless recursion is an error at its await", function()
    local function deep(n) return 1 + deep(n + 1) end
    local task = async.create_task(deep, 1)
    local e = thrown(async.await, task)
    assert.truthy(tostring(e):find("stack overflow", 1, true))
    assert.equal("works", async.await(async.create_task(function() return "works" end)))
    -- after a suspension, and through pcall
    task = async.create_task(function()
      turns(1)
      local ok, err = pcall(deep, 1)
      turns(1)
      return ok, err
    end)
    local ok, err = async.await(task)
    assert.is_false(ok)
    assert.truthy(tostring(err):find("stack overflow", 1, true))
  end)

  it("endless recursion in C functions and metamethods, too", function()
    local meta = {}
    meta.__index = function(t, k) return t[k .. "x"] end
    local function sub() return (string.gsub("a", "a", sub)) end
    local function sorted() table.sort({ 1, 2 }, sorted) end
    local function protected() return pcall(protected) end
    for _, fn in ipairs { function() return setmetatable({}, meta).a end, sub, sorted } do
      assert.truthy(tostring(thrown(async.await, async.create_task(fn))):find("overflow", 1, true))
    end
    -- pcall in pcall catches the overflow itself
    async.await(async.create_task(protected))
    -- awaiting functions in place, one in the other
    local function nested() return async.await(nested) end
    assert.truthy(tostring(thrown(async.await, async.create_task(nested))):find("overflow", 1, true))
    assert.equal("works", async.await(async.create_task(function() return "works" end)))
  end)

  it("a huge allocation is an error at its await", function()
    -- The sanitizer remarks on it, so stderr is not looked at.
    local stdout, stderr, code = helper.execute([[
      async.run(function()
        local task = async.create_task(function() return io.open("/dev/null"):read(1 << 50) end)
        local e = thrown(async.await, task)
        assert(tostring(e):find("not enough memory", 1, true), tostring(e))
        eq(false, task:cancelled())
        eq(e, task:exception())
        eq("works", async.await(async.create_task(function() return "works" end)))
      end)
    ]], { env = { ASAN_OPTIONS = "detect_leaks=1:allocator_may_return_null=1" } })
    assert.equal("", stdout)
    assert.equal(0, code, stderr)
  end)

  it("no memory is left: the task that needs it fails, the others go on", function()
    -- A sanitizer reserves more address space than any limit allows.
    if (os.getenv("LUNATION_LUA") or ""):find("asan", 1, true) then return end
    local stdout, stderr, code = helper.execute([[
      local done = 0
      async.run(function()
        local others = {}
        for i = 1, 20 do
          others[i] = async.create_task(function()
            for _ = 1, 10 do async.sleep(0.001) end
            done = done + 1
          end)
        end
        for _ = 1, 3 do
          local task = async.create_task(function()
            local list = {}
            for i = 1, math.huge do
              list[i] = ("x"):rep(100000) .. i
              if i % 50 == 0 then async.sleep(0) end
            end
          end)
          local e = thrown(async.await, task)
          eq("not enough memory", e)
          eq("not enough memory", task:exception())
          collectgarbage()
        end
        async.wait(others)
      end)
      eq(20, done)
    ]], { prefix = { "sh", "-c", "ulimit -v 60000; exec \"$@\"", "sh" } })
    assert.equal("", stderr)
    assert.equal("", stdout)
    assert.equal(0, code)
  end)

  it("memory that fails while tasks are made, run and ended is an error in the right place", function()
    if (os.getenv("LUNATION_LUA") or ""):find("asan", 1, true) then return end
    local _, stderr, code = helper.execute([[
      local ok, e = pcall(async.run, function()
        local tasks = {}
        for i = 1, math.huge do
          tasks[i] = async.create_task(function(x)
            local s = ("x"):rep(20000) .. x
            async.sleep(60)
            return s
          end, i)
          if i % 100 == 0 then async.sleep(0) end
        end
      end)
      eq(false, ok)
      eq("not enough memory", e)
      collectgarbage()
      eq("a second run", async.run(function() return async.sleep(0.001, "a second run") end))
    ]], { prefix = { "sh", "-c", "ulimit -v 50000; exec \"$@\"", "sh" }, limit = 30 * helper.slow })
    -- What could not even be reported is said on stderr, and nothing is a crash.
    for text in stderr:gmatch("[^\n]+") do assert.is_nil(text:find("invariant", 1, true), stderr) end
    assert.equal(0, code, stderr)
  end)

  it("its coroutine serves the next one clean", function()
    local hook = debug.gethook() -- none, but of the chaos build
    local function check()
      local task = async.create_task(function(...)
        assert.equal(0, select("#", ...))
        assert.equal(hook, (debug.gethook()))
        assert.is_nil(debug.traceback():find("leftover", 1, true))
        turns(1)
        return "clean"
      end)
      assert.equal("clean", async.await(task))
    end
    local function leftover(n) return n > 0 and leftover(n - 1) + 1 or 0 end
    for _, fn in ipairs {
      function() error("fails") end,
      function() turns(3) end,
      function() debug.sethook(function() end, "crl", 1000) end,
      function() turns(1) debug.sethook(function() end, "", 1000000) error("fails with a hook") end,
      function() return leftover(20000) end,
      function() pcall(leftover, math.huge) return 1 end,
      function() async.coroutine.wrap(function() async.coroutine.yield(1) end)() end,
      function() return unpack({}, 1, 5000) end,
    } do
      for _ = 1, 3 do
        pcall(async.await, async.create_task(fn))
        check()
      end
    end
  end)

  it("one failing with frames and open upvalues leaves them as they were", function()
    local probes = {}
    local function dive(n)
      local value = n
      probes[n] = function() return value end
      if n == 10 then error("bottom", 0) end
      dive(n + 1)
      return value
    end
    assert.equal("bottom", thrown(async.await, async.create_task(dive, 1)))
    collectgarbage()
    for i = 1, 10 do assert.equal(i, probes[i]()) end
  end)

  it("equal texts thrown by one task after the other are no chain of awaits", function()
    local function fails() error("the same text", 0) end
    local last
    for _ = 1, 5 do
      last = async.create_task(fails)
      assert.equal("the same text", thrown(async.await, last))
    end
    assert.is_nil(last:traceback():find("awaited by", 1, true))
  end)
end)

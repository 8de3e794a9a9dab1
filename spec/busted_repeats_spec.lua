-- `lunation test` runs tests again: in other orders of their tasks, and in sweeps.
local scratch = require "spec.support.scratch"
local test, replayed = scratch.test, scratch.replayed
local contains, lacks, setup_dir = scratch.contains, scratch.lacks, scratch.setup_dir

describe("orders of tasks", function()
  setup_dir()

  local racy = [[
    it("depends on the order", function()
      local list = {}
      for i = 1, 3 do async.create_task(function() list[#list + 1] = i end) end
      async.sleep(0)
      async.sleep(0)
      assert.same({ 1, 2, 3 }, list)
    end)
    it("does not", function() async.sleep(0) end)]]

  it("follow --seed, the same each time, and failures tell how to replay them", function()
    local failed
    for seed = 1, 20 do
      local stdout, _, code = test(racy, "--seed " .. seed)
      local same = test(racy, "--seed=" .. seed)
      assert.equal((stdout:gsub("0x%x+", "?")), (same:gsub("0x%x+", "?")))
      if code ~= 0 then
        failed = stdout
        contains(stdout, "# seed: " .. seed .. "\n", "ok 2 - does not")
        break
      end
    end
    assert.truthy(failed)
    local again = replayed(failed)
    contains(again, "Expected objects to be the same")
    lacks(again, "does not")
  end)

  it("are tried one after the other with --shuffle-tasks", function()
    local stdout, _, code = test(racy, "--shuffle-tasks 30 --seed=5")
    contains(stdout, "not ok 1 - depends on the order", "ok 2 - does not", " of 30)", "of 2 tests, 1 failures, seed 5")
    assert.equal(1, code)
    local again, _, status = replayed(stdout)
    contains(again, "Expected objects to be the same")
    assert.equal(1, status)
  end)

  it("have before_each and after_each around each run", function()
    local stdout = test([[
      local n, m = 0, 0
      before_each(function() n = n + 1 end)
      after_each(function() m = m + 1 end)
      it("counts", function() assert.equal(n, m + 1) end)
      teardown(function() print("# " .. n .. " " .. m) end)]], "--shuffle-tasks=7")
    contains(stdout, "ok 1 - counts\n# 7 7\n", "shuffle: 7 runs of 1 tests, 0 failures, seed ")
  end)
end)

describe("a sweep", function()
  setup_dir()

  local code = [[
    local lock = async.Lock()
    local function careful()
      local _ <close> = lock:guard()
      async.sleep(1)
    end
    local function careless()
      local t = async.create_task(function() async.sleep(2) end)
      async.sleep(1)
      async.await(t)
    end
  ]]

  it("runs a test again for each of its points", function()
    local stdout, _, status = test(code .. [[
      local runs = 0
      it("is careful", function() runs = runs + 1 careful() careful() async.sleep(0) end)
      teardown(function() print("# runs: " .. runs) end)]], "--virtual-time --sweep=cancel --sweep=throw --seed=1")
    contains(stdout, "ok 1 - is careful\n# runs: 8\n",
      "sweep (cancel): 3 points in 1 tests, 0 failures, 0 tests passed over, seed 1\n",
      "sweep (throw): 3 points in 1 tests, 0 failures, 0 tests passed over, seed 1\n")
    assert.equal(0, status)
  end)

  it("names the point, what was wrong and the replay, which fails, too", function()
    for _, mode in ipairs { "cancel", "throw" } do
      local stdout, _, status = test(code .. "it('is careless', function() careless() end)",
        "--virtual-time --sweep=" .. mode)
      contains(stdout, "not ok 1 - is careless", "sweep (" .. mode .. "): 1 of ", "point 1 at x_spec.lua:9",
        "left behind:", "made at x_spec.lua:8",
        "replay: lunation test --virtual-time --sweep=" .. mode .. " --sweep-point=1 '--filter=^is careless$' x_spec.lua",
        "1 failures, 0 tests passed over, seed none")
      assert.equal(1, status)
      local again, _, code_again = replayed(stdout)
      contains(again, "point 1 at x_spec.lua:9", "sweep (" .. mode .. "): 1 points in 1 tests, 1 failures")
      assert.equal(1, code_again)
    end
  end)

  it("passes over what has failed and what says #nosweep", function()
    local stdout = test([[
      it("fails", function() async.sleep(0) error("no") end)
      describe("apart #nosweep", function() it("is not swept", function() async.sleep(0) end) end)
      it("waits for nothing", function() end)
      pending("later")]], "--sweep=cancel")
    contains(stdout, "sweep (cancel): 0 points in 1 tests, 0 failures, 2 tests passed over, seed none\n")
  end)

  it("finds swallowed cancels, hangs, cleanup that fails and closables left open", function()
    local stdout = test([[
      it("swallows", function() async.await(async.create_task(function() pcall(async.sleep, 1) end)) end)
      it("hangs", function()
        local event = async.Event()
        async.create_task(function() async.sleep(1) event:set() end)
        event:wait()
      end)
      after_each(function() if _G.open then _G.open = nil error("still open", 0) end end)
      it("is not undone", function() _G.open = true async.sleep(1) _G.open = nil end)
      it("fails in its cleanup", function()
        local _ <close> = async.defer(function(e) if e then error("cannot undo") end end)
        async.sleep(1)
      end)
      local lock = async.Lock()
      it("keeps a lock", function() lock:acquire() async.sleep(1) lock:release() end)]], "--virtual-time --sweep=cancel")
    contains(stdout, "the cancel was swallowed by Task-", "nothing is left to wait for", "after_each failed: ",
      "still open", "the cancel became another error: x_spec.lua:11: cannot undo", "a lock or permit was not given back")
    for i = 1, 5 do contains(stdout, "not ok " .. i .. " - ") end
  end)

  it("looks at the code under test alone with --sweep-scope=code", function()
    local text = code .. [[
      it("owns its tasks", function()
        local t = async.create_task(function() async.sleep(2) end)
        async.sleep(1)
        async.await(t)
      end)
      it("calls what does not", function() careless() end)]]
    local stdout = test(text, "--virtual-time --sweep=cancel --sweep-scope=code")
    contains(stdout, "ok 1 - owns its tasks", "not ok 2 - calls what does not")
    stdout = test(text, "--virtual-time --sweep=cancel")
    contains(stdout, "not ok 1 - owns its tasks", "not ok 2 - calls what does not")
  end)
end)

describe("what a cut test reports", function()
  setup_dir()

  it("is under --debug not that its own task swallowed the cancel, which is busted's doing", function()
    local stdout = scratch.lunation([[
      it("is sound", function() async.sleep(1) async.sleep(1) end)
      it("has a task that swallows", function()
        async.await(async.create_task(function() pcall(async.sleep, 1) end))
      end)]], "--debug test -o TAP --virtual-time --sweep=cancel x_spec.lua")
    contains(stdout, "ok 1 - is sound", "not ok 2 - has a task", "Cancellation was swallowed")
    lacks(stdout, "not ok 1")
  end)

  it("is forgiven with --sweep-scope=run if it was left open and collected", function()
    local text = [[
      it("drops a server", function()
        local server = async.net.listen("127.0.0.1", 0)
        async.sleep(1)
        server:close()
        server = nil
        async.sleep(1)
      end)
      after_each(function() collectgarbage() collectgarbage() end)]]
    contains((test(text, "--virtual-time --sweep=cancel")), "not ok 1 - drops", "Handle was never closed")
    lacks((test(text, "--virtual-time --sweep=cancel --sweep-scope=run")), "not ok 1")
  end)
end)

describe("a long sweep", function()
  setup_dir()

  it("takes some points of each test with --sweep-max", function()
    local stdout = test([[
      local n = 0
      it("is long", function() n = n + 1 for _ = 1, 100 do async.sleep(1) end end)
      it("is short", function() async.sleep(1) end)
      teardown(function() print("# runs: " .. n) end)]], "--virtual-time --sweep=cancel --sweep-max=7")
    contains(stdout, "# runs: 8\n",
      "sweep (cancel): 8 points in 2 tests, 0 failures, 0 tests passed over, seed none; 93 points left out\n")
  end)

  it("forgives with --sweep-scope=run what ends when it is asked to, and nothing else", function()
    local stdout = test([[
      it("hangs without its task", function()
        local event = async.Event()
        async.create_task(function() async.sleep(1) event:set() end)
        event:wait()
      end)
      it("has a task that does not end", function()
        local deaf = true
        async.create_task(function() while deaf do pcall(async.sleep, 0.001) end end)
        async.sleep(1)
        deaf = false
        async.sleep(0.01)
      end)]], "--virtual-time --sweep=cancel --sweep-scope=run --sweep-max=3")
    contains(stdout, "ok 1 - hangs", "not ok 2 - has a task", "not ended by a cancel:")
  end)
end)

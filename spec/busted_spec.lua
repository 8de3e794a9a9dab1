-- `lunation test`: its own options and what they refuse, limits, replays, the ways in which a run ends early, and the
-- helper `lunation.busted`. That it prints what plain busted prints is suites_spec's, that it finds planted faults
-- planted_spec's.
local command = require "spec.support.command"
local helper = require "spec.helper"

local dir

-- Runs `lunation WORDS` in a folder of its own that holds `text` as the file x_spec.lua -> stdout, stderr, exit code.
local function lunation(text, words, more)
  command.write_file(dir .. "/x_spec.lua", 'local async = require "lunation"\n' .. text)
  local spec = { "env", "-C", dir, command.lunation, limit = 30 * math.max(1, helper.slow // 2) }
  for word in words:gmatch("%S+") do spec[#spec + 1] = word end
  for name, value in pairs(more or {}) do spec[name] = value end
  return command.run(spec)
end

local function test(text, words, more) return lunation(text, "test -o TAP " .. (words or "") .. " x_spec.lua", more) end

local function contains(text, ...)
  for _, part in ipairs { ... } do
    if not text:find(part, 1, true) then error(("%q is missing in\n%s"):format(part, text), 2) end
  end
end

local function lacks(text, ...)
  for _, part in ipairs { ... } do
    if text:find(part, 1, true) then error(("%q is in\n%s"):format(part, text), 2) end
  end
end

-- The limits are in real seconds, so slow builds get more of them.
local function seconds(n) return "--timeout=" .. n * helper.slow end

-- Runs what a failure says will replay it.
local function replayed(stdout)
  local line = stdout:match("replay: lunation ([^\n]*)")
  assert.truthy(line, stdout)
  local spec = { "sh", "-c", "cd " .. command.quote(dir) .. " && exec " .. command.quote(command.lunation) .. " " .. line,
    limit = 60 }
  return command.run(spec)
end

local function setup_dir()
  setup(function() dir = command.temp_dir() end)
  teardown(function() command.remove_dir(dir) end)
end

describe("lunation test", function()
  setup_dir()

  it("is not taken for a script, and a script of that name is run by its path", function()
    command.write_file(dir .. "/test", "print('the script')")
    local stdout = lunation("", "./test")
    assert.equal("the script\n", stdout)
    stdout = lunation("it('awaits', function() async.sleep(0.001) end)", "test -o TAP x_spec.lua")
    assert.equal("ok 1 - awaits\n1..1\n", stdout)
    os.remove(dir .. "/test")
  end)

  it("takes the options of the command before it", function()
    local stdout, _, code = lunation("it('sleeps', function() async.sleep(3600) end)",
      "--virtual-time test -o TAP x_spec.lua")
    assert.equal("ok 1 - sleeps\n1..1\n", stdout)
    assert.equal(0, code)
    stdout = lunation("it('fails', function() error('no', 0) end)", "--seed 11 test -o TAP x_spec.lua")
    contains(stdout, "# seed: 11\n", "# replay: lunation test --seed=11 '--filter=^fails$' x_spec.lua\n")
  end)

  it("shows its options, then busted's", function()
    local stdout, stderr, code = lunation("", "test --help")
    assert.equal(0, code)
    assert.equal("", stderr)
    local ours, theirs = stdout:find("--sweep=MODE", 1, true), stdout:find("--exclude-pattern=PATTERN", 1, true)
    assert.is_true(ours < theirs)
    lacks(stdout, "re-run with --help", "busted: error")
  end)

  it("refuses bad values of its options", function()
    for words, text in pairs {
      ["--seed=x"] = "'--seed' needs an integer, got 'x'",
      ["--seed=1.5"] = "'--seed' needs an integer, got '1.5'",
      ["x_spec.lua --seed"] = "'--seed' needs an integer",
      ["--timeout=-1"] = "'--timeout' needs a number of seconds, 0 or more, got '-1'",
      ["--timeout=nan"] = "'--timeout' needs a number of seconds",
      ["--timeout soon"] = "'--timeout' needs a number of seconds, 0 or more, got 'soon'",
      ["--shuffle-tasks=0"] = "'--shuffle-tasks' needs an integer of 1 or more, got '0'",
      ["--sweep=both"] = "'--sweep' needs 'cancel' or 'throw', got 'both'",
      ["--sweep-point=3"] = "'--sweep-point' needs one '--sweep=cancel' or '--sweep=throw'",
      ["--sweep=cancel --sweep=throw --sweep-point=3"] = "'--sweep-point' needs one",
      ["--sweep=cancel --sweep-point=0"] = "'--sweep-point' needs an integer of 1 or more",
      ["--sweep-max=few"] = "'--sweep-max' needs an integer of 1 or more, got 'few'",
      ["--sweep-scope=none"] = "'--sweep-scope' needs 'code' or 'run', got 'none'",
    } do
      local stdout, stderr, code = lunation("it('is', function() end)", "test " .. words)
      assert.equal("", stdout)
      contains(stderr, "lunation: " .. text)
      assert.equal(1, code)
    end
  end)

  it("leaves busted its own bad options, and the values of its own that look like ours", function()
    local _, stderr, code = lunation("", "test --no-such-option")
    contains(stderr, "busted: error: unknown/bad flag: --no-such-option")
    assert.equal(1, code)
    local stdout = lunation("it('--timeout', function() end) it('other', function() end)",
      "test -o TAP --filter --timeout x_spec.lua")
    assert.equal("ok 1 - --timeout\n1..1\n", stdout)
  end)

  it("says what is missing if busted is not there", function()
    local _, stderr, code = lunation("", "test", { env = { LUA_PATH = "./nowhere/?.lua" } })
    assert.equal("lunation: busted is not installed: package lua-busted, or luarocks install busted\n", stderr)
    assert.equal(1, code)
  end)

  it("does not follow a lua = ... of .busted", function()
    command.write_file(dir .. "/.busted", "return { _all = { lua = 'false' } }")
    local stdout, _, code = test("it('runs', function() end) it('sees arg', function() print(#arg, arg[1]) end)")
    os.remove(dir .. "/.busted")
    assert.equal("ok 1 - runs\n3\t-o\nok 2 - sees arg\n1..2\n", stdout)
    assert.equal(0, code)
  end)
end)

describe("a block", function()
  setup_dir()

  it("of every kind may await, each in a task of its own", function()
    local stdout, stderr = test([[
      local seen = {}
      local function visit(name)
        async.sleep(0.001)
        local task = async.current_task()
        assert(not seen[task])
        seen[task] = name
      end
      visit "file"
      setup(function() visit "setup" end)
      lazy_setup(function() visit "lazy_setup" end)
      describe("d", function()
        visit "describe"
        strict_setup(function() visit "strict_setup" end)
        before_each(function() visit "before_each" end)
        after_each(function() visit "after_each" end)
        it("i", function() finally(function() visit "finally" end) visit "it" end)
        lazy_teardown(function() visit "lazy_teardown" end)
      end)
      teardown(function()
        visit "teardown"
        local names = {}
        for _, name in pairs(seen) do names[#names + 1] = name end
        table.sort(names)
        print(table.concat(names, " "))
      end)]])
    assert.equal("ok 1 - d i\nafter_each before_each describe file finally it lazy_setup lazy_teardown setup " ..
      "strict_setup teardown\n1..1\n", stdout)
    assert.equal("", stderr)
  end)

  it("that fails does so with busted's words, also for odd errors", function()
    local stdout = test([[
      it("nil", function() async.sleep(0) error() end)
      it("table", function() async.sleep(0) error({ 1 }) end)
      it("of C", error)
      it("assertion", function() async.sleep(0) assert.equal(1, 2) end)
      it("pending inside", function() async.sleep(0) pending("later") end)]])
    contains(stdout, "not ok 1 - nil", "x_spec.lua:2: Nil error", "x_spec.lua:3: {\n#   1\n# }",
      "not ok 3 - of C", "x_spec.lua:5: Expected objects to be equal", "ok 5 - # SKIP x_spec.lua:6: later")
  end)

  it("of every kind has a time limit, and the run goes on", function()
    local cases = {
      { "it('hangs', function() async.Event():wait() end)", "not ok 1 - hangs" },
      { "describe('d', function() before_each(function() async.Event():wait() end) it('is', function() end) end)",
        "not ok 1 - d before_each" },
      { "describe('d', function() it('is', function() end) after_each(function() async.Event():wait() end) end)",
        "ok 1 - d is\nnot ok 2 - d after_each" },
      { "describe('d', function() async.Event():wait() end)", "not ok 1 - d" },
      { "describe('d', function() setup(function() async.Event():wait() end) it('is', function() end) end)", "not ok 1 - d" },
      { "it('is', function() finally(function() async.Event():wait() end) end)", "not ok 1 - is" },
    }
    for _, case in ipairs(cases) do
      local stdout, stderr, code = test(case[1] .. " describe('then', function() it('next', function() end) end)",
        "--virtual-time", {})
      contains(stdout .. stderr, case[2], "nothing is left to wait for. What waits:", "in method 'wait'",
        "x_spec.lua:2: in ", "- then next")
      assert.equal(1, code)
    end
    local stdout, _, code = test("it('hangs', function() async.sleep(60) end) it('next', function() end)", seconds(0.2))
    contains(stdout, "the time limit of ", "What waits:", "sleeping, ", "ok 2 - next")
    lacks(stdout, "busted/core.lua", "lunation.busted")
    assert.equal(1, code)
  end)

  it("that comes to its limit is cancelled, cleans up, and is closed by force if it refuses", function()
    local stdout = test([[
      it("cleans up", function()
        local _ <close> = async.defer(function() async.sleep(0.01) print("# cleaned up") end)
        async.sleep(60)
      end)
      it("refuses", function()
        local _ <close> = async.defer(function() print("# closed by force") end)
        while true do pcall(async.sleep, 60) end
      end)
      it("returns all the same", function() pcall(async.sleep, 60) end)
      it("is next", function() end)]], seconds(0.2))
    contains(stdout, "# cleaned up\nnot ok 1 - cleans up", "# closed by force\nnot ok 2 - refuses",
      "not ok 3 - returns all the same", "ok 4 - is next")
  end)

  it("that is busy is ended, too", function()
    local stdout = test("it('spins', function() while true do end end) it('next', function() end)", seconds(0.2))
    contains(stdout, "not ok 1 - spins", "x_spec.lua:2: TimeoutError: the time limit of", "ok 2 - next")
  end)

  it("has no limit with --timeout=0", function()
    local stdout = test("it('takes its time', function() async.sleep(10) end)", "--virtual-time --timeout=0")
    assert.equal("ok 1 - takes its time\n1..1\n", stdout)
  end)
end)

describe("what is left behind", function()
  setup_dir()

  it("by before_each and ended by after_each is nobody's fault, nor what setup and lazy_setup made", function()
    local stdout, stderr, code = test([[
      local once, lazy, each
      describe("d", function()
        local function worker() async.sleep(60) end
        setup(function() once = async.create_task(worker) end)
        lazy_setup(function() lazy = async.net.listen("127.0.0.1", 0) end)
        before_each(function() each = async.create_task(worker) end)
        it("one", function() async.sleep(0.001) end)
        it("two", function() assert.is_false(once:done()) end)
        after_each(function() each:cancel() end)
        lazy_teardown(function() lazy:close() end)
        teardown(function() once:cancel() end)
      end)]])
    assert.equal("ok 1 - d one\nok 2 - d two\n1..2\n", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)

  it("is blamed on the block that made it, and does not reach the next", function()
    local stdout, _, code = test([[
      local task
      it("one", function() task = async.create_task(function() async.sleep(60) end) end)
      it("two", function() assert.is_true(task:cancelled()) end)
      describe("d", function()
        setup(function() async.get_running_loop():call_later(60, print) end)
        it("three", function() end)
        after_each(function() async.net.listen("127.0.0.1", 0) end)
      end)]])
    contains(stdout, "not ok 1 - one", "left behind:", "made at x_spec.lua:3", "ok 2 - two", "ok 3 - d three",
      "made at x_spec.lua:8", "timer <Handle timer print>, made at x_spec.lua:6")
    assert.equal(1, code)
  end)

  it("is no news of a test that has failed already", function()
    local stdout = test([[
      it("fails", function() async.create_task(async.sleep, 60) error("by itself", 0) end)
      it("next", function() assert.equal(2, #async.all_tasks()) end)]])
    contains(stdout, "by itself", "ok 2 - next")
    lacks(stdout, "left behind")
  end)

  it("goes to the handler that the test has set", function()
    local stdout = test([[
      it("handles", function()
        local got
        async.get_running_loop():set_exception_handler(function(_, context) got = context.exception end)
        async.get_running_loop():call_soon(error, "mine")
        async.sleep(0)
        async.sleep(0)
        assert.equal("mine", got)
      end)
      it("does not", function() async.get_running_loop():call_soon(error, "ours") async.sleep(0.001) end)]])
    contains(stdout, "ok 1 - handles", "not ok 2 - does not", "Exception in callback", "ours")
    lacks(stdout, "mine")
  end)
end)

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

describe("a run that ends early", function()
  setup_dir()

  it("by os.exit unwinds the test and tells nothing more", function()
    local stdout, stderr, code = test([[
      it("one", function() async.sleep(0) end)
      it("exits", function()
        local _ <close> = async.defer(function() print("# closed") end)
        async.sleep(0)
        os.exit(7)
      end)
      it("never runs", function() print("# no") end)]])
    assert.equal("ok 1 - one\n# closed\n", stdout)
    assert.equal("", stderr)
    assert.equal(7, code)
  end)

  it("is not what os.exit with bad arguments is", function()
    local stdout, _, code = test([[
      it("throws", function() assert.has_error(function() os.exit({}) end) end)
      it("next", function() async.sleep(0) end)]])
    assert.equal("ok 1 - throws\nok 2 - next\n1..2\n", stdout)
    assert.equal(0, code)
  end)

  it("by Ctrl-C cleans up, prints what busted prints and dies of the signal", function()
    local mark = dir .. "/there"
    local stdout, stderr, code = test(([[
      it("one", function() end)
      it("long", function()
        local _ <close> = async.defer(function() async.sleep(0.01) print("# closed") end)
        io.open(%q, "w"):close()
        async.sleep(60)
      end)
      after_each(function() async.sleep(0) print("# after") end)
      it("never runs", function() print("# no") end)]]):format(mark), "--timeout=0", { interrupt = mark })
    contains(stdout, "ok 1 - one", "# closed", "not ok 2 - long", "interrupted", "# after", "1..2\n")
    lacks(stdout, "# no")
    assert.equal("lunation: interrupted\n", stderr)
    assert.equal(130, code)
  end)

  it("is not what a test does that cancels every task it can find", function()
    local stdout, _, code = test([[
      it("cancels all", function()
        for _, task in ipairs(async.all_tasks()) do
          if task ~= async.current_task() then task:cancel() end
        end
        async.sleep(0.001)
      end)
      it("next", function() async.sleep(0.001) end)]])
    assert.equal("ok 1 - cancels all\nok 2 - next\n1..2\n", stdout)
    assert.equal(0, code)
  end)
end)

describe("the helper lunation.busted", function()
  setup_dir()

  local text = [[
    it("awaits", function() async.sleep(3600) end)
    it("leaks", function() async.create_task(async.sleep, 60) end)]]

  local function busted(program, words, env)
    command.write_file(dir .. "/x_spec.lua", 'local async = require "lunation"\n' .. text)
    local spec = { "env", "-C", dir, limit = 60, env = env }
    for _, list in ipairs { program, words } do
      for _, word in ipairs(list) do spec[#spec + 1] = word end
    end
    return command.run(spec)
  end

  it("works through .busted, with options by -Xhelper", function()
    command.write_file(dir .. "/.busted",
      ("return { _all = { lua = %q, helper = 'lunation.busted' } }"):format(command.lunation))
    local stdout, _, code = busted({ "busted" }, { "-o", "TAP", "-Xhelper", "virtual-time,seed=3", "x_spec.lua" })
    contains(stdout, "ok 1 - awaits", "not ok 2 - leaks", "made at x_spec.lua:3", "# seed: 3")
    assert.equal(1, code)
    -- Under `lunation test` it is at work already.
    stdout = busted({ command.lunation, "test" }, { "--virtual-time", "-o", "TAP", "x_spec.lua" })
    contains(stdout, "ok 1 - awaits", "not ok 2 - leaks")
    lacks(stdout, "seed")
    os.remove(dir .. "/.busted")
  end)

  it("refuses bad options", function()
    local _, stderr, code = busted({ command.lunation, "/usr/bin/busted" },
      { "--helper=lunation.busted", "-Xhelper", "timeout=soon", "x_spec.lua" })
    contains(stderr, "lunation.busted: '--timeout' needs a number of seconds, 0 or more, got 'soon'")
    assert.equal(1, code)
  end)

  it("works under the stock interpreter, too, where the module is loaded first", function()
    local program = { table.unpack(command.stock) }
    for _, word in ipairs { "-l", "lunation", "/usr/bin/busted" } do program[#program + 1] = word end
    local stdout, _, code = busted(program,
      { "--helper=lunation.busted", "-Xhelper", "virtual-time", "-o", "TAP", "x_spec.lua" },
      { LUA_CPATH = command.module .. "/?.so;;" })
    contains(stdout, "ok 1 - awaits", "not ok 2 - leaks", "made at x_spec.lua:3")
    assert.equal(1, code)
  end)
end)

-- `lunation test`: its own options and what they refuse, limits, replays, the ways in which a run ends early, and the
-- helper `lunation.busted`. That it prints what plain busted prints is suites_spec's, that it finds planted faults
-- planted_spec's.
local command = require "spec.support.command"
local scratch = require "spec.support.scratch"
local lunation, test = scratch.lunation, scratch.test
local contains, lacks, seconds, setup_dir = scratch.contains, scratch.lacks, scratch.seconds, scratch.setup_dir

describe("lunation test", function()
  setup_dir()

  it("is not taken for a script, and a script of that name is run by its path", function()
    command.write_file(scratch.dir .. "/test", "print('the script')")
    local stdout = lunation("", "./test")
    assert.equal("the script\n", stdout)
    stdout = lunation("it('awaits', function() async.sleep(0.001) end)", "test -o TAP x_spec.lua")
    assert.equal("ok 1 - awaits\n1..1\n", stdout)
    os.remove(scratch.dir .. "/test")
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
    command.write_file(scratch.dir .. "/.busted", "return { _all = { lua = 'false' } }")
    local stdout, _, code = test("it('runs', function() end) it('sees arg', function() print(#arg, arg[1]) end)")
    os.remove(scratch.dir .. "/.busted")
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

  it("that catches whatever ends it is ended all the same", function()
    local stdout = test([[
      it("insists", function() while true do pcall(function() while true do end end) end end)
      it("next", function() end)]], seconds(0.1))
    contains(stdout, "not ok 1 - insists", "the time limit of", "ok 2 - next")
  end)

  it("closes what it has marked for that with the error that it fails with", function()
    local stdout = test([[
      it("is seen by a closer", function()
        local _ <close> = async.defer(function(e) print("# closed for " .. tostring(e)) end)
        async.sleep(0)
        error("this", 0)
      end)
      it("ends its group", function()
        local tg <close> = async.TaskGroup()
        tg:create_task(async.sleep, 3600)
        async.sleep(0)
        error("that", 0)
      end)
      it("has a timeout", function() local _ <close> = async.timeout(0.001) async.sleep(3600) end)]])
    contains(stdout, "# closed for this", "not ok 2 - ends its group",
      "x_spec.lua:7: ExceptionGroup: unhandled errors in a TaskGroup\n#   that", "x_spec.lua:13: TimeoutError")
    lacks(stdout, "time limit")
  end)

  it("that fails with a group of errors names each", function()
    local stdout = test([[
      it("fails", function()
        local tg <close> = async.TaskGroup()
        tg:create_task(function() error(async.ValueError("bad")) end)
        tg:create_task(function() error("text") end)
      end)]])
    contains(stdout, "ExceptionGroup: unhandled errors in a TaskGroup", "x_spec.lua:4: ValueError: bad", "x_spec.lua:5: text")
    stdout = test("it('asserts', function() local tg <close> = async.TaskGroup() tg:create_task(assert.equal, 1, 2) end)",
      "-o plainTerminal")
    contains(stdout, "0 successes / 1 failure / 0 errors", "Expected objects to be equal")
  end)

  it("may stub what runs it", function()
    local stdout, _, code = test([[
      it("stubs", function()
        for name, f in pairs(async) do
          if type(f) == "function" then stub(async, name) end
        end
      end)
      it("next", function() end)]])
    assert.equal("ok 1 - stubs\nok 2 - next\n1..2\n", stdout)
    assert.equal(0, code)
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

  it("may be the clock of a test", function()
    local stdout = test([[
      it("leaves a clock", function() require("lunation.probe").clock("virtual") end)
      it("next", function() assert.equal("real", require("lunation.probe").clock()) end)]])
    contains(stdout, "not ok 1 - leaves a clock", "a virtual clock, which was real before", "ok 2 - next")
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
    local mark = scratch.dir .. "/there"
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

  it("by Ctrl-C in the last teardown is still interrupted", function()
    local mark = scratch.dir .. "/last"
    local stdout, stderr, code = test(([[
      it("one", function() end)
      teardown(function() io.open(%q, "w"):close() pcall(async.sleep, 60) end)]]):format(mark), "--timeout=0",
      { interrupt = mark })
    contains(stdout, "ok 1 - one", "1..1\n")
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
    command.write_file(scratch.dir .. "/x_spec.lua", 'local async = require "lunation"\n' .. text)
    local spec = { "env", "-C", scratch.dir, limit = 60, env = env }
    for _, list in ipairs { program, words } do
      for _, word in ipairs(list) do spec[#spec + 1] = word end
    end
    return command.run(spec)
  end

  it("works through .busted, with options by -Xhelper", function()
    command.write_file(scratch.dir .. "/.busted",
      ("return { _all = { lua = %q, helper = 'lunation.busted' } }"):format(scratch.program))
    local stdout, _, code = busted({ "busted" }, { "-o", "TAP", "-Xhelper", "virtual-time,seed=3", "x_spec.lua" })
    contains(stdout, "ok 1 - awaits", "not ok 2 - leaks", "made at x_spec.lua:3", "# seed: 3")
    assert.equal(1, code)
    -- Under `lunation test` it is at work already.
    stdout = busted({ scratch.program, "test" }, { "--virtual-time", "-o", "TAP", "x_spec.lua" })
    contains(stdout, "ok 1 - awaits", "not ok 2 - leaks")
    lacks(stdout, "seed")
    os.remove(scratch.dir .. "/.busted")
  end)

  it("refuses bad options", function()
    local _, stderr, code = busted({ scratch.program, "/usr/bin/busted" },
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

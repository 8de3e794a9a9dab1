-- Interrupts from the keyboard, each in a process of its own.
local helper = require "spec.helper"

-- What programs here share: `interrupt()` sends this process a SIGINT, `log` collects lines.
local COMMON = [[
  local log = {}
  local function note(x) log[#log + 1] = tostring(x) end
  local function noted(expected, what) eq(expected, table.concat(log, " "), what) end
  local function interrupt() io.popen("kill -INT $PPID"):close() end
]]

-- A spawning shell may have SIGINT ignored, which is inherited.
local PREFIX = { "env", "--default-signal=INT" }

local function execute(text) return helper.execute(COMMON:gsub("\n", " ") .. text, { prefix = PREFIX }) end

-- In our command, whose script is the main task; the stock interpreter has a handler for SIGINT of its own.
describe("SIGINT", function()
  local function script(text)
    return helper.command(COMMON:gsub("\n", " ") .. [[
      local function say(x) io.stdout:write(tostring(x), "\n") io.stdout:flush() end
    ]] .. text, { prefix = PREFIX })
  end

  it("cancels main, then the others, and ends the command by the signal", function()
    local stdout, stderr, code = script [[
      async.create_task(function() say("task: " .. thrown(async.sleep, 60).name) end)
      turns(1)
      local _ <close> = async.defer(function(e) async.sleep(0.001) say("main: " .. e.name) end)
      interrupt()
      async.sleep(10)
    ]]
    assert.equal("main: CancelledError\ntask: CancelledError\n", stdout)
    assert.equal(130, code)
    assert.is_nil(stderr:find("traceback", 1, true), stderr)
    assert.equal(1, select(2, stderr:gsub("\n", "\n")), stderr)
  end)

  it("a main that catches it and returns has ended well", function()
    local stdout, stderr, code = script [[
      interrupt()
      eq("CancelledError", thrown(async.sleep, 10).name)
      eq(1, async.current_task():cancelling())
      say "caught"
    ]]
    assert.equal("caught\n", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)

  it("a main that throws something else then has failed with that", function()
    local _, stderr, code = script [[
      interrupt()
      pcall(async.sleep, 10)
      error(async.ValueError("instead"))
    ]]
    assert.truthy(stderr:find("ValueError: instead", 1, true), stderr)
    assert.equal(1, code)
  end)

  it("a main that takes it back goes on", function()
    local stdout, stderr, code = script [[
      interrupt()
      pcall(async.sleep, 10)
      async.current_task():uncancel()
      async.sleep(0.005)
      say "went on"
    ]]
    assert.equal("went on\n", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)

  it("a second one is thrown in whatever Lua runs", function()
    local stdout, _, code = script [[
      interrupt()
      pcall(async.sleep, 10)
      local from = os.time()
      local ok, e = pcall(function()
        interrupt()
        while os.time() - from < 15 do end
      end)
      say(ok) say(e.name) say(os.time() - from < 12)
      error(e)
    ]]
    assert.equal("false\nKeyboardInterrupt\ntrue\n", stdout)
    assert.equal(130, code)
  end)

  it("two of them reach a busy main", function()
    local _, _, code = script [[
      local from = os.time()
      interrupt()
      interrupt()
      while os.time() - from < 15 do end
      say "not reached"
      os.exit(7)
    ]]
    assert.equal(130, code)
  end)

  it("during the teardown ends the waiting, and what refuses is closed by force", function()
    local stdout, stderr, code = script [[
      local from = os.time()
      async.create_task(function()
        local _ <close> = setmetatable({}, { __close = function() say(os.time() - from < 8) end })
        while true do
          interrupt()
          pcall(async.sleep, 60)
        end
      end)
      turns(1)
    ]]
    assert.equal("true\n", stdout, stderr)
    assert.truthy(stderr:find("Task was destroyed but it is pending!", 1, true), stderr)
    assert.truthy(code == 0 or code == 130)
  end)

  it("a handler of the script's own wins", function()
    local stdout, stderr, code = script [[
      local loop, f = async.get_running_loop(), async.Future()
      loop:add_signal_handler("SIGINT", function() f:set_result("handled") end)
      interrupt()
      say(async.await(f))
      loop:remove_signal_handler("SIGINT")
    ]]
    assert.equal("handled\n", stdout, stderr)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)

  it("that was ignored from the start stays ignored", function()
    local stdout, stderr, code = helper.command(COMMON:gsub("\n", " ") .. [[
      interrupt()
      print(async.sleep(0.05, "undisturbed"))
    ]], { prefix = { "env", "--ignore-signal=INT" } })
    assert.equal("undisturbed\n", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)

  it("at every suspension point ends everything", function()
    for _, at in ipairs {
      "async.sleep(10)", "async.await(async.Future())", "async.gather { async.Future(), async.Future() }",
      "async.wait { async.Future() }", "async.wait_for(async.Future(), 10)", "while true do async.sleep(0) end",
      "local l = async.Lock() l:acquire() l:acquire()", "async.Queue():get()", "async.Event():wait()",
      "async.await(async.create_task(async.sleep, 10))",
        "local tg <close> = async.TaskGroup() tg:create_task(async.sleep, 10)",
    } do
      local _, stderr, code = script("interrupt() " .. at)
      assert.equal(130, code, at .. ": " .. stderr)
    end
  end)

  it("in the stock interpreter, which handles it in its own way, does not hang", function()
    local _, stderr, code = execute [[
      async.run(function()
        interrupt()
        async.sleep(0.05)
      end)
    ]]
    assert.not_equal(124, code, stderr)
  end)
end)

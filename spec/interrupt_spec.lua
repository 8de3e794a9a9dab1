-- SIGINT under run, and os.exit in a script: programs in processes of their own.
local helper = require "spec.helper"
local command = require "spec.support.command"

local refuses = helper.refuses

-- Sends SIGINT to the process itself, like a terminal would; `press(n, d)` does so n times, every d seconds, and not
-- before the one before was taken: two that are pending are one. (Not by os.execute, which ignores SIGINT meanwhile.)
local prelude = [[
local async = require "lunation"
io.stdout:setvbuf "no"
local function press(n, d)
  local line = "(for i in %s; do sleep %s; while grep -q 'ShdPnd:.*[2367abef]$' /proc/$PPID/status; "
    .. "do sleep 0.01; done; kill -s INT $PPID; done) >/dev/null 2>&1 &"
  io.popen("P=$PPID; " .. line:format(("x "):rep(n or 1), d or 0.1):gsub("$PPID", "$P")):close()
end
local function busy(seconds)
  local till = os.clock() + seconds
  while os.clock() < till do end
end
]]

describe("SIGINT", function()
  local dir
  setup(function() dir = command.temp_dir() end)
  teardown(function() command.remove_dir(dir) end)

  local function run(program, ...)
    local path = dir .. "/program.lua"
    command.write_file(path, prelude .. program)
    local spec = { command.lunation, ... }
    spec[#spec + 1] = path
    spec.limit = 20 * math.max(1, helper.slow // 2)
    return command.run(spec)
  end

  -- The program must die of SIGINT with one line on stderr; what it printed.
  local function interrupted(program, ...)
    local out, err, code, signal = run(program, ...)
    assert.equal("lunation: interrupted\n", err)
    assert.equal(130, code)
    assert.equal(2, signal)
    return out
  end

  local function ends_well(program, ...)
    local out, err, code = run(program, ...)
    assert.equal("", err)
    assert.equal(0, code)
    return out
  end

  describe("once", function()
    it("cancels the main task, then the others, and leaves as KeyboardInterrupt", function()
      assert.equal("main CancelledError\t1\nother CancelledError\n", interrupted [[
        async.create_task(function()
          local ok, e = pcall(async.sleep, 30)
          print("other " .. e.name)
          error(e)
        end)
        press()
        local _ <close> = async.defer(function(e)
          async.sleep(0.01)
          print("main " .. e.name, async.current_task():cancelling())
        end)
        async.sleep(30)
      ]])
    end)

    it("is noticed when a busy script awaits", function()
      assert.equal("busy done\n", interrupted [[
        press()
        busy(0.3)
        print("busy done")
        async.sleep(30)
        print("not reached")
      ]])
    end)

    it("is noticed in an endless row of ready tasks", function()
      assert.equal("", interrupted [[
        async.create_task(function() while true do async.sleep(0) end end)
        press()
        while true do async.sleep(0) end
      ]])
    end)

    it("is noticed by awaits that never have to suspend", function()
      assert.equal("", interrupted [[
        local fut = async.Future()
        fut:set_result(1)
        press()
        while true do async.await(fut) end
      ]])
    end)

    it("does not end a script that ends by itself before it awaits again", function()
      assert.equal("done\n", ends_well [[
        press()
        busy(0.3)
        print("done")
      ]])
    end)

    it("does not end a main task that catches it and returns", function()
      assert.equal("caught CancelledError\n", ends_well [[
        press()
        local ok, e = pcall(async.sleep, 30)
        print("caught " .. e.name)
      ]])
    end)

    it("lets a main task go on that takes it back", function()
      assert.equal("went on\n", ends_well [[
        press()
        pcall(async.sleep, 30)
        async.current_task():uncancel()
        async.sleep(0.01)
        print "went on"
      ]])
    end)

    it("lets another error of the cleanup out", function()
      local _, err, code = run [[
        press()
        pcall(async.sleep, 30)
        error("the cleanup failed", 0)
      ]]
      assert.matches("^lunation: the cleanup failed\n", err)
      assert.equal(1, code)
    end)

    it("wins over a cancellation that is under way", function()
      assert.equal("", interrupted [[
        local main = async.current_task()
        async.create_task(function()
          async.sleep(0.05)
          main:cancel()
        end)
        press()
        local _ <close> = async.defer(function() async.sleep(0.3) end)
        async.sleep(30)
      ]])
    end)

    it("is seen behind plain pcalls around it, and the closers run", function()
      assert.equal("inner\nouter\n", interrupted [[
        press()
        local _ <close> = async.defer(function() print "outer" end)
        local ok, e = pcall(function()
          local _ <close> = async.defer(function() print "inner" end)
          async.sleep(30)
        end)
        error(e)
      ]])
    end)

    it("reaches a generator that awaits", function()
      assert.equal("in the generator\n", interrupted [[
        press()
        for _ in coroutine.wrap(function()
          local _ <close> = async.defer(function() print "in the generator" end)
          async.sleep(30)
        end) do end
      ]])
    end)

    it("says where with --debug", function()
      local _, err, code = run([[
        press()
        async.sleep(30)
      ]], "--debug")
      -- On a slow machine it also tells of a step that took long.
      assert.matches("\nlunation: interrupted\n", "\n" .. err, 1, true)
      assert.equal(130, code)
    end)

    it("in the teardown ends the waiting", function()
      local out, err = run [[
        async.create_task(function()
          while true do pcall(async.sleep, 30) end
        end):set_name "stubborn"
        async.sleep(0)
        press(1, 0.3)
        print "main is over"
      ]]
      assert.equal("main is over\n", out)
      assert.matches("Task was destroyed but it is pending!", err)
      assert.matches("stubborn", err)
    end)
  end)

  describe("twice", function()
    it("throws in a busy loop", function()
      assert.equal("", interrupted [[
        press(2)
        while true do end
      ]])
    end)

    it("runs the closers on the way out of it, which may await", function()
      assert.equal("closed by KeyboardInterrupt\n", interrupted [[
        press(2)
        local _ <close> = async.defer(function(e)
          async.sleep(0.01)
          print("closed by " .. e.name)
        end)
        while true do end
      ]])
    end)

    it("throws in a busy callback, and in a busy task that is not main", function()
      assert.equal("", interrupted [[
        press(2)
        async.get_running_loop():call_soon(function() while true do end end)
        async.sleep(30)
      ]])
      assert.equal("", interrupted [[
        press(2)
        async.create_task(function() while true do end end)
        async.sleep(30)
      ]])
    end)

    it("throws in a busy generator", function()
      assert.equal("", interrupted [[
        press(2)
        coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()
      ]])
    end)

    it("throws behind a pcall, which catches it as any error", function()
      assert.equal("KeyboardInterrupt\ngone on\n", ends_well [[
        press(2)
        local ok, e = pcall(function() while true do end end)
        print(e.name)
        print(async.sleep(0.01, "gone on"))
      ]])
    end)

    it("passes async.pcall", function()
      assert.equal("", interrupted [[
        press(2)
        print(async.pcall(function() while true do end end))
      ]])
    end)

    it("ends a main task that swallows its cancellation, without waiting for others", function()
      local out, err, code = run [[
        async.create_task(function() while true do pcall(async.sleep, 30) end end):set_name "stubborn"
        press(2)
        while true do print(select(2, pcall(async.sleep, 30)).name) end
      ]]
      assert.equal("CancelledError\n", out:sub(1, 15))
      assert.equal(130, code)
      assert.matches("lunation: interrupted\n$", err)
      assert.matches("stubborn", err)
    end)

    it("leaves the hooks of the script alone", function()
      assert.equal("true\ttrue\n", ends_well [[
        local lines = 0
        debug.sethook(function() lines = lines + 1 end, "l")
        press(2)
        pcall(function() while true do end end)
        local hook, mask = debug.gethook()
        local before = lines
        local x = 1
        x = x + 1
        print(hook ~= nil and mask == "l", lines > before)
        debug.sethook()
      ]])
    end)

    it("leaves no hook behind where there was none", function()
      assert.equal("true\ntrue\n", ends_well [[
        local hook = debug.gethook() -- none, but of the chaos build
        press(2)
        pcall(function() while true do end end)
        print(hook == debug.gethook())
        async.await(async.create_task(function() print(hook == debug.gethook()) end))
      ]])
    end)
  end)

  it("three times ends the process at once", function()
    local out, err, code = run [[
      local _ <close> = async.defer(function() print "not reached" end)
      press(3)
      while true do pcall(function() while true do end end) end
    ]]
    assert.equal("", out)
    assert.equal("", err)
    assert.equal(130, code)
  end)

  it("at any moment ends the process in one of the known ways", function()
    for _, d in ipairs { 0.005, 0.01, 0.02, 0.03, 0.05 } do
      local out, err, code = run(([[
        press(3, %g)
        async.create_task(function() while true do async.sleep(0.001) end end)
        local co = coroutine.wrap(function() while true do async.sleep(0) coroutine.yield() end end)
        while true do
          co()
          for i = 1, 100 do table.sort { 3, 2, 1 } end
        end
      ]]):format(d))
      assert.equal(130, code)
      assert.is_true(err == "lunation: interrupted\n" or err == "", err)
      assert.equal("", out)
    end
  end)

  describe("has its disposition", function()
    -- SigCgt is the kernel's mask of signals with handlers.
    local caught = [[
      local function caught()
        for line in io.lines "/proc/self/status" do
          local mask = line:match "^SigCgt:%s*(%x+)"
          if mask then return tonumber(mask:sub(-1), 16) & 2 ~= 0 end
        end
      end
    ]]

    it("given back at the end", function()
      assert.equal("true\nfalse\n", ends_well(caught .. [[
        X = setmetatable({}, { __gc = function() print(caught()) end })
        print(caught())
      ]]))
    end)

    it("left alone where it is ignored", function()
      command.write_file(dir .. "/ignored.lua", prelude .. caught .. [[
        press()
        async.sleep(0.3)
        print(caught())
      ]])
      local out, err, code = command.run {
        "sh", "-c", "trap '' INT; exec \"$@\"", "sh", command.lunation, dir .. "/ignored.lua" }
      assert.same({ "false\n", "", 0 }, { out, err, code })
    end)

    it("left to a handler of the script's own, and back when that goes", function()
      assert.equal("1\tmine\n2\tmine\n3\tmine\ntrue\n", interrupted [[
        local loop, seen = async.get_running_loop(), async.Queue()
        loop:add_signal_handler("SIGINT", function(what) seen:put_nowait(what) end, "mine")
        press(3)
        for i = 1, 3 do print(i, seen:get()) end
        print(loop:remove_signal_handler "SIGINT")
        press()
        async.sleep(30)
      ]])
    end)

    it("left to the stock interpreter, which has a handler of its own", function()
      assert.equal("true\ttrue\ttrue\n", helper.plain(caught:gsub("\n", " ") .. [[
        print(caught(), async.run(caught), caught())
      ]]))
    end)
  end)
end)

describe("os.exit", function()
  local dir
  setup(function() dir = command.temp_dir() end)
  teardown(function() command.remove_dir(dir) end)

  local function run(program)
    local path = dir .. "/program.lua"
    command.write_file(path, 'local async = require "lunation" ' .. program)
    return command.run { command.lunation, path, limit = 20 * math.max(1, helper.slow // 2) }
  end

  local function exits(expected, program)
    local out, err, code = run(program)
    assert.equal("", err)
    assert.equal(expected, code)
    return out
  end

  it("ends with the code", function()
    exits(0, "os.exit()")
    exits(0, "os.exit(true)")
    exits(1, "os.exit(false)")
    exits(3, "os.exit(3)")
    exits(4, "os.exit(4.0, true)")
    exits(5, "os.exit('5')")
    exits(0, "os.exit(0) error 'not reached'")
  end)

  it("flushes what was printed", function()
    assert.equal("printed", exits(2, "io.write 'printed' os.exit(2)"))
  end)

  it("does not return, unwinds the caller and all tasks, and closes the loop first", function()
    assert.equal("main is closed\ntask CancelledError\n", exits(7, [[
      async.create_task(function()
        local _ <close> = async.defer(function(e)
          async.sleep(0.01)
          print("task " .. e.name)
        end)
        async.sleep(30)
      end)
      async.sleep(0)
      local _ <close> = async.defer(function() print "main is closed" end)
      os.exit(7)
      print "not reached"
    ]]))
  end)

  it("works in a task, a callback, a generator", function()
    exits(3, "async.create_task(function() os.exit(3) end) async.sleep(30)")
    exits(3, "async.get_running_loop():call_soon(os.exit, 3) async.sleep(30)")
    exits(3, "async.get_running_loop():call_soon(function() os.exit(3) end) async.sleep(30)")
    exits(3, "coroutine.wrap(function() os.exit(3) end)() async.sleep(30)")
  end)

  it("lets no other task begin", function()
    assert.equal("", exits(3, [[
      async.create_task(function() os.exit(3) end)
      async.create_task(function() print "not reached" end)
      async.sleep(30)
    ]]))
  end)

  it("ends the process at once where the caller cannot be suspended", function()
    assert.equal("handler\n", exits(6, [[
      xpcall(function() error "x" end, function() print "handler" os.exit(6) end)
      print "not reached"
    ]]))
    exits(6, "table.sort({ 2, 1 }, function() os.exit(6) end) print 'not reached'")
  end)

  it("works in the cleanup, too", function()
    assert.equal("first\nsecond\n", exits(9, [[
      async.create_task(function()
        local _ <close> = async.defer(function() print "second" os.exit(9) print "not reached" end)
        async.sleep(30)
      end)
      async.sleep(0)
      print "first"
      os.exit(8)
    ]]))
    assert.equal("", exits(9, [[
      async.create_task(function()
        local _ <close> = async.defer(function() os.exit(9) end)
        async.sleep(30)
      end)
      async.sleep(0)
    ]]))
  end)

  it("closes the Lua state when asked to", function()
    assert.equal("collected\n", exits(0, [[
      X = setmetatable({}, { __gc = function() print "collected" end })
      os.exit(0, true)
    ]]))
    assert.equal("", exits(0, [[
      X = setmetatable({}, { __gc = function() print "collected" end })
      os.exit(0)
    ]]))
  end)

  it("does not return to a pcall around it", function()
    exits(4, "pcall(os.exit, 4) print 'not reached' os.exit(5)")
    exits(4, "xpcall(function() os.exit(4) end, debug.traceback) print 'not reached'")
    exits(4, "coroutine.resume(coroutine.create(function() os.exit(4) end)) print 'not reached'")
  end)

  it("does not end another program's run by a closer that awaits or throws", function()
    exits(4, [[
      local _ <close> = async.defer(function() async.sleep(30) end)
      local _ <close> = async.defer(function() error "x" end)
      os.exit(4)
    ]])
  end)

  it("checks its argument", function()
    for _, v in ipairs { {}, print, "x", 1.5 } do
      refuses("TypeError", { "#1 to 'exit'", "integer or boolean expected" }, function() os.exit(v) end)
    end
  end)
end)

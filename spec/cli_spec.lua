-- The command: lua's own options, `arg`, LUA_INIT, exit codes and texts, and a script that may await.
local command = require "spec.support.command"
local helper = require "spec.helper"

describe("lunation", function()
  local dir
  setup(function() dir = command.temp_dir() end)
  teardown(function() command.remove_dir(dir) end)

  local function script(text, name)
    local path = dir .. "/" .. (name or "script.lua")
    command.write_file(path, text)
    return path
  end

  -- Runs the command -> stdout, stderr, code.
  local function lunation(...)
    return command.run { command.lunation, limit = 20 * math.max(1, helper.slow // 2), ... }
  end

  local function with_env(env, ...)
    return command.run { command.lunation, env = env, limit = 20 * math.max(1, helper.slow // 2), ... }
  end

  -- The shell runs a line in which $L is the command.
  local function shell(line)
    return command.run { "sh", "-c", line, env = { L = command.lunation }, limit = 20 * math.max(1, helper.slow // 2) }
  end

  local function ok(expected, stdout, stderr, code)
    assert.equal("", stderr)
    assert.equal(expected, stdout)
    assert.equal(0, code)
  end

  describe("runs a script", function()
    it("as the main task, with its arguments", function()
      ok("a\tb\tTask-1\n", lunation(script [[
        local async = require "lunation"
        print(async.sleep(0.001, ...), select(2, ...), async.current_task():get_name())
      ]], "a", "b"))
    end)

    it("whose task goes by its name", function()
      local path = script "print(require 'lunation'.current_task())"
      ok("<Task pending name='Task-1' fn=<main chunk@" .. path .. ":0>>\n", lunation("-e", "x = 1", path))
      ok("<Task pending name='Task-1' fn=<main chunk@(command line):0>>\n",
        lunation("--debug", "-e", "print(require 'lunation'.current_task())"))
    end)

    it("that is old and synchronous", function()
      ok("55\n", lunation(script [[
        local function sum(n) return n == 0 and 0 or n + sum(n - 1) end
        local co = coroutine.wrap(function() for i = 1, 2 do coroutine.yield(sum(i * 5)) end end)
        co()
        print(co())
      ]]))
    end)

    it("with `arg` as lua has it", function()
      local path = script "print(arg[0], arg[1], arg[2], arg[3], arg[-1], arg[-2], arg[-3], #arg)"
      ok(table.concat({ path, "x", "-v", "nil", "x=1", "-e", command.lunation, "2" }, "\t") .. "\n",
        lunation("-e", "x=1", path, "x", "-v"))
    end)

    it("whose `arg` was changed before", function()
      ok("changed\n", lunation("-e", "arg[1] = 'changed'", script "print(...)", "x"))
      local _, err, code = lunation("-e", "arg = nil", script "print(...)")
      assert.matches("^lunation: 'arg' is not a table\n", err)
      assert.equal(1, code)
    end)

    it("with a shebang line", function()
      ok("shebang\n", lunation(script "#!/usr/bin/env lunation\nprint 'shebang'"))
    end)

    it("from stdin", function()
      assert.equal("in\t1\n", (shell [[echo 'print("in", ...)' | "$L" - 1]]))
      assert.equal("in\n", (shell [[echo 'print("in", ...)' | "$L"]]))
    end)

    it("named -, after --", function()
      command.write_file(dir .. "/-", "print 'a file of that name'")
      local line = [[L=$(readlink -f "$L") && cd %s && "$L" -- -]]
      assert.equal("a file of that name\n", (shell(line:format(dir))))
    end)

    it("that prints without buffering surprises", function()
      ok("one\ntwo\n", lunation(script "io.write 'one\\n' io.stdout:write 'two\\n'"))
    end)

    it("that finds modules beside LUA_PATH", function()
      script("return 'the module'", "m_cli.lua")
      ok("the module\n", with_env({ LUA_PATH = dir .. "/?.lua" }, "-e", "print((require 'm_cli'))"))
      local _, err = with_env({ LUA_PATH = dir .. "/?.lua" }, "-E", "-e", "print((require 'm_cli'))")
      assert.matches("module 'm_cli' not found", err)
      ok("the module\n", with_env({ LUA_PATH_5_4 = dir .. "/?.lua", LUA_PATH = "x" }, "-e", "print((require 'm_cli'))"))
    end)

    it("in which the globals await", function()
      script("local async = require 'lunation' async.sleep(0.001) return 'awaited'", "m_awaits.lua")
      ok("awaited\ttrue\ttrue\n", with_env({ LUA_PATH = dir .. "/?.lua" }, "-e", [[
        local async = require "lunation"
        print((require "m_awaits"), coroutine == async.coroutine, require == async.require)
      ]]))
    end)

    it("with SIGPIPE out of the way, but not for its children", function()
      ok("y\nfine\n", lunation("-e", [[
        local pipe = io.popen("exit 0", "w")
        os.execute "sleep 0.05"
        pipe:write(("x"):rep(100000))
        pipe:close()
        local text = io.popen("yes 2>&1 | head -n 1"):read "a"
        io.write(text)
        print "fine"
      ]]))
    end)
  end)

  describe("options", function()
    it("-e, more than once, in order, and awaiting", function()
      ok("1\n2\n3\n", lunation("-e", "print(1)", "-eprint(2)", "-e", "require'lunation'.sleep(0.001) print(3)"))
      local _, err, code = lunation("-e")
      assert.matches("^lunation: '%-e' needs argument\nusage: lunation", err)
      assert.equal(1, code)
    end)

    it("-e before a script", function()
      ok("1\t2\n", lunation("-e", "x = 1", script "print(x, ...)", "2"))
    end)

    it("-l", function()
      script("return { ... }", "m_lib.lua")
      local env = { LUA_PATH = dir .. "/?.lua" }
      ok("m_lib\n", with_env(env, "-l", "m_lib", "-e", "print(m_lib[1])"))
      ok("m_lib\n", with_env(env, "-lm_lib", "-e", "print(m_lib[1])"))
      ok("m_lib\tnil\n", with_env(env, "-l", "g=m_lib", "-e", "print(g[1], m_lib)"))
      ok("table\n", lunation("-l", "async=lunation", "-e", "print(type(async))"))
      script("require 'lunation'.sleep(0.001) return 'awaited'", "m_awaits.lua")
      ok("awaited\n", with_env(env, "-l", "m_awaits", "-e", "print(m_awaits)"))
      local _, err, code = lunation("-l", "no.such.module")
      assert.matches("^lunation: module 'no%.such%.module' not found:\n", err)
      assert.equal(1, code)
    end)

    it("-v and --version", function()
      for _, option in ipairs { "-v", "--version" } do
        local out, err, code = lunation(option)
        assert.matches("^Lunation %d+%.%d+%.%d+ %(Lua 5%.%d+%.%d+, libuv 1%.%d+%.%d+%)\n$", out)
        assert.equal("", err)
        assert.equal(0, code)
      end
      assert.matches("^Lunation [^\n]*\n1\n$", (lunation("-v", "-e", "print(1)")))
    end)

    it("-W turns warnings on", function()
      local _, err = lunation("-W", "-e", "warn('a ', 'warning')")
      assert.equal("Lua warning: a warning\n", err)
      ok("", lunation("-e", "warn 'a warning'"))
    end)

    it("-E ignores the environment", function()
      ok("1\n", with_env({ LUA_INIT = "print 'init'" }, "-E", "-e", "print(1)"))
    end)

    it("-i says that it is not there yet", function()
      local _, err, code = lunation("-i")
      assert.equal("lunation: '-i': there is no interactive mode yet\n", err)
      assert.equal(1, code)
    end)

    it("--help", function()
      local out, err, code = lunation("--help")
      assert.equal("", err)
      assert.equal(0, code)
      local options = { "-e stat", "-l mod", "-v", "-E", "-W", "--debug", "--virtual-time", "--seed N", "--help" }
      for _, option in ipairs(options) do
        assert.is_truthy(out:find("\n  " .. option, 1, true), option)
      end
    end)

    it("--virtual-time", function()
      local started = os.time()
      ok("true\n", lunation("--virtual-time", "-e", [[
        local async = require "lunation"
        local loop = async.get_running_loop()
        local t = loop:time()
        async.sleep(86400)
        print(loop:time() - t >= 86400)
      ]]))
      assert.is_true(os.time() - started < 60)
    end)

    it("--seed gives the same order for the same number", function()
      local program = [[
        local async = require "lunation"
        local list = {}
        for i = 1, 20 do list[i] = function() io.write(i, " ") end end
        async.gather(list)
      ]]
      local seen, different = {}, 0
      for _, seed in ipairs { "1", "2", "3", "1", "2", "3" } do
        local out, err = lunation("--seed", seed, "-e", program)
        assert.equal("", err)
        assert.is_true(seen[seed] == nil or seen[seed] == out)
        if not seen[seed] then different = different + 1 end
        for other, text in pairs(seen) do assert.is_true(other == seed or text ~= out) end
        seen[seed] = out
      end
      assert.equal(3, different)
      assert.equal(seen["1"], (lunation("--seed=1", "-e", program)))
    end)

    it("--debug", function()
      ok("true\tfalse\n", lunation("--debug", "-e", [[
        local async = require "lunation"
        print(async.get_running_loop():get_debug(), false)
      ]]))
    end)

    it("bad ones", function()
      for _, list in ipairs { { "-x" }, { "-vv" }, { "-Ee" }, { "--nothing" }, { "--debugging" }, { "-e", "-v" },
        { "-l" }, { "--seed" }, { "--seed", "x" }, { "--seed=" }, { "--seed", "99999999999999999999" }, { "---" } } do
        local out, err, code = lunation(table.unpack(list))
        assert.equal(1, code, list[1])
        assert.equal("", out)
        assert.matches("^lunation: .-\nusage: lunation %[options%] %[script %[args%]%]\n", err)
      end
      local _, err = lunation("-x")
      assert.matches("^lunation: unrecognized option '%-x'\n", err)
    end)

    it("end at --, and at the script", function()
      local path = script "print(...)"
      ok("-e\tx\n", lunation(path, "-e", "x"))
      ok("-v\n", lunation("--", path, "-v"))
    end)
  end)

  describe("LUA_INIT", function()
    it("runs before all else, and may await", function()
      ok("init\n1\n", with_env({ LUA_INIT = "require'lunation'.sleep(0.001) print 'init'" }, "-e", "print(1)"))
      ok("from a file\n", with_env({ LUA_INIT = "@" .. script("print 'from a file'", "init.lua") }, "-e", ""))
      ok("5.4\n", with_env({ LUA_INIT = "print 'plain'", LUA_INIT_5_4 = "print '5.4'" }, "-e", ""))
    end)

    it("ends the command if it fails", function()
      local out, err, code = with_env({ LUA_INIT = "error('bad init', 0)" }, "-e", "print(1)")
      assert.same({ "", 1 }, { out, code })
      assert.matches("^lunation: bad init\n", err)
      out, err, code = with_env({ LUA_INIT = "local = 1" }, "-e", "print(1)")
      assert.same({ "", 1 }, { out, code })
      assert.matches("^lunation: LUA_INIT:1: ", err)
    end)
  end)

  describe("ends", function()
    local function fails(program, ...)
      local out, err, code = lunation(script(program), ...)
      assert.equal(1, code)
      assert.equal("", out)
      return err
    end

    it("with the text and the traceback of an error", function()
      local err = fails "local function deep() error 'why' end\nlocal function f() deep() end\nf()"
      local path = dir .. "/script.lua"
      assert.equal("lunation: " .. path .. ":1: why\n", err:match("^[^\n]*\n"))
      assert.is_truthy(err:find(path .. ":1: in", 1, true))
      assert.is_truthy(err:find(path .. ":3: in", 1, true))
    end)

    it("with the awaits that an error has crossed", function()
      local err = fails [[
        local async = require "lunation"
        local function fail()
          async.sleep(0.001)
          error(async.ValueError("late"))
        end
        async.await(async.create_task(fail))
      ]]
      assert.equal("lunation: ValueError: late\n", err:match("^[^\n]*\n"))
      local _, first = err:find("script.lua:4: in", 1, true)
      local _, second = err:find("script.lua:6: in", 1, true)
      assert.is_true(first < second)
    end)

    it("with the errors of a group, and what an error was raised from", function()
      local err = fails [[
        local async = require "lunation"
        local group <close> = async.TaskGroup()
        group:create_task(function() error("one") end)
        group:create_task(function() error(async.ValueError("two", { cause = async.OSError("three") })) end)
      ]]
      assert.equal("lunation: ExceptionGroup: unhandled errors in a TaskGroup\n", err:match("^[^\n]*\n"))
      assert.matches("%[1%]\n.*:3: one\n.*%[2%]\n +ValueError: two\n.*caused by: OSError: three\n", err)
    end)

    it("with something for every error value", function()
      assert.matches("^lunation: %(error object is a table value%)\n", fails "error {}")
      assert.matches("^lunation: nil\n", (fails "error()"):gsub("Error: ", ""))
      assert.matches("^lunation: %(error object is a boolean value%)\n", fails "error(false)")
      assert.matches("^lunation: 12\n", fails "error(12)")
      local own = "error(setmetatable({}, { __tostring = function() %s end }))"
      assert.matches("^lunation: own text\n", fails(own:format("return 'own text'")))
      assert.matches("^lunation: .", fails(own:format("error 'no'")))
      assert.matches("^lunation: .", fails(own:format("return {}")))
    end)

    it("without a traceback if the script cannot be loaded", function()
      assert.matches("^lunation: [^\n]*script%.lua:1: [^\n]*\n$", fails "local = 1")
      local _, err, code = lunation(dir .. "/missing.lua")
      assert.matches("^lunation: cannot open [^\n]*missing%.lua[^\n]*\n$", err)
      assert.equal(1, code)
      _, err, code = lunation("-e", "x =")
      assert.matches("^lunation: %(command line%):1: [^\n]*\n$", err)
      assert.equal(1, code)
    end)

    it("after the tasks that are left were cancelled", function()
      ok("main ends\ncancelled\n", lunation(script [[
        local async = require "lunation"
        async.create_task(function()
          local _ <close> = async.defer(function() print "cancelled" end)
          async.sleep(30)
        end)
        async.sleep(0)
        print "main ends"
      ]]))
    end)

    it("with the reports of errors that nobody has seen", function()
      local out, err, code = lunation(script [[
        local async = require "lunation"
        async.create_task(function() error "lost" end)
        async.sleep(0.001)
        print "fine"
      ]])
      assert.same({ "fine\n", 0 }, { out, code })
      assert.matches("Task exception was never retrieved", err)
      assert.matches("lost", err)
    end)

    it("as cancelled if the script cancels itself", function()
      assert.matches("^lunation: CancelledError", fails [[
        local async = require "lunation"
        async.current_task():cancel()
        async.sleep(1)
      ]])
    end)

    it("interrupted if the script throws KeyboardInterrupt", function()
      local _, err, code, signal = lunation("-e", "error(require 'lunation'.KeyboardInterrupt())")
      assert.same({ "lunation: interrupted\n", 130, 2 }, { err, code, signal })
    end)

    it("with its own loops refused", function()
      ok("false\ttrue\n", lunation(script [[
        local async = require "lunation"
        local ok, e = pcall(async.run, print)
        print(ok, async.isinstance(e, async.RuntimeError))
      ]]))
    end)
  end)

  it("runs with nothing on a terminal: a word and no error", function()
    local out, err, code = command.run { "python3", "-c", [==[
import os, pty, sys
status = pty.spawn([sys.argv[1]])
sys.exit(os.waitstatus_to_exitcode(status))
]==], command.lunation, limit = 20 }
    assert.equal(0, code)
    assert.equal("", err)
    assert.matches("^Lunation %d", out)
  end)
end)

-- The option `signals` of a run, and the command's --signals: other signals that do what Ctrl-C does.
local helper = require "spec.helper"
local command = require "spec.support.command"

local refuses = helper.refuses

-- What programs here begin with: `raise` sends a signal to the process itself, `say` prints at once.
local PRELUDE = [[
  local raise = require "lunation.signal".raise
  local function say(...) print(...) io.stdout:flush() end
  local function state(number)
    local text = io.open "/proc/self/status":read "a"
    local function has(mask) return tonumber(text:match(mask .. ":%s*(%x+)"), 16) >> (number - 1) & 1 == 1 end
    return has "SigCgt" and "caught" or has "SigIgn" and "ignored" or "default"
  end
]]
-- A spawning shell may have SIGINT ignored, which is inherited.
local PREFIX = { "env", "--default-signal=INT,TERM,HUP,USR1" }

-- A script of the command with these options -> stdout, stderr, exit code, signal
local function script(text, options)
  local path = os.tmpname()
  command.write_file(path, 'local async = require "lunation" ' .. PRELUDE:gsub("\n", " ") .. text)
  local call = { table.unpack(options.prefix or PREFIX) }
  call[#call + 1] = command.lunation
  for _, word in ipairs(options) do call[#call + 1] = word end
  call[#call + 1] = path
  call.limit = 20 * math.max(1, helper.slow // 2)
  local results = table.pack(command.run(call))
  os.remove(path)
  return table.unpack(results, 1, results.n)
end

-- It must die of the signal with one line on stderr; what it printed.
local function dies(number, name, text, ...)
  local out, err, code, signal = script(text, { ... })
  assert.equal(("lunation: interrupted by %s\n"):format(name), err)
  assert.equal(number, signal)
  assert.equal(128 + number, code)
  return out
end

local INT, HUP, TERM = 2, 1, 15

describe("--signals", function()
  it("cancels main, then the others, and the command dies of that signal", function()
    local text = [[
      async.create_task(function() local ok, e = pcall(async.sleep, 60) say("task", e.name) end)
      local _ <close> = async.defer(function(e) async.sleep(0.001) say("main", e.name) end)
      async.sleep(0)
      raise "TERM"
      async.sleep(60)
    ]]
    assert.equal("main\tCancelledError\ntask\tCancelledError\n", dies(TERM, "SIGTERM", text, "--signals=TERM,HUP"))
    assert.equal("main\tCancelledError\ntask\tCancelledError\n", dies(TERM, "SIGTERM", text, "--signals", "SIGTERM"))
  end)

  it("leaves a signal alone that was not asked for", function()
    local out, err, code = script([[
      local _ <close> = async.defer(function() say "not reached" end)
      raise "TERM"
      async.sleep(60)
    ]], { "--signals=HUP" })
    assert.same({ "", "", 143 }, { out, err, code })
  end)

  it("does not end a main task that catches it and returns", function()
    local out, err, code = script([[
      raise "HUP"
      say(pcall(async.sleep, 60))
    ]], { "--signals=TERM,HUP" })
    assert.same({ "false\tCancelledError\n", "", 0 }, { out, err, code })
  end)

  it("counts presses whatever signal they are: the second throws in a busy loop", function()
    local out = dies(TERM, "SIGTERM", [[
      local _ <close> = async.defer(function(e) say(e.name, e.signal, e.message) end)
      raise "TERM"
      raise "INT"
      while true do end
    ]], "--signals=TERM")
    assert.equal("KeyboardInterrupt\tSIGTERM\tSIGTERM\n", out)
  end)

  it("the third ends the process at once, by its own signal", function()
    local out, err, code = script([[
      local _ <close> = async.defer(function() say "not reached" end)
      local function press(name) return pcall(function() raise(name) for _ = 1, 1000 do end end) end
      press "TERM" press "INT"
      press "HUP"
      while true do end
    ]], { "--signals=TERM,HUP" })
    assert.same({ "", "", 128 + HUP }, { out, err, code })
  end)

  it("SIGINT is said and done as ever beside it", function()
    local out, err, code = script([[
      local _ <close> = async.defer(function(e) say(e.name) end)
      raise "INT"
      async.sleep(60)
    ]], { "--signals=TERM" })
    assert.same({ "CancelledError\n", "lunation: interrupted\n", 128 + INT }, { out, err, code })
  end)

  it("shows where with --debug", function()
    local _, err, code = script([[
      raise "TERM"
      while true do raise "TERM" for _ = 1, 1000 do end end
    ]], { "--debug", "--signals=TERM" })
    assert.matches("^lunation: interrupted by SIGTERM\n", err)
    assert.equal(143, code)
  end)

  it("ends what waits in a child of ours, from outside, end to end", function()
    local path, out = os.tmpname(), os.tmpname()
    command.write_file(path, [[
      local async = require "lunation"
      local _ <close> = async.defer(function(e) async.sleep(0.01) print("closed by " .. e.name) end)
      print "ready"
      io.stdout:flush()
      async.sleep(60)
    ]])
    local line = ("%s --signals=TERM %s > %s 2>&1 & P=$!; i=0; until grep -q ready %s || [ $i -gt 400 ]; "
      .. "do i=$((i+1)); sleep 0.05; done; kill -s TERM $P; wait $P; echo $?"):format(command.lunation, path, out, out)
    local status = io.popen("exec env --default-signal=TERM sh -c " .. command.quote(line) .. " 2>/dev/null"):read("l")
    local text = command.slurp(out)
    os.remove(path)
    os.remove(out)
    assert.equal("143", status)
    assert.equal("ready\nclosed by CancelledError\nlunation: interrupted by SIGTERM\n", text)
  end)

  it("takes the default disposition alone, and gives it back", function()
    local out, err, code = script([[
      say(state(15), state(1), state(10))
      X = setmetatable({}, { __gc = function() say(state(15), state(1)) end })
    ]], { "--signals=TERM,HUP", prefix = { "sh", "-c", 'trap "" HUP; exec env --default-signal=TERM "$@"', "sh" } })
    assert.same({ "caught\tignored\tdefault\ndefault\tignored\n", "", 0 }, { out, err, code })
  end)

  it("yields to a handler and to who waits for the signal", function()
    assert.equal("handler\nSIGTERM\ncaught\n", dies(TERM, "SIGTERM", [[
      local loop, called = async.get_running_loop(), async.Event()
      loop:add_signal_handler("TERM", called.set, called)
      raise "TERM"
      called:wait()
      say "handler"
      loop:remove_signal_handler "TERM"
      local task = async.create_task(async.signal.wait, "TERM")
      async.sleep(0)
      raise "TERM"
      say(async.await(task))
      say(state(15))
      raise "TERM"
      async.sleep(60)
    ]], "--signals=TERM"))
  end)

  it("refuses bad names", function()
    for text, bad in pairs { FOO = "FOO", ["TERM,KILL"] = "KILL", ["TERM,,HUP"] = "", SEGV = "SEGV", [""] = "" } do
      local out, err, code = command.run { command.lunation, "--signals=" .. text, "-e", "print 'not reached'" }
      assert.equal("", out)
      assert.equal(1, code)
      assert.matches(("lunation: '--signals': '%s' is no signal that can end a run\nusage: "):format(bad), err, 1, true)
    end
    local _, err, code = command.run { command.lunation, "--signals" }
    assert.matches("lunation: '--signals' needs argument\n", err, 1, true)
    assert.equal(1, code)
  end)
end)

describe("Runner's signals", function()
  it("throw a KeyboardInterrupt that says which it was, in every run", function()
    assert.equal(("KeyboardInterrupt\tSIGTERM\tKeyboardInterrupt: SIGTERM\n"):rep(2) .. "default\n", helper.plain(
      PRELUDE:gsub("\n", " ") .. [[
      local runner = async.Runner { signals = { "SIGHUP", "TERM" } }
      for _ = 1, 2 do
        local e = thrown(runner.run, runner, function()
          raise "TERM"
          async.sleep(60)
        end)
        print(e.name, e.signal, tostring(e))
      end
      runner:close()
      print(state(15))
    ]], { prefix = PREFIX }))
  end)

  it("say which it was for SIGINT, too", function()
    local out = script([[
      local _ <close> = async.defer(function(e) say(e.name, e.signal, e.message) end)
      raise "INT" raise "INT"
      while true do end
    ]], {})
    assert.equal("KeyboardInterrupt\tSIGINT\tnil\n", out)
  end)

  it("are left alone by other runs and by loops", function()
    assert.equal("default\ncaught\ndefault\n", helper.plain(PRELUDE:gsub("\n", " ") .. [[
      async.run(function() print(state(15)) end)
      local runner <close> = async.Runner { signals = { "TERM" } }
      runner:run(function() print(state(15)) end)
      print(state(15))
    ]], { prefix = PREFIX }))
  end)

  it("are checked", function()
    local async = require "lunation"
    refuses("TypeError", "signals: table expected", async.Runner, { signals = "TERM" })
    refuses("TypeError", { "'signals'", "name of a signal expected, got number" }, async.Runner, { signals = { 15 } })
    for _, name in ipairs { "KILL", "STOP", "CHLD", "SEGV", "SIGFPE", "ABRT", "NONSENSE", "" } do
      refuses("ValueError", { "'signals'", "'" .. name .. "'" }, async.Runner, { signals = { "TERM", name } })
    end
    helper.plain [[
      for _, name in ipairs { "HUP", "QUIT", "USR1", "ALRM", "SIGRTMIN+2", "XCPU", "PWR" } do
        async.Runner({ signals = { name } }):close()
      end
    ]]
  end)
end)

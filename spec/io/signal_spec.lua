-- Signal handlers of the loop: who is called, what is refused, and what the signals do afterwards.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"
local disposition = require "spec.support.disposition"

local refuses, turns = helper.refuses, helper.turns

local function loop() return async.get_running_loop() end

-- The shell's parent is this process.
local function send(name) os.execute("kill -s " .. name .. " $PPID") end

local USR2, INT, WINCH = 12, 2, 28

-- A script of its own under the command -> stdout, stderr, exit code, signal
local function script(text)
  local path = os.tmpname()
  command.write_file(path, text)
  local results = table.pack(command.run { command.lunation, path })
  os.remove(path)
  return table.unpack(results, 1, results.n)
end

describe("add_signal_handler", function()
  it("calls with its arguments, once for each signal, in a callback", function()
    local calls = async.Queue()
    loop():add_signal_handler("SIGUSR1", function(...)
      calls:put_nowait(table.pack(async.current_task(), ...))
    end, 1, nil, "three")
    for _ = 1, 3 do
      send("USR1")
      assert.same({ nil, 1, nil, "three", n = 4 }, calls:get())
    end
    turns()
    assert.equal(0, calls:qsize())
    assert.is_true(loop():remove_signal_handler("SIGUSR1"))
    assert.is_false(loop():remove_signal_handler("SIGUSR1"))
  end)

  it("takes short names and numbers", function()
    local called = async.Event()
    for _, signal in ipairs { "USR2", "SIGUSR2", USR2 } do
      called:clear()
      loop():add_signal_handler(signal, called.set, called)
      send("USR2")
      called:wait()
      assert.is_true(loop():remove_signal_handler(USR2))
    end
  end)

  it("puts a second handler in the place of the first", function()
    local log, done = {}, async.Event()
    loop():add_signal_handler("USR1", function() log[#log + 1] = "first" end)
    loop():add_signal_handler("USR1", function()
      log[#log + 1] = "second"
      done:set()
    end)
    send("USR1")
    done:wait()
    assert.same({ "second" }, log)
    assert.is_true(loop():remove_signal_handler("USR1"))
  end)

  it("may be removed, and replaced, by its own callback", function()
    local replaced, done = async.Event(), async.Event()
    loop():add_signal_handler("USR1", function()
      replaced:set()
      loop():add_signal_handler("USR1", function()
        assert(loop():remove_signal_handler("USR1"))
        done:set()
      end)
    end)
    send("USR1")
    replaced:wait()
    send("USR1")
    done:wait()
    assert.is_false(loop():remove_signal_handler("USR1"))
  end)

  it("reports an error of the callback and goes on", function()
    local n, done = 0, async.Event()
    local reports = helper.reports(function()
      loop():add_signal_handler("USR1", function()
        n = n + 1
        if n == 2 then done:set() end
        error("in the handler", 0)
      end)
      send("USR1")
      helper.eventually(function() return n == 1 end)
      send("USR1")
      done:wait()
      loop():remove_signal_handler("USR1")
    end)
    assert.equal(2, #reports)
    assert.is_truthy(reports[1].message:find("^Exception in callback <"))
    assert.equal("in the handler", reports[1].exception)
    assert.equal("callback", reports[1].kind)
  end)

  it("refuses what cannot be had", function()
    local add = loop().add_signal_handler
    refuses("ValueError", { "add_signal_handler", "SIGNONSENSE" }, add, loop(), "SIGNONSENSE", print)
    refuses("ValueError", "add_signal_handler", add, loop(), 0, print)
    refuses("ValueError", "add_signal_handler", add, loop(), 65, print)
    refuses("RuntimeError", { "SIGKILL", "cannot be caught" }, add, loop(), "KILL", print)
    refuses("RuntimeError", { "SIGSTOP", "cannot be caught" }, add, loop(), "SIGSTOP", print)
    refuses("RuntimeError", "cannot be caught", add, loop(), 9, print)
    refuses("RuntimeError", "SIGCHLD", add, loop(), "CHLD", print)
    refuses("RuntimeError", "cannot be caught", add, loop(), 32, print)
    refuses("ValueError", "remove_signal_handler", loop().remove_signal_handler, loop(), "sigterm")
    assert.is_false(loop():remove_signal_handler("KILL"))
  end)

  it("checks its arguments", function()
    local add = loop().add_signal_handler
    refuses("TypeError", "add_signal_handler", add, 1, "TERM", print)
    refuses("TypeError", { "add_signal_handler", "signal" }, add, loop(), {}, print)
    refuses("TypeError", { "add_signal_handler" }, add, loop(), 1.5, print)
    refuses("TypeError", { "add_signal_handler", "function" }, add, loop(), "TERM", 1)
    refuses("TypeError", "remove_signal_handler", loop().remove_signal_handler, loop())
    local closed = async.new_event_loop()
    closed:close()
    refuses("RuntimeError", "closed", add, closed, "TERM", print)
  end)

  it("puts back what the signal did before", function()
    for _, signal in ipairs { { "USR2", USR2 }, { "WINCH", WINCH }, { "INT", INT } } do
      local before = disposition(signal[2])
      loop():add_signal_handler(signal[1], print)
      assert.equal("caught", disposition(signal[2]))
      loop():add_signal_handler(signal[1], print)
      loop():remove_signal_handler(signal[1])
      assert.equal(before, disposition(signal[2]))
    end
  end)
end)

describe("a signal that was ignored", function()
  it("is ignored again", function()
    local path = os.tmpname()
    command.write_file(path, [[
      local async = require "lunation"
      local loop = async.get_running_loop()
      loop:add_signal_handler("USR1", print, "called")
      loop:remove_signal_handler("USR1")
      os.execute("kill -s USR1 $PPID")
      print("survived")
    ]])
    local stdout, stderr, code = command.run { "sh", "-c", 'trap "" USR1; exec "$0" "$1"', command.lunation, path }
    os.remove(path)
    assert.equal("survived\n", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
  end)
end)

describe("a handler for SIGINT", function()
  it("wins over what a run does on Ctrl-C, until it is removed", function()
    local stdout, stderr, code = script [[
      local async = require "lunation"
      local loop = async.get_running_loop()
      local pressed = async.Event()
      loop:add_signal_handler("SIGINT", pressed.set, pressed)
      io.popen("kill -s INT $PPID"):close() -- os.execute would ignore it
      pressed:wait()
      print("pressed")
      loop:remove_signal_handler("SIGINT")
      io.popen("kill -s INT $PPID"):close() -- os.execute would ignore it
      print(select(2, pcall(async.sleep, 5)).name)
    ]]
    assert.equal("pressed\nCancelledError\n", stdout)
    assert.equal(0, code, stderr)
  end)
end)

describe("a loop that closes", function()
  it("gives the signals back", function()
    local stdout, stderr, code = helper.execute [[
      local loop = async.new_event_loop()
      loop:add_signal_handler("TERM", print, "never")
      loop:add_signal_handler("USR1", print, "never")
      loop:close()
      local again = async.new_event_loop()
      again:run_until_complete(function()
        again:add_signal_handler("USR1", again.stop, again)
        os.execute("kill -s USR1 $PPID")
        async.sleep(0.01)
      end)
    ]]
    assert.equal(1, code)
    assert.is_truthy(stderr:find("stopped", 1, true), stdout .. stderr)
  end)

  it("lets two loops have the same signal", function()
    local stdout = helper.plain [[
      local one, two = async.new_event_loop(), async.new_event_loop()
      local function wait(loop)
        return loop:run_until_complete(function()
          local f = loop:create_future()
          loop:add_signal_handler("USR1", function() if not f:done() then f:set_result(true) end end)
          os.execute("kill -s USR1 $PPID")
          return async.await(f)
        end)
      end
      print(wait(one), wait(two))
      one:close()
      print(wait(two))
      two:close()
    ]]
    assert.equal("true\ttrue\ntrue\n", stdout)
  end)
end)

-- The module signal: tasks that wait for signals, listeners, and what signals do when nobody listens any more.
local async = require "lunation"
local children = require "spec.support.children"
local helper = require "spec.helper"
local command = require "spec.support.command"
local disposition = require "spec.support.disposition"
local signal = require "lunation.signal"

local refuses, turns = helper.refuses, helper.turns

local HUP, USR1, USR2 = 1, 10, 12

-- A task, after the turn in which it begins to wait.
local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns(1)
  return task
end

-- Ends what a test has left waiting, should it be cut.
local function scope(...)
  local tasks = { ... }
  return async.defer(function()
    for _, task in ipairs(tasks) do task:cancel() end
    if #tasks > 0 then async.wait(tasks) end
  end)
end

-- Until the signals sent so far have arrived: they do so in the order of sending.
local function arrived()
  local probe <close> = signal.listen("SIGURG")
  signal.raise("SIGURG")
  probe:next()
end

describe("signal.wait", function()
  it("gives the name of the signal that came", function()
    local one = started(signal.wait, "USR1", "SIGUSR2")
    local two = started(signal.wait, USR2, "USR1")
    local _ <close> = scope(one, two)
    signal.raise("USR2")
    assert.equal("SIGUSR2", async.await(one))
    assert.equal("SIGUSR2", async.await(two))
  end)

  it("waits beside a handler, a listener and other tasks, and all of them get it", function()
    local loop, calls = async.get_running_loop(), 0
    loop:add_signal_handler("USR1", function() calls = calls + 1 end)
    local _ <close> = async.defer(function() loop:remove_signal_handler("USR1") end)
    local listener <close> = signal.listen("USR1")
    local tasks = { started(signal.wait, "USR1"), started(signal.wait, "USR1") }
    local _ <close> = scope(table.unpack(tasks))
    signal.raise("USR1")
    assert.same({ "SIGUSR1", "SIGUSR1", n = 2 }, async.gather(tasks))
    assert.equal("SIGUSR1", listener:next())
    turns()
    assert.equal(1, calls)
  end)

  it("listens as long as it waits, and puts back what was there", function()
    local before = disposition(USR2)
    local task = started(signal.wait, "USR2")
    local _ <close> = scope(task)
    assert.equal("caught", disposition(USR2))
    signal.raise("USR2")
    async.await(task)
    assert.equal(before, disposition(USR2))
  end)

  it("cancelled, leaves nothing behind", function()
    local before = disposition(USR2)
    local task = started(signal.wait, "USR1", "USR2")
    local _ <close> = scope(task)
    task:cancel()
    async.wait { task }
    assert.is_true(task:cancelled())
    assert.equal(before, disposition(USR2))
    assert.equal(before, disposition(USR1))
  end)

  it("cancelled behind the signal, has the signal", function()
    local task = started(signal.wait, "USR1")
    local listener <close> = signal.listen("USR1")
    local _ <close> = scope(task)
    local canceller = started(function()
      listener:next()
      task:cancel()
    end)
    local _ <close> = scope(canceller)
    signal.raise("USR1")
    async.await(canceller)
    assert.equal("SIGUSR1", async.await(task))
  end)

  it("leaves the handler where it was when the last task goes #native", function()
    local loop = async.get_running_loop()
    loop:add_signal_handler("USR1", print)
    local _ <close> = async.defer(function() loop:remove_signal_handler("USR1") end)
    local task = started(signal.wait, "USR1")
    task:cancel()
    async.wait { task }
    assert.equal("caught", disposition(USR1))
    assert.is_true(loop:remove_signal_handler("USR1"))
    assert.equal("default", disposition(USR1))
    assert.is_false(loop:remove_signal_handler("USR1"))
  end)

  it("goes on when the handler is removed", function()
    local loop = async.get_running_loop()
    loop:add_signal_handler("USR1", print)
    local task = started(signal.wait, "USR1")
    local _ <close> = scope(task)
    assert.is_true(loop:remove_signal_handler("USR1"))
    signal.raise("USR1")
    assert.equal("SIGUSR1", async.await(task))
  end)

  it("knows real-time signals #native", function()
    for _, name in ipairs { "SIGRTMIN", "RTMIN+1", "SIGRTMIN+30" } do
      local task = started(signal.wait, name)
      local _ <close> = scope(task)
      signal.raise(name)
      assert.equal("SIG" .. name:gsub("^SIG", ""), async.await(task))
    end
    for _, name in ipairs { "RTMIN+0", "RTMIN+31", "RTMIN+01", "RTMIN+ 1", "RTMIN+1x", "RTMIN-1", "rtmin" } do
      refuses("ValueError", "unknown signal", signal.raise, name)
    end
  end)

  it("refuses what cannot be had #native", function()
    refuses("ValueError", { "'wait'", "SIGNONSENSE" }, signal.wait, "SIGNONSENSE")
    refuses("ValueError", { "#2 to 'wait'", "0" }, signal.wait, "TERM", 0)
    refuses("RuntimeError", { "wait: SIGKILL", "cannot be caught" }, signal.wait, "USR1", "KILL")
    refuses("RuntimeError", { "listen: SIGSTOP", "cannot be caught" }, signal.listen, "STOP")
    refuses("RuntimeError", "SIGCHLD", signal.wait, "CHLD")
    refuses("RuntimeError", "wait: signal 33 cannot be caught", signal.wait, "USR1", 33)
    assert.equal("default", disposition(USR1))
    refuses("TypeError", { "#1 to 'wait'", "name or number of a signal" }, signal.wait)
    refuses("TypeError", { "#2 to 'listen'", "table" }, signal.listen, "TERM", {})
    refuses("TypeError", "#1 to 'wait'", signal.wait, 1.5)
  end)

  it("needs a task, a listener a loop #native", function()
    local e
    async.get_running_loop():call_soon(function() e = helper.thrown(signal.wait, "USR1") end)
    turns()
    assert.equal("RuntimeError", e.name)
    assert.equal("default", disposition(USR1))
    assert.equal("no running event loop\n", helper.plain [[
      local signal = require "lunation.signal"
      print(thrown(signal.listen, "USR1").message)
    ]])
  end)
end)

describe("a listener", function()
  it("keeps what comes between two calls, in order", function()
    local listener <close> = signal.listen("USR1", "USR2")
    for _, name in ipairs { "USR1", "USR2", "USR2", "USR1" } do signal.raise(name) end
    for _, name in ipairs { "USR1", "USR2", "USR2", "USR1" } do assert.equal("SIG" .. name, listener:next()) end
  end)

  it("keeps no more than a bounded number, and none of the names is lost", function()
    local listener <close> = signal.listen("USR1", "USR2")
    for _ = 1, 100 do signal.raise("USR1") end
    signal.raise("USR2")
    arrived()
    for _ = 1, 64 do assert.equal("SIGUSR1", listener:next()) end
    assert.equal("SIGUSR2", listener:next())
    local task = started(listener.next, listener)
    local _ <close> = scope(task)
    assert.is_false(task:done())
    signal.raise("USR1")
    assert.equal("SIGUSR1", async.await(task))
  end)

  it("is iterated until it is closed #native", function()
    local listener <close> = signal.listen("HUP", "USR1")
    local seen = {}
    local task = started(function()
      for name in listener:iter() do
        seen[#seen + 1] = name
        if name == "SIGHUP" then break end
      end
      for name in listener:iter() do seen[#seen + 1] = name end
      return "over"
    end)
    local _ <close> = scope(task)
    for _, name in ipairs { "USR1", "HUP", "USR1" } do signal.raise(name) end
    helper.eventually(function() return #seen == 3 end)
    listener:close()
    assert.equal("over", async.await(task))
    assert.same({ "SIGUSR1", "SIGHUP", "SIGUSR1" }, seen)
    for _ in listener:iter() do error("an iteration of a closed listener") end
  end)

  it("closed, says so and gives the signals back", function()
    local before = disposition(HUP)
    local listener <close> = signal.listen("HUP")
    assert.equal("<Listener open SIGHUP>", tostring(listener))
    assert.equal("caught", disposition(HUP))
    local task = started(listener.next, listener)
    local _ <close> = scope(task)
    listener:close()
    listener:close()
    assert.equal(before, disposition(HUP))
    local e = refuses("OSError", "next SIGHUP: ECANCELED", async.await, task)
    assert.equal("ECANCELED", e.code)
    assert.equal("EBADF", refuses("OSError", "next SIGHUP", listener.next, listener).code)
    assert.equal("<Listener closed SIGHUP>", tostring(listener))
  end)

  it("has one task at a time, and a cancelled one loses no signal", function()
    local listener <close> = signal.listen("USR1")
    local task = started(listener.next, listener)
    local _ <close> = scope(task)
    refuses("RuntimeError", "another task", listener.next, listener)
    task:cancel()
    async.wait { task }
    signal.raise("USR1")
    assert.equal("SIGUSR1", listener:next())
  end)

  it("that always has one gives way now and then", function()
    local one <close>, other = signal.listen("USR1"), nil
    local two <close> = signal.listen("USR1")
    for _ = 1, 64 do signal.raise("USR1") end
    arrived()
    local task = async.create_task(function() other = true end)
    local _ <close> = scope(task)
    for _ = 1, 64 do
      one:next()
      two:next()
    end
    assert.is_true(other)
  end)

  it("dropped unclosed is closed by the collector, and reported in debug mode", function()
    local out = helper.plain [[
      local signal = require "lunation.signal"
      local function caught()
        return io.open "/proc/self/status":read "a":match "SigCgt:%s*%x+(%x)%x%x%x%x%x%x%x" or "?"
      end
      local runner = async.Runner { debug = true }
      runner:run(function()
        async.get_running_loop():set_exception_handler(function(_, c) print(c.message, tostring(c.object)) end)
        do local _ = signal.listen "RTMIN+1" end
        collectgarbage() collectgarbage()
        async.sleep(0)
        do local t = async.create_task(signal.wait, "USR1") async.sleep(0) t:cancel() async.wait { t } end
        collectgarbage() collectgarbage()
        async.sleep(0)
      end)
    ]]
    assert.equal("Handle was never closed\t<Listener closed SIGRTMIN+1>\n", out)
  end)

  it("of another loop is refused, of a closed one is closed", function()
    assert.equal("next: the listener belongs to another event loop\nEBADF\n", helper.plain [[
      local signal = require "lunation.signal"
      local one, two = async.new_event_loop(), async.new_event_loop()
      local listener = one:run_until_complete(function() return signal.listen "USR1" end)
      two:run_until_complete(function() print(thrown(listener.next, listener).message) end)
      one:close()
      two:run_until_complete(function() print(thrown(listener.next, listener).code) end)
      two:close()
    ]])
  end)

  it("left behind by a test is named, and closed", function()
    local dir = command.temp_dir()
    local _ <close> = async.defer(function() command.remove_dir(dir) end)
    command.write_file(dir .. "/left_spec.lua", [[
      local listener
      it("leaves a listener", function() listener = require "lunation.signal".listen "USR1" end)
      it("finds it closed", function() assert.equal("<Listener closed SIGUSR1>", tostring(listener)) end)
    ]])
    local out, _, code = command.run { command.lunation, "test", dir .. "/left_spec.lua" }
    assert.equal(1, code)
    assert.matches("1 success / 1 failure", out, 1, true)
    assert.matches("handle signal, made at " .. dir .. "/left_spec.lua:2", out, 1, true)
  end)
end)

describe("a loop that ends", function()
  it("closes listeners and who waits gets a cancellation", function()
    assert.equal("CancelledError\n<Listener closed SIGUSR1>\ndefault\n", helper.plain [[
      local signal = require "lunation.signal"
      local listener
      async.run(function()
        listener = signal.listen "USR1"
        async.create_task(function() print(thrown(signal.wait, "USR1").name) end)
        async.sleep(0)
      end)
      print(listener)
      local mask = io.open "/proc/self/status":read "a":match "SigCgt:%s*(%x+)"
      print(tonumber(mask, 16) >> 9 & 1 == 1 and "caught" or "default")
    ]])
  end)
end)

describe("SIGINT waited for", function()
  it("does not interrupt the run, until nobody waits any more", function()
    local out, err, code = helper.command([[
      local signal = require "lunation.signal"
      local task = async.create_task(signal.wait, "INT")
      async.sleep(0)
      signal.raise "INT"
      print(async.await(task))
      signal.raise "INT"
      print(pcall(async.sleep, 5))
    ]], { prefix = { "env", "--default-signal=INT" } })
    assert.equal("SIGINT\nfalse\tCancelledError\n", out)
    assert.equal(0, code, err)
  end)
end)

describe("signal.kill", function()
  local pid
  before_each(function() pid = math.tointeger(tonumber(io.popen("sleep 60 >/dev/null & echo $!"):read("l"))) end)
  after_each(function() pcall(signal.kill, pid, "KILL") end)

  it("sends signals by name and number, and 0 only tries", function()
    signal.kill(pid, 0)
    signal.kill(pid, "STOP")
    signal.kill(pid, 18)
    assert.is_false(children.gone(pid))
    signal.kill(pid, "TERM")
    -- Nobody of ours has to wait for it: it is not our child.
    assert.is_true(children.eventually_gone(pid))
  end)

  it("says what went wrong", function()
    local e = refuses("OSError", "kill 2147483647: ESRCH", signal.kill, 2147483647, "TERM")
    assert.equal("ESRCH", e.code)
    refuses("ValueError", { "#2 to 'kill'", "'x'" }, signal.kill, pid, "x")
    refuses("ValueError", "#2 to 'kill'", signal.kill, pid, 65)
    refuses("ValueError", "#1 to 'kill'", signal.kill, 1 << 40, 0)
    refuses("TypeError", "#1 to 'kill'", signal.kill, "1", 0)
    refuses("TypeError", "#2 to 'kill'", signal.kill, pid)
    refuses("ValueError", "#1 to 'raise'", signal.raise, 0)
  end)
end)

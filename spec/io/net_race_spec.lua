-- Connecting to several addresses at once, as RFC 8305 says.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"
local testing = require "lunation.testing"
local net = require "lunation.net"

local refuses, started = helper.refuses, tasks.started

local function loop() return async.get_running_loop() end

local function close_all(list)
  for _, stream in ipairs(list) do stream:close() end
end

-- How many connections wait in the system's queue of who listens to that port of 127.0.0.2.
local function queued(port)
  local listener = (" 0200007F:%04X 00000000:0000 0A "):format(port)
  for line in io.lines("/proc/net/tcp") do
    local _, at = line:find(listener, 1, true)
    if at then return tonumber(line:match("^%x+:(%x+)", at + 1), 16) end
  end
end

-- with_hole(fn): fn(port, server), where 127.0.0.1 serves and attempts to reach 127.0.0.2 hang, since nobody accepts
-- and the system's queue is full: one more than the backlog.
local function with_hole(fn)
  local server <close> = net.listen("127.0.0.1", 0)
  local port = server:address().port
  local _ <close> = net.listen("127.0.0.2", port, { backlog = 1 })
  local full <close> = setmetatable({}, { __close = close_all })
  for i = 1, 2 do full[i] = net.connect("127.0.0.2", port) end
  assert.is_true(helper.eventually(function() return queued(port) == 2 and loop():stats().requests == 0 end))
  return fn(port, server)
end

-- Connects in a task, while time stands; -> task, clock
local function connecting(list, port, options)
  local clock = testing.clock { autojump = false }
  return started(net.connect, list, port, options), clock
end

describe("connect to a list of addresses", function()
  it("takes the one that works", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local port = server:address().port
    local stream <close> = net.connect({ "127.0.0.3", "::1", "127.0.0.1" }, port)
    assert.same({ host = "127.0.0.1", port = port, family = "inet" }, stream:peer())
    server:accept():close()
  end)

  it("tries families in turn and tells of all failures", function()
    local port = sockets.dead_port()
    local list = { "127.0.0.3", "127.0.0.4", "127.0.0.5", "::1", "::1" }
    local e = refuses("OSError", "connect 127.0.0.3:" .. port, net.connect, list, port)
    local tried = {}
    for i, cause in ipairs(e.causes) do tried[i] = cause.address:match("^(.*):%d+$") end
    assert.same({ "127.0.0.3", "[::1]", "127.0.0.4", "[::1]", "127.0.0.5" }, tried)
    e = refuses("OSError", "connect [::1]:" .. port, net.connect, { "::1", "::1", "127.0.0.3" }, port)
    for i, cause in ipairs(e.causes) do tried[i] = cause.address:match("^(.*):%d+$") end
    assert.same({ "[::1]", "127.0.0.3", "[::1]" }, { table.unpack(tried, 1, 3) })
  end)

  it("checks the list", function()
    refuses("ValueError", { "#1", "connect", "1 to 64" }, net.connect, {}, 80)
    local many = {}
    for i = 1, 65 do many[i] = "127.0.0.1" end
    refuses("ValueError", { "#1", "connect", "1 to 64" }, net.connect, many, 80)
    refuses("ValueError", { "#1", "connect", "'localhost' at place 2" }, net.connect, { "::1", "localhost" }, 80)
    refuses("ValueError", { "#1", "connect", "place 1" }, net.connect, { 1 }, 80)
    refuses("TypeError", { "#3", "happy_eyeballs_delay" }, net.connect, "::1", 80, { happy_eyeballs_delay = "1" })
    refuses("TypeError", { "#3", "happy_eyeballs_delay" }, net.connect, "::1", 80, { happy_eyeballs_delay = 0 / 0 })
    refuses("ValueError", { "#3", "family" }, net.connect, "::1", 80, { family = "six" })
  end)
end)

describe("an attempt that hangs #real", function()
  it("is overtaken by the next one after a while", function()
    with_hole(function(port, server)
      local before = loop():stats()
      local task, clock <close> = connecting({ "127.0.0.2", "127.0.0.1" }, port, { happy_eyeballs_delay = 60 })
      clock:advance(59.9)
      assert.equal(1, loop():stats().requests)
      clock:advance(0.2)
      local stream <close> = async.await(task)
      assert.equal("127.0.0.1", stream:peer().host)
      clock:close()
      server:accept():close()
      -- The one that hung is closed.
      assert.is_true(helper.eventually(function() return loop():stats().handles <= before.handles + 1 end))
      assert.equal(0, loop():stats().requests)
    end)
  end)

  it("is overtaken after a quarter of a second unless told otherwise", function()
    with_hole(function(port)
      local task, clock <close> = connecting({ "127.0.0.2", "127.0.0.1" }, port)
      clock:advance(0.249)
      assert.equal(1, loop():stats().requests)
      clock:advance(0.002)
      async.await(task):close()
    end)
  end)

  it("is overtaken at once when the one behind it fails, by the one behind that", function()
    with_hole(function(port)
      local list = { "127.0.0.2", "127.0.0.3", "127.0.0.1" }
      local task, clock <close> = connecting(list, port, { happy_eyeballs_delay = 60 })
      clock:advance(60.1)
      async.await(task):close()
    end)
  end)

  it("leaves what has failed in the TimeoutError", function()
    with_hole(function(port)
      local options = { timeout = 60, happy_eyeballs_delay = 1 }
      local task, clock <close> = connecting({ "127.0.0.2", "127.0.0.3" }, port, options)
      clock:advance(1.1)
      repeat async.sleep(0) until loop():stats().requests == 1 -- the other one is refused at once
      clock:advance(60)
      clock:close()
      local e = refuses("TimeoutError", "127.0.0.2", async.await, task)
      assert.equal(1, #e.causes)
      assert.equal("connect 127.0.0.3:" .. port .. ": ECONNREFUSED", e.causes[1].message)
      local never = { timeout = 0.05, happy_eyeballs_delay = math.huge }
      assert.is_nil(refuses("TimeoutError", {}, net.connect, { "127.0.0.2", "127.0.0.1" }, port, never).causes)
    end)
  end)

  it("is closed when the task is cancelled, with all others", function()
    with_hole(function(port)
      local before = loop():stats().handles
      for _, pause in ipairs { 0, 0.005, 0.03 } do
        local task = async.create_task(net.connect, { "127.0.0.2", "127.0.0.2", "127.0.0.2" }, port,
          { happy_eyeballs_delay = 0.001 })
        async.sleep(pause)
        task:cancel()
        async.wait { task }
        assert.is_true(task:cancelled())
      end
      assert.is_true(helper.eventually(function() return loop():stats().handles <= before end))
      assert.equal(0, loop():stats().requests)
    end)
  end)

  it("does not keep a loop that closes", function()
    local out = helper.plain [[
      local net = async.net
      local began = os.time()
      async.run(function()
        local hole = net.listen("127.0.0.2", 0, { backlog = 1 })
        local list = { "127.0.0.2", "127.0.0.2" }
        for _ = 1, 8 do
          async.create_task(net.connect, list, hole:address().port, { happy_eyeballs_delay = 0 })
        end
        async.sleep(0.02)
      end)
      print(os.time() - began < 10)
    ]]
    assert.equal("true\n", out)
  end)
end)

describe("attempts that succeed at the same time", function()
  it("leave one connection", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local port = server:address().port
    local before = loop():stats()
    local list = { "127.0.0.1", "127.0.0.1", "127.0.0.1" }
    for _ = 1, 20 do
      local stream <close> = net.connect(list, port, { happy_eyeballs_delay = 0 })
      stream:write("it is me\n")
      stream:shutdown()
      local greeted = 0
      repeat
        local peer <close> = server:accept()
        if peer:read("a") ~= "" then greeted = greeted + 1 end
      until greeted == 1
    end
    assert.is_true(helper.eventually(function() return loop():stats().handles <= before.handles end))
    assert.equal(before.requests, loop():stats().requests)
  end)
end)

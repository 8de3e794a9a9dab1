-- Thousands of everything that can be opened, dropped without close: the collector closes them, no descriptor and no
-- child is left, memory stays what it was, and where somebody wants to hear of it each is reported with the line that
-- made it.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local command = require "spec.support.command"
local helper = require "spec.helper"
local peers = require "spec.support.peers"
local probe = require "lunation.probe"
local fs, net, process, signal = async.fs, async.net, async.process, async.signal
local testing = require "lunation.testing"

local function loop() return async.get_running_loop() end

local place -- for what is made: a folder, certificates

-- Each makes about n things and drops them; -> how many descriptors there must be then, and how many are reported.
local kinds = {}

kinds.listeners = function(n)
  for _ = 1, n do net.listen("127.0.0.1", 0) end
  return n, n
end

kinds.tcp = function(n)
  local server <close> = net.listen("127.0.0.1", 0)
  local port = server:address().port
  for _ = 1, n // 2 do
    net.connect("127.0.0.1", port)
    server:accept()
  end
  return n, n // 2 * 2
end

kinds.unix = function(n)
  local path = place .. "/socket"
  local server <close> = net.listen_unix(path)
  for _ = 1, n // 2 do
    net.connect_unix(path)
    server:accept()
  end
  return n, n // 2 * 2
end

kinds.udp = function(n)
  for _ = 1, n do net.udp { host = "127.0.0.1" } end
  return n, n
end

kinds.files = function(n)
  for _ = 1, n do fs.open(place .. "/file") end
  return n, n
end

kinds.pipes = function(n)
  for _ = 1, n // 2 do process.pipe() end
  return n, n // 2 * 2
end

kinds.watches = function(n)
  for _ = 1, n do fs.watch(place.path) end
  return 0, n
end

kinds.signals = function(n)
  for _ = 1, n do signal.listen("SIGUSR1") end
  return 0, n
end

kinds.memory = function(n)
  for _ = 1, n // 2 do testing.stream_pair() end
  return 0, n // 2 * 2
end

-- What has been written and read stands in buffers.
kinds["streams in the middle of something"] = function(n)
  local server <close> = net.listen("127.0.0.1", 0)
  local port = server:address().port
  for _ = 1, n // 2 do
    local client = net.connect("127.0.0.1", port)
    local peer = server:accept()
    client:write(("x"):rep(30000))
    peer:read_until("x")
  end
  return n, n // 2 * 2
end

kinds.tls = function(n)
  local server <close> = net.listen("127.0.0.1", 0, { tls = place.context })
  local port = server:address().port
  for _ = 1, n // 2 do
    local accepting = async.create_task(function()
      local peer = server:accept()
      return peer
    end)
    net.connect("127.0.0.1", port, { tls = place.trusting })
    async.await(accepting)
  end
  return n, n // 2 * 2
end

kinds.processes = function(n)
  for _ = 1, n do process.spawn("sleep", { "100" }, { stdin = "null", stdout = "pipe", stderr = "null" }) end
  return n, 2 * n -- the stream, too
end

local CHILDREN = ("/proc/self/task/%d/children"):format(io.open("/proc/self/stat"):read("n"))

local function children()
  local n = 0
  for _ in assert(command.slurp(CHILDREN)):gmatch("%d+") do n = n + 1 end
  return n
end

local function collect()
  collectgarbage()
  helper.turns(3)
  async.sleep(0.002)
end

-- Collects until there are as many descriptors and children as before; false: it takes too long.
local function gone(before, processes)
  for i = 1, 200 do
    collect()
    if i > 1 and peers.descriptors() <= before and children() <= processes then return true end
  end
  return false
end

-- Collects until that changes nothing; how many descriptors and children there are.
local function settled()
  local calm, before, processes = 0, 0, 0
  while calm < 10 do
    collect()
    calm = peers.descriptors() == before and children() == processes and calm + 1 or 0
    before, processes = peers.descriptors(), children()
  end
  return before, processes
end

-- A build that collects at every await does not leave it to us.
local function collects_by_itself()
  collectgarbage("stop")
  local weak = setmetatable({ {} }, { __mode = "v" })
  async.sleep(0)
  collectgarbage("restart")
  return weak[1] == nil
end

describe("what is dropped without close", function()
  lazy_setup(function()
    place = peers.folder()
    fs.write_file(place .. "/file", "content", { sync = false })
    place.certificates = certificates.make()
    local tls = require "lunation.tls"
    place.context = tls.context(place.certificates:pair "server")
    place.trusting = tls.context { ca = place.certificates:path "ca.pem" }
  end)

  lazy_teardown(function()
    place.certificates:remove()
    getmetatable(place).__close()
  end)

  -- total, in rounds of so many; KiB that memory may grow by
  local amounts = {
    -- Their buffers leave holes behind in the heap; all of them would be 150 MB.
    ["streams in the middle of something"] = { 10000, 500, 16000 },
    processes = { 200, 40 }, tls = { 600, 60 }, watches = { 2000, 200 }, signals = { 10000, 500 },
    listeners = { 4000, 500 },
  }

  for name, make in pairs(kinds) do
    it("is closed by the collector: " .. name .. " #real #nosweep", function()
      local total, round, growth = table.unpack(amounts[name] or { 10000, 500 })
      total, round = helper.scaled(total, round), helper.scaled(round, 10)
      helper.without_sites(function()
        make(10)
        local before, processes = settled()
        local handles, base, resident = loop():stats().handles, nil, nil
        local eager = collects_by_itself()
        collectgarbage("stop")
        for i = 1, total // round do
          local descriptors = make(round)
          local now = peers.descriptors()
          -- What went before may have left one or two for later.
          assert.is_true(eager or now >= before + descriptors - 3, ("%d, then %d: not open"):format(before, now))
          collectgarbage("restart")
          assert.is_true(gone(before, processes), "descriptors or children are left")
          collectgarbage("stop")
          if i == 2 then base, resident = collectgarbage("count"), peers.resident() end
        end
        collectgarbage("restart")
        assert.is_true(helper.eventually(function()
          collect()
          return loop():stats().handles <= handles
        end))
        if base then
          assert.is_true(collectgarbage("count") - base < 200, "Lua's memory grows")
          assert.is_true(peers.resident() - resident < (growth or 3000), "memory grows")
        end
      end)
    end)

    it("is reported with the line that made it: " .. name .. " #real #nosweep", function()
      local expected
      local reports = helper.reports(function()
        local sites = probe.sites(true)
        local _ <close> = async.defer(function() probe.sites(sites) end)
        expected = select(2, make(20))
        for _ = 1, 10 do
          collectgarbage()
          helper.turns(3)
        end
        async.sleep(0.01)
      end)
      local leaks = 0
      for _, context in ipairs(reports) do
        assert.equal("leak", context.kind)
        assert.truthy(context.message:find("never closed", 1, true), context.message)
        assert.truthy(tostring(context.source_traceback):find("dropped_spec.lua:%d+"), context.source_traceback)
        leaks = leaks + 1
      end
      assert.equal(expected, leaks)
    end)
  end

  it("is nothing to a timer: each call comes, and takes no memory afterwards", function()
    local calls, base = 0, nil
    local function call() calls = calls + 1 end
    local total = helper.scaled(10000, 500)
    for i = 1, 5 do
      for k = 1, total // 5 do loop():call_later(k * 1e-7, call) end
      assert.is_true(helper.eventually(function() return calls == i * (total // 5) end))
      collectgarbage()
      base = base or collectgarbage("count")
    end
    assert.equal(0, loop():stats().timers)
    assert.is_true(collectgarbage("count") - base < 100)
  end)

  it("ends the scope of a timeout that was never closed", function()
    local total = helper.scaled(10000, 500)
    local before = loop():stats().timers
    async.await(async.create_task(function()
      for _ = 1, total do async.timeout(1000) end
      collectgarbage()
    end))
    assert.is_true(helper.eventually(function()
      collectgarbage()
      return loop():stats().timers <= before
    end, 1))
  end)
end)

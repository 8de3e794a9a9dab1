-- A storm: tasks that do anything to any stream, of every kind, in an order drawn from a seed: read, write, copy, half close,
-- close, go over to TLS, be cancelled, run out of time, drop what they hold, while the collector runs and the bytes
-- come in small pieces. Every call ends, in a result or an error of ours; nothing is left.
--
-- LUNATION_LONG=1: for minutes, from a seed drawn from the clock, which a failure names.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local helper = require "spec.helper"
local peers = require "spec.support.peers"
local probe = require "lunation.probe"
local net, process, tls = async.net, async.process, async.tls

local LONG = os.getenv "LUNATION_LONG" == "1"
local TEXT = ("abcdefghij\n"):rep(20000)
local TASKS, OPERATIONS = 10, 15

local random = math.random
local function pick(list) return list[random(#list)] end

local made, contexts
local makers, streams

local function pair_of(server, connect)
  local accepting = async.create_task(function()
    local peer = server:accept()
    return peer
  end)
  local ok, client = pcall(connect)
  if not ok then
    accepting:cancel()
    async.wait { accepting }
    error(client, 0)
  end
  return client, async.await(accepting)
end

makers = {
  function()
    local server <close> = net.listen("127.0.0.1", 0)
    return pair_of(server, function() return net.connect("127.0.0.1", server:address().port) end)
  end,
  function()
    local server <close> = net.listen_unix("\0lunation" .. tostring({}))
    return pair_of(server, function() return net.connect_unix(server:address().path) end)
  end,
  function()
    local server <close> = net.listen("127.0.0.1", 0, { tls = contexts.server })
    return pair_of(server, function() return net.connect("127.0.0.1", server:address().port, { tls = contexts.client }) end)
  end,
  function() return async.testing.stream_pair() end,
  process.socketpair,
  process.pipe,
  function()
    local child = process.spawn("cat", {}, { stdin = "pipe", stdout = "pipe", stderr = "null" })
    return child.stdin, child.stdout
  end,
}

-- Any of those that are left, or nil.
local function any()
  local list = {}
  for i = 1, 2 * 6 do list[#list + 1] = streams[i] end
  return #list > 0 and pick(list) or nil
end

local operations = {
  function(s) return s:read(pick { "l", "L", "n", 0 }) end,
  function(s) return s:read(random(50000)) end,
  function(s) return s:read_some(random(3) == 1 and random(10) or nil) end,
  function(s) return s:peek(random(100)) end,
  function(s) return s:read_until("j\na", 100000) end,
  function(s) return s:read("l", 5, "L") end,
  function(s) for _ in s:lines() do if random(3) == 1 then break end end end,
  function(s) return random(20) == 1 and s:read("a") end,
  function(s) return s:write(TEXT:sub(1, random(100)), 12, TEXT:sub(1, 10)) end,
  function(s) return s:write(TEXT:sub(1, random(#TEXT))) end,
  function(s) return s:write(TEXT) end,
  function(s) return random(4) == 1 and s:shutdown() end,
  function(s) return random(6) == 1 and s:close() end,
  function(s) return s:copy_to(any(), { max = random(2) == 1 and random(50000) or nil }) end,
  function(s)
    if random(5) > 1 then return end
    return s:start_tls { context = contexts[pick { "client", "server" }], server = random(2) == 1, server_name = "localhost" }
  end,
  function(s) return s:handshake() end,
  function(s) return s:peer(), s:sock(), tostring(s), s:tls() end,
}

-- Does one thing; errors that are not ours are.
local function operate()
  local s = any()
  if not s then return end
  local ok, e = pcall(function()
    local _ <close> = async.timeout(random(4) == 1 and random(20) / 1000 or 0.1)
    return pick(operations)(s)
  end)
  if ok then return end
  assert(async.isinstance(e, async.Error) or async.isinstance(e, async.CancelledError), tostring(e))
  if async.isinstance(e, async.CancelledError) then error(e, 0) end
end

local function work(tasks)
  for _ = 1, OPERATIONS do
    operate()
    if random(8) == 1 then collectgarbage() end
    if random(5) == 1 then async.sleep(0) end
    if random(10) == 1 then tasks[random(TASKS)]:cancel() end
    if random(30) == 1 then streams[random(2 * 6)] = nil end
  end
end

local function storm(seed)
  math.randomseed(seed)
  streams = {}
  for i = 1, 6 do streams[2 * i - 1], streams[2 * i] = pick(makers)() end
  if random(3) == 1 then probe.short_io(random(3), 1000) end
  local tasks = {}
  for i = 1, TASKS do tasks[i] = async.create_task(work, tasks) end
  local _, pending = async.wait(tasks, { timeout = 20 * helper.slow })
  probe.short_io()
  assert(#pending == 0, "seed " .. seed .. ": a call does not end:\n" .. tostring(pending[1]))
  for _, task in ipairs(tasks) do
    if not task:cancelled() and task:exception() then
      error(("seed %d: %s"):format(seed, tostring(task:exception())), 0)
    end
  end
  for _, s in pairs(streams) do s:close() end
  streams = {}
end

describe("a storm #real #nosweep", function()
  lazy_setup(function()
    made = certificates.make()
    contexts = { server = tls.context(made:pair "server"), client = tls.context { ca = made:path "ca.pem" } }
  end)
  lazy_teardown(function() made:remove() end)

  it("ends, and leaves nothing behind", function()
    local first, before = LONG and os.time() or 1, async.get_running_loop():stats().tasks
    helper.without_sites(function()
      storm(first)
      peers.keeps_descriptors(function()
        for seed = first + 1, first + (LONG and 1000 or helper.scaled(12, 3)) do storm(seed) end
      end)
    end)
    local stats
    assert.is_true(helper.eventually(function()
      stats = async.get_running_loop():stats()
      return stats.requests == 0 and stats.tasks <= before
    end))
  end)
end)

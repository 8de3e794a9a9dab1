-- Every fault at every byte of an exchange over real sockets: both ends get what was sent before it, then the end of the
-- stream, an error of the connection, or nothing more; nobody hangs, and nothing is left.
--
-- A proxy stands between the two and does it: spec/support/python/fault_proxy.py.
local async = require "lunation"
local helper = require "spec.helper"
local faults = require "spec.support.peers_faults"
local peers = require "spec.support.peers"
local probe = require "lunation.probe"
local net = async.net

-- Runs the exchange with a fault at every byte that `side` sends and at the end of them, and judges the results.
local function sweep(setup, kind, side, seconds, judge)
  local words = faults.said_by(side)
  local before = async.get_running_loop():stats()
  for n = 0, #words do
    local client, server = setup:exchange(kind, side, n, seconds)
    local where = ("%s after %d bytes of the %s"):format(kind, n, side)
    assert(client and server, where .. ": nobody may hang")
    for _, result in ipairs { client, server } do
      assert(faults.is_sound(result.read_error), where .. ": " .. tostring(result.read_error))
      assert(faults.is_sound(result.write_error), where .. ": " .. tostring(result.write_error))
      assert(result.ended or result.read_error, where)
    end
    local receiver = side == "client" and server or client
    judge(receiver, words:sub(1, n), where, side == "client" and client or server)
  end
  local left
  local function clean()
    left = async.get_running_loop():stats()
    return left.handles <= before.handles and left.requests == before.requests and left.timers <= before.timers
      and left.tasks == before.tasks
  end
  assert.is_true(helper.eventually(clean, 2))
end

for _, case in ipairs { { "tcp" }, { "unix" }, { "tcp", 1 }, { "unix", 2 } } do
  local family, size = table.unpack(case)
  local how = size and (", %d bytes at a time"):format(size) or ""

  describe("a fault at each byte of an exchange over " .. family .. how .. " #real", function()
    local proxy, exchange

    lazy_setup(function() proxy = faults.proxy() end)
    lazy_teardown(function() proxy:stop() end)

    before_each(function()
      exchange = faults.setup(proxy, family)
      probe.short_io(size)
    end)
    after_each(function()
      probe.short_io()
      exchange:close()
    end)

    for _, side in ipairs { "client", "server" } do
      it("of which there is none: all is said and heard, " .. side, function()
        local client, server = exchange:exchange("reset", side, 1000, 5)
        assert.equal(faults.said_by "server", client.received)
        assert.equal(faults.said_by "client", server.received)
        assert.is_true(client.ended and server.ended)
      end)

      it("the end of the " .. side .. ": what was sent before, then the end", function()
        peers.keeps_descriptors(sweep, exchange, "close", side, 5, function(receiver, sent, where)
          assert.equal(sent, receiver.received, where)
        end)
      end)

      it("half an end of the " .. side .. ": the other half goes on", function()
        sweep(exchange, "half", side, 5, function(receiver, sent, where, sender)
          assert.equal(sent, receiver.received, where)
          assert.is_true(receiver.ended, where)
          assert.is_nil(sender.read_error, where)
        end)
      end)

      it("a reset of the " .. side .. ": what was sent before, then the error", function()
        peers.keeps_descriptors(sweep, exchange, "reset", side, 5, function(receiver, sent, where)
          -- A reset that overtakes the bytes may take them along in the system, but never changes them.
          assert.equal(sent:sub(1, #receiver.received), receiver.received, where)
          assert.is_true(receiver.read_error ~= nil or receiver.write_error ~= nil or family == "unix", where)
        end)
      end)

      it("garbage from the " .. side .. ": it comes behind what was sent", function()
        sweep(exchange, "garbage", side, 5, function(receiver, sent, where)
          assert.equal(sent, receiver.received:sub(1, #sent), where)
          assert.is_true(receiver.ended, where)
          assert.equal(#sent + 64, #receiver.received, where)
        end)
      end)

      it("silence of the " .. side .. ": a deadline ends the wait, and nothing is left", function()
        local ns = {}
        for n = 0, #faults.said_by(side) - 1 do ns[#ns + 1] = n end
        peers.keeps_descriptors(function()
          async.map(ns, function(n)
            local client, server = exchange:exchange("silent", side, n, 0.1 * math.min(helper.slow, 5))
            assert.is_nil(client)
            assert.is_nil(server)
          end)
        end)
        assert.equal(0, async.get_running_loop():stats().requests)
      end)
    end
  end)
end

describe("a reader", function()
  local function pair()
    local server <close> = net.listen("127.0.0.1", 0)
    local client = net.connect("127.0.0.1", server:address().port)
    return client, server:accept()
  end

  -- Writes until that fails.
  local function write_on(stream)
    return helper.thrown(function()
      for _ = 1, 10000 do
        stream:write("x")
        async.sleep(0.001)
      end
    end)
  end

  it("hears of a reset that a write was told of first: it is no end #real", function()
    local client, peer = pair()
    local _ <close> = client
    client:write("unread")
    async.sleep(0.01)
    peer:close() -- with bytes unread: a reset
    assert.equal("ECONNRESET", write_on(client).code)
    for _, format in ipairs { "l", "a", 1 } do
      assert.equal("ECONNRESET", helper.thrown(client.read, client, format).code)
    end
  end)

  it("gets the end that came before what it wrote was refused #real", function()
    for _, first in ipairs { "read", "write" } do
      local client, peer = pair()
      local _ <close> = client
      peer:write("bye\n")
      peer:close()
      async.sleep(0.01)
      client:write("too late")
      async.sleep(0.01)
      if first == "write" then assert.equal("EPIPE", write_on(client).code) end
      assert.equal("bye", client:read("l"))
      assert.is_nil(client:read("l"))
      assert.equal("", client:read("a"))
      if first == "read" then assert.equal("EPIPE", write_on(client).code) end
    end
  end)
end)

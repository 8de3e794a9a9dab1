-- A relay of ours between real peers, in both directions with copy_to: nothing is lost, half closes and ends pass on, a slow
-- reader slows the source down, and who leaves takes the other one along.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local faults = require "spec.support.peers_faults"
local helper = require "spec.helper"
local http = require "spec.support.peers_http"
local nginx = require "spec.support.nginx"
local peers = require "spec.support.peers"
local probe = require "lunation.probe"
local net, tls = async.net, async.tls

local BIG = 8 * 1024 * 1024

-- Passes on in one direction; an error ends the other one, too.
local function pass(from, to, bytes)
  local ok, result = async.pcall(from.copy_to, from, to, { shutdown = true })
  if ok then
    bytes[#bytes + 1] = result
  else
    bytes.error = bytes.error or result
    from:close()
    to:close()
  end
end

-- relaying(connect, fn, options): fn(port, outcomes) beside a relay to what connect() gives; outcomes: for each connection
-- the bytes in both directions, in the order in which they ended, or the first `error`.
local function relaying(connect, fn, options)
  local outcomes = {}
  return peers.serving(function(client)
    local target <close> = connect()
    local bytes = {}
    async.gather { function() pass(client, target, bytes) end, function() pass(target, client, bytes) end }
    outcomes[#outcomes + 1] = bytes
  end, function(port) return fn(port, outcomes) end, options)
end

describe("a relay of ours #real", function()
  local server, big

  lazy_setup(function()
    big = peers.bytes(1024):rep(BIG // 1024)
    server = nginx.start { big = big, small = "small", huge = big:rep(5) } -- more than all the buffers of the system
  end)
  lazy_teardown(function() server:stop() end)

  local function to_nginx() return net.connect("127.0.0.1", server.port) end

  it("passes on answers of nginx to curl", function()
    relaying(to_nginx, function(port, outcomes)
      for _ = 1, 2 do
        local out = peers.run { "curl", "-sS", ("http://127.0.0.1:%d/big"):format(port) }
        assert.is_true(out == big)
      end
      assert.is_true(helper.eventually(function() return #outcomes == 2 end))
      for _, bytes in ipairs(outcomes) do
        table.sort(bytes)
        assert.is_true(bytes[1] > 50 and bytes[1] < 1000)
        assert.is_true(bytes[2] > BIG and bytes[2] < BIG + 1000)
      end
    end)
  end)

  it("takes TLS off for a server that has none", function()
    local made <close> = certificates.make()
    relaying(to_nginx, function(port)
      local out = peers.run { "curl", "-sS", "--cacert", made:path "ca.pem", ("https://localhost:%d/big"):format(port) }
      assert.is_true(out == big)
    end, { tls = tls.context(made:pair "server") })
  end)

  it("passes half closes on, both ways", function()
    local sort <close> = peers.socat("TCP-LISTEN:0,bind=127.0.0.1,backlog=64,fork", "EXEC:sort")
    relaying(function() return net.connect("127.0.0.1", sort.port) end, function(port, outcomes)
      for i = 1, 5 do
        local stream <close> = net.connect("127.0.0.1", port)
        stream:write("c\nb\n", i, "\n")
        stream:shutdown()
        assert.equal(i .. "\nb\nc\n", stream:read("a"))
      end
      assert.is_true(helper.eventually(function() return #outcomes == 5 end))
      assert.same({ 6, 6 }, outcomes[5])
    end)
  end)

  it("holds no more than a piece for a slow reader", function()
    relaying(to_nginx, function(port)
      local stream <close> = net.connect("127.0.0.1", port)
      stream:write(http.request("/huge"))
      stream:read_until("\r\n\r\n")
      local before, got = peers.resident(), 0
      async.sleep(0.3)
      assert.is_true(peers.resident() - before < 3000)
      while got < 5 * BIG do
        local piece = stream:read_some()
        local at = got % BIG
        assert(piece == big:sub(at + 1, at + #piece) or at + #piece > BIG, "the bytes are others")
        got = got + #piece
      end
    end)
  end)

  it("ends when either side leaves in the middle", function()
    peers.keeps_descriptors(relaying, to_nginx, function(port, outcomes)
      for i = 1, 10 do
        local stream = net.connect("127.0.0.1", port)
        stream:write(http.request("/big"))
        stream:read(i * 10000)
        stream:close()
      end
      assert.is_true(helper.eventually(function() return #outcomes == 10 end))
      for _, bytes in ipairs(outcomes) do
        local e = bytes.error
        assert.is_true(e.code == "EPIPE" or e.code == "ECONNRESET", tostring(e))
        assert.is_true(e.syscall == "write" or e.syscall == "read", tostring(e))
      end
    end)
  end)

  it("passes on what is asked in pieces of any size", function()
    for _, size in ipairs { 1, 7, 1000 } do
      probe.short_io(size)
      local _ <close> = async.defer(function() probe.short_io() end)
      relaying(to_nginx, function(port)
        local stream <close> = net.connect("127.0.0.1", port)
        for _ = 1, 3 do assert.equal("small", http.get(stream, "/small").body) end
      end)
    end
  end)

  -- Client and server talk through the proxy and the relay behind it.
  it("is broken at any byte: what came before it arrives, and nobody hangs", function()
    local proxy <close> = faults.proxy()
    for _, kind in ipairs { "close", "reset", "half" } do
      for _, side in ipairs { "client", "server" } do
        local exchange = faults.setup(proxy, "tcp")
        local _ <close> = async.defer(function() exchange:close() end)
        local real = exchange.server
        relaying(function() return net.connect("127.0.0.1", real:address().port) end, function(port)
          exchange.target = port
          for n = 0, #faults.said_by(side) do
            local where = ("%s after %d bytes of the %s"):format(kind, n, side)
            local results = {}
            results.client, results.server = exchange:exchange(kind, side, n, 5 * helper.slow)
            assert(results.client and results.server, where .. ": nobody may hang")
            local receiver = results[side == "client" and "server" or "client"]
            local sent = faults.said_by(side):sub(1, n)
            assert.equal(sent:sub(1, #receiver.received), receiver.received, where)
            if kind ~= "reset" then assert.equal(sent, receiver.received, where) end
          end
        end)
      end
    end
  end)
end)

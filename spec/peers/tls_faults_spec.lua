-- Faults in the bytes of TLS over real sockets: in the handshake and behind it, an end that the other side has not said is
-- an error, never an end; what is heard is what was said; nobody hangs, and nothing is left.
--
-- Some bytes out of all, or, with LUNATION_LONG=1, each of them.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local faults = require "spec.support.peers_faults"
local helper = require "spec.helper"
local peers = require "spec.support.peers"

local LONG = os.getenv "LUNATION_LONG" == "1"
local POINTS = helper.scaled(40, 8)

for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
  describe("a fault in the bytes of " .. version .. " #real", function()
    local made, proxy, exchange, contexts

    lazy_setup(function()
      proxy = faults.proxy()
      made = certificates.make()
      local tls = require "lunation.tls"
      local server = made:pair "server"
      server.min_version, server.max_version = version, version
      contexts = { server = tls.context(server), client = tls.context { ca = made:path "ca.pem" } }
    end)
    lazy_teardown(function()
      made:remove()
      proxy:stop()
    end)

    before_each(function()
      exchange = faults.setup(proxy, "tcp", function(stream, side)
        local mine = side == "server"
        stream:start_tls { context = contexts[side], server = mine, server_name = not mine and "localhost" or nil }
      end)
    end)
    after_each(function() exchange:close() end)

    -- The exchange with the fault at points from all over the handshake and the talk, until it comes too late.
    local function sweep(kind, side)
      local n, faulty, whole = 0, 0, 0
      while whole < 3 do
        assert(n < 10000, "the exchange never gets through")
        local results = {}
        results.client, results.server = exchange:exchange(kind, side, n, 5 * helper.slow)
        local where = ("%s after %d bytes of the %s"):format(kind, n, side)
        assert(results.client and results.server, where .. ": nobody may hang")
        local ends = 0
        for name, result in pairs(results) do
          for _, e in pairs { result.read_error, result.write_error } do
            assert(async.isinstance(e, async.OSError) and type(e.code) == "string", where .. ": " .. tostring(e))
          end
          local all = faults.said_by(name == "client" and "server" or "client")
          assert.equal(all:sub(1, #result.received), result.received, where)
          -- Who says what is broken is told of it by the other one, who gives up and may say goodbye.
          assert(not result.ended or name == side or result.received == all, where .. ": an end that nobody said")
          if result.ended and result.received == all then ends = ends + 1 end
        end
        faulty, whole = faulty + 1, ends == 2 and whole + 1 or 0
        n = n + ((LONG or faulty < 5 or whole > 0) and 1 or 2500 // POINTS)
      end
      assert.is_true(faulty > 6, faulty .. " faults")
    end

    for _, side in ipairs { "client", "server" } do
      for _, kind in ipairs { "close", "reset", "half", "garbage" } do
        it(("%s of the %s: an error that says so"):format(kind, side), function()
          peers.keeps_descriptors(sweep, kind, side)
          assert.equal(0, async.get_running_loop():stats().requests)
        end)
      end

      it("silence of the " .. side .. ": a deadline ends the wait, and nothing is left", function()
        local ns = {}
        for n = 0, 1000, LONG and 1 or 2500 // POINTS do ns[#ns + 1] = n end
        peers.keeps_descriptors(async.map, ns, function(n)
          exchange:exchange("silent", side, n, 0.2 * math.min(helper.slow, 5))
        end)
      end)
    end
  end)
end

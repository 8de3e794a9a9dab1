-- A stream with TLS is a stream: what every stream does, over pairs in memory of several kinds and over TCP.
local async = require "lunation"
local memory = require "lunation.memory"
local certificates = require "spec.support.certificates"
local conformance = require "spec.support.stream_conformance"
local sockets = require "spec.support.sockets"

local tls = async.tls
local client, server

setup(function()
  local made <close> = certificates.make()
  client = tls.context { ca = made:path "ca.pem", server_name = "localhost" }
  server = { context = tls.context(made:pair "server"), server = true }
end)

-- Both ends of a pair, with TLS.
local function secured(a, b)
  local other = async.create_task(b.start_tls, b, server)
  a:start_tls { context = client }
  async.await(other)
  return a, b
end

local function maker(base)
  return function(options)
    local all = {}
    for k, v in pairs(base) do all[k] = v end
    for k, v in pairs(options or {}) do all[k] = v end
    return secured(memory.pair(all))
  end
end

local KINDS = {
  { "TLS on a pair in memory", maker {} },
  { "TLS on a pair in lockstep", maker { lockstep = true }, narrow = true },
  { "TLS on a pair that passes one byte at a time", maker { max_read = 1, max_write = 1, capacity = 1000 } },
  { "TLS on a pair with room for 300 bytes, with short reads", maker { capacity = 300, max_read = 70 }, narrow = true },
  { "TLS on a TCP connection", function(options) return secured(sockets.pair(options)) end },
}

-- Closing says so even if something was not read: then there is no reset but an end.
local OTHERWISE = {
  ["a reset comes behind all that had arrived"] = true,
  ["an answer that breaks off at any byte: reset"] = true,
}

-- Without room on the way an end that closes, or shuts down, waits until somebody has read that it does.
local NARROW = {
  ["a peer that is gone is an OSError for the writer"] = true,
  ["what is too long is refused and kept"] = true,
  ["arguments are checked before anything is sent"] = true,
}

for _, kind in ipairs(KINDS) do
  describe(kind[1], function()
    for _, case in ipairs(conformance) do
      if not OTHERWISE[case.name] and not (kind.narrow and NARROW[case.name]) then
        it(case.name, function() case.run(kind[2]) end)
      end
    end
  end)
end

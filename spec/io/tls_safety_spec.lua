-- TLS: what must not pass. Each of these was seen to get through, or to be told wrongly, somewhere.
local async = require "lunation"
local memory = require "lunation.memory"
local certificates = require "spec.support.certificates"
local command = require "spec.support.command"
local helper = require "spec.helper"
local secure = require "spec.support.secure"

local fs, process = async.fs, async.process
local refuses = helper.refuses
local made

setup(function() made = certificates.make("self", "common", "purpose") end)
teardown(function() made:remove() end)

-- Options of a client that trusts our authority, and what else is given.
local function trusting(more)
  local options = { ca = made:path "ca.pem", server_name = "localhost" }
  for k, v in pairs(more or {}) do options[k] = v end
  return options
end

describe("a client does not take", function()
  it("the common name of a subject for the name of a host", function()
    local e = secure.outcome(trusting(), made:pair "common")
    assert.equal(62, e.verify_code)
    assert.is_nil((secure.outcome(trusting { verify = false }, made:pair "common")))
  end)

  it("a certificate that was made for something else", function()
    for _, ca in ipairs { "ca", "purpose" } do
      assert.equal(26, secure.outcome(trusting { ca = made:path(ca .. ".pem") }, made:pair "purpose").verify_code)
    end
  end)

  it("one domain for all the names in it", function()
    local a <close>, b = memory.pair()
    local _ <close> = b
    for _, name in ipairs { ".wild.test", "." } do
      refuses("ValueError", "tls.server_name: it begins with a dot", a.start_tls, a, trusting { server_name = name })
    end
  end)

  it("a server without a certificate, whatever ciphers it was given", function()
    local ciphers = { ciphers = "ALL:@SECLEVEL=0", max_version = "TLSv1.2" }
    local nobody = made:pair "server"
    nobody.ciphers, nobody.max_version = "aNULL:@SECLEVEL=0", "TLSv1.2"
    local e = secure.outcome(trusting(ciphers), nobody)
    assert.equal("PEER_DID_NOT_RETURN_A_CERTIFICATE", e.code)
    assert.truthy(e.message:find("^start_tls memory: peer did not return a certificate"))
    ciphers.verify = false
    assert.is_nil((secure.outcome(trusting(ciphers), nobody)))
  end)

  it("a peer whose handshake failed for a verified one", function()
    local turns = 0
    local relay <close> = secure.relay(function(direction, bytes)
      if direction == "up" then return bytes end
      turns = turns + 1
      return turns < 2 and bytes or bytes:sub(1, -2) .. string.char(bytes:byte(-1) ~ 1) -- the Finished of TLS 1.2
    end)
    local a = relay.a
    refuses("SSLError", "start_tls", secure.shake, a, relay.b, trusting { max_version = "TLSv1.2" }, made:pair "server")
    assert.equal("CN=server", a:peer_certificate().subject)
    assert.is_false(a:tls().verified)
  end)
end)

describe("the system's authorities", function()
  it("are read once, for all who trust nobody else", function()
    local authorities = made:path "system.pem"
    command.write_file(authorities, made:text "ca.pem")
    local stdout = helper.plain(([[
      local memory = require "lunation.memory"
      local function shakes(options, code)
        local a <close>, b = memory.pair()
        local _ <close> = b
        local other = async.create_task(pcall, b.start_tls, b, { server = true, cert = %q, key = %q })
        local ok, e = pcall(a.start_tls, a, options)
        eq(code, not ok and e.verify_code or nil)
        if ok then eq(true, a:tls().verified) end
        async.wait { other }
      end
      async.run(function()
        shakes { server_name = "localhost", alpn = { "one" } }
        os.remove(os.getenv "SSL_CERT_FILE")
        shakes { server_name = "localhost", alpn = { "two" } }
        shakes { context = async.tls.context(), server_name = "localhost" }
        shakes({ server_name = "localhost", ca = %q }, 20)
        shakes({ server_name = "elsewhere.test" }, 62)
        shakes({ server_name = "localhost", system_ca = false }, 20)
      end)
      print "read"
    ]]):format(made:path "server.pem", made:path "server.key", made:path "self.pem"), {
      env = { SSL_CERT_FILE = authorities, SSL_CERT_DIR = made:path "nowhere" },
    })
    assert.equal("read\n", stdout)
  end)
end)

describe("TLS", function()
  it("writes nothing on a stream that goes one way", function()
    local child <close> = process.spawn("cat", {}, { stdin = "pipe", stdout = "pipe" })
    for name, way in pairs { stdin = "write", stdout = "read" } do
      local stream = child[name]
      local e = refuses("OSError", "the stream is " .. way .. "-only", stream.start_tls, stream, { verify = false })
      assert.equal("EBADF", e.code)
      assert.is_nil(stream:tls())
    end
    child.stdin:write("plain"):close()
    assert.equal("plain", child.stdout:read("a"))
  end)

  it("keeps its secrets for their owner", function()
    local half = made:text("server.key"):gsub("^[^\n]*\n", "")
    local e = refuses("ValueError", "tls.key: a path or the text", async.tls.context, {
      cert = made:path "server.pem", key = half,
    })
    assert.is_nil(e.message:find(half:sub(1, 20), 1, true))
    local path = made:path "keys.log"
    async.tls.context { keylog = path }
    assert.equal(tonumber("600", 8), fs.stat(path).mode & tonumber("777", 8))
  end)
end)

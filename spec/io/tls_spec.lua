-- TLS: who is trusted and who is refused, with which text; what may be agreed upon; what a stream with TLS tells.
local async = require "lunation"
local net = async.net
local memory = require "lunation.memory"
local certificates = require "spec.support.certificates"
local helper = require "spec.helper"
local secure = require "spec.support.secure"
local tasks = require "spec.support.tasks"
local testing = require "lunation.testing"

local refuses, started = helper.refuses, tasks.started
local tls = async.tls
local made

setup(function()
  made = certificates.make("client", "other", "stranger", "expired", "wrong", "self", "leaf")
end)
teardown(function() made:remove() end)

-- Options of a client that trusts our authority, and what else is given.
local function trusting(more)
  local options = { ca = made:path "ca.pem", server_name = "localhost" }
  for k, v in pairs(more or {}) do options[k] = v end
  return options
end

-- Those of a server with a certificate of that name.
local function showing(name, more)
  local options = made:pair(name or "server")
  for k, v in pairs(more or {}) do options[k] = v end
  return options
end

-- Runs fn(a, b) on a pair with TLS.
local function with_pair(client, server, fn)
  local a, b = secure.pair(client or trusting(), server or showing())
  local _ <close> = a
  local _ <close> = b
  return fn(a, b)
end

describe("a certificate", function()
  it("by a trusted authority is taken, and both ends know what was agreed upon", function()
    with_pair(trusting(), showing(), function(a, b)
      for s, server in pairs { [a] = false, [b] = true } do
        local info = s:tls()
        assert.equal("TLSv1.3", info.version)
        assert.equal("localhost", info.server_name)
        assert.equal(server, info.server)
        assert.equal(not server, info.verified)
        assert.is_false(info.resumed)
        assert.is_true(info.bits >= 128 and #info.cipher > 5)
      end
      local shown = a:peer_certificate()
      assert.equal("CN=server", shown.subject)
      assert.equal("CN=Test CA,O=Lunation specs", shown.issuer)
      assert.same({ "DNS:localhost", "DNS:example.test", "DNS:*.wild.test", "IP Address:127.0.0.1",
        "IP Address:0:0:0:0:0:0:0:1" }, shown.san)
      assert.is_true(shown.not_before <= os.time() and shown.not_after > os.time() + 86400 * 3000)
      assert.truthy(shown.fingerprint:find("^" .. ("%x"):rep(64) .. "$"))
      assert.truthy(made:text("server.pem"):find(shown.pem, 1, true))
      assert.equal("02", shown.serial)
      assert.is_nil(b:peer_certificate())
    end)
  end)

  -- Who shows what to whom, and what is said of it.
  local refusals = {
    { "signed by itself", "self", nil, 18, "self-signed certificate" },
    { "by an authority nobody trusts", "stranger", nil, 20, "unable to get local issuer certificate" },
    { "whose time is over", "expired", nil, 10, "certificate has expired" },
    { "for another host", "wrong", nil, 62, "hostname mismatch, certificate is not valid for 'localhost'" },
    { "for another address", "wrong", "127.0.0.1", 64, "IP address mismatch, certificate is not valid for '127.0.0.1'" },
    { "for other addresses", "server", "127.0.0.2", 64, "IP address mismatch" },
    { "for one level of names only", "server", "a.b.wild.test", 62, "hostname mismatch" },
    { "without what leads to the authority", "leaf", nil, 20, "unable to get local issuer certificate" },
  }
  for _, case in ipairs(refusals) do
    local what, name, host, code, text = table.unpack(case, 1, 5)
    it(what .. " is refused, and both ends say so", function()
      local e, theirs = secure.outcome(trusting { server_name = host }, showing(name))
      assert.equal("SSLError", e.name)
      assert.equal("CERTIFICATE_VERIFY_FAILED", e.code)
      assert.equal("certificate verify failed", e.reason)
      assert.equal(code, e.verify_code)
      assert.equal("start_tls", e.syscall)
      assert.equal("memory", e.address)
      assert.equal(1, (e.message:find("start_tls memory: certificate verify failed: " .. text, 1, true)))
      assert.is_true(async.isinstance(e, async.OSError))
      assert.equal("SSLError", theirs.name)
      assert.truthy(theirs.code:find("ALERT"), theirs.code)
    end)
    it(what .. " is taken by who does not want to know", function()
      assert.is_nil((secure.outcome({ verify = false, server_name = host }, showing(name))))
    end)
  end

  it("is refused by the system's authorities, which count if no other is named", function()
    for _, options in ipairs { { server_name = "localhost" }, trusting { ca = made:path "other.pem", system_ca = true } } do
      assert.equal(20, secure.outcome(options, showing()).verify_code)
    end
    assert.equal(20, secure.outcome({ server_name = "localhost", system_ca = false }, showing()).verify_code)
    assert.is_nil((secure.outcome(trusting { system_ca = true }, showing())))
  end)

  it("counts for each of its names", function()
    for _, name in ipairs { "localhost", "LOCALHOST", "example.test", "x.wild.test", "127.0.0.1", "::1", "localhost.",
      "::1%lo" } do
      assert.is_nil((secure.outcome(trusting { server_name = name }, showing())), name)
    end
  end)

  it("may be trusted itself, or what stands between it and a root", function()
    for ca, name in pairs { self = "self", leaf = "leaf", middle = "leaf" } do
      assert.is_nil((secure.outcome(trusting { ca = made:path(ca .. ".pem") }, showing(name))), ca)
    end
  end)

  it("may come with what leads to the authority, and as text", function()
    local server = { cert = made:text "leaf.chain", key = made:text "leaf.key" }
    assert.is_nil((secure.outcome(trusting { ca = made:text "ca.pem" }, server)))
    server = { cert = made:text "leaf.key" .. made:text "leaf.chain" } -- the key lies in the same file
    local list = { made:path "other.pem", made:text "ca.pem" }
    assert.is_nil((secure.outcome(trusting { ca = list }, server)))
  end)
end)

describe("a client's certificate", function()
  local function asking(more) return showing("server", more) end
  local ca = function() return made:path "ca.pem" end

  it("is asked for by a server that names authorities", function()
    with_pair(trusting(made:pair "client"), asking { ca = ca() }, function(_, b)
      assert.equal("CN=Client \xC3\x84da", b:peer_certificate().subject)
      assert.is_true(b:tls().verified)
    end)
  end)

  -- A client of TLS 1.3 hears of a refusal when it reads.
  local function refused(client, server, code, theirs)
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local a, b = memory.pair()
      local _ <close> = a
      local _ <close> = b
      client.max_version = version
      server.server = true
      local other = async.create_task(b.start_tls, b, server)
      local e = refuses("SSLError", "alert", function()
        a:start_tls(client)
        a:read("l")
      end)
      if version == "TLSv1.3" then assert.equal(code, e.code) end
      assert.equal(theirs, refuses("SSLError", {}, async.await, other).code)
    end
  end

  it("that is missing is refused", function()
    refused(trusting(), asking { ca = ca() }, "TLSV13_ALERT_CERTIFICATE_REQUIRED",
      "PEER_DID_NOT_RETURN_A_CERTIFICATE")
    refused(trusting(), asking { client_auth = "required" }, "TLSV13_ALERT_CERTIFICATE_REQUIRED",
      "PEER_DID_NOT_RETURN_A_CERTIFICATE")
  end)

  it("that nobody trusts is refused", function()
    refused(trusting(made:pair "stranger"), asking { ca = ca(), client_auth = "optional" },
      "TLSV1_ALERT_UNKNOWN_CA", "CERTIFICATE_VERIFY_FAILED")
  end)

  it("may be optional, or not be asked for", function()
    for client, subject in pairs { [trusting()] = false, [trusting(made:pair "client")] = "Client" } do
      for _, auth in ipairs { "optional", "none" } do
        with_pair(client, asking { ca = ca(), client_auth = auth }, function(a, b)
          local shown = b:peer_certificate()
          if auth == "optional" and subject then assert.truthy(shown.subject:find(subject))
          else assert.is_nil(shown) end
          a:write("hi\n")
          assert.equal("hi", b:read())
        end)
      end
    end
  end)
end)

describe("what is agreed upon", function()
  it("is a protocol that both ends have, as the server likes it", function()
    with_pair(trusting { alpn = { "http/1.1", "h2" } }, showing("server", { alpn = { "h2", "http/1.1" } }), function(a, b)
      assert.equal("h2", a:tls().alpn)
      assert.equal("h2", b:tls().alpn)
    end)
    for client, server in pairs { [trusting { alpn = { "h2" } }] = showing(),
      [trusting()] = showing("server", { alpn = { "h2" } }) } do
      with_pair(client, server, function(a) assert.is_nil(a:tls().alpn) end)
    end
  end)

  it("or nothing", function()
    local e, theirs = secure.outcome(trusting { alpn = { "smtp" } }, showing("server", { alpn = { "h2" } }))
    assert.equal("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", e.code)
    assert.equal("NO_APPLICATION_PROTOCOL", theirs.code)
  end)

  it("is a version from TLS 1.2 on", function()
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      for client, server in pairs { [trusting { max_version = version, min_version = version }] = showing(),
        [trusting()] = showing("server", { max_version = version }) } do
        with_pair(client, server, function(a, b)
          assert.equal(version, a:tls().version)
          assert.equal(version, b:tls().version)
          a:write("x")
          assert.equal("x", b:read(1))
        end)
      end
    end
    local e = secure.outcome(trusting { max_version = "TLSv1.2" }, showing("server", { min_version = "TLSv1.3" }))
    assert.equal("TLSV1_ALERT_PROTOCOL_VERSION", e.code)
  end)

  it("is a cipher of both lists", function()
    local client = trusting { max_version = "TLSv1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" }
    with_pair(client, nil, function(a) assert.equal("ECDHE-ECDSA-AES256-GCM-SHA384", a:tls().cipher) end)
    client = trusting { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" }
    with_pair(client, nil, function(a) assert.equal("TLS_CHACHA20_POLY1305_SHA256", a:tls().cipher) end)
    local e = secure.outcome(client, showing("server", { ciphersuites = "TLS_AES_128_GCM_SHA256", min_version = "TLSv1.3" }))
    assert.truthy(e.code:find("HANDSHAKE_FAILURE"), e.code)
  end)

  it("can be written down for somebody who has the bytes", function()
    local path = made:path "keys.log"
    with_pair(trusting { keylog = path }, nil, function(a, b)
      a:write("x")
      assert.equal("x", b:read(1))
    end)
    local file <close> = assert(io.open(path))
    assert.truthy(file:read("a"):find("CLIENT_TRAFFIC_SECRET_0 %x+ %x+\n"))
  end)
end)

describe("tls.context", function()
  it("may be shared by connections and outlives none of them", function()
    local context = tls.context(trusting())
    assert.equal("TLSContext", tostring(context):match("^%w+"))
    local server = { context = tls.context(showing()) }
    local a, b = secure.pair(context, server)
    context, server = nil, nil ---@diagnostic disable-line: unused-local
    collectgarbage()
    collectgarbage()
    local _ <close> = a
    local _ <close> = b
    a:write("still\n")
    assert.equal("still", b:read())
  end)

  it("with a name of one use", function()
    local context = tls.context { ca = made:path "ca.pem" }
    local server = { context = tls.context(showing()) }
    assert.is_nil((secure.outcome({ context = context, server_name = "example.test" }, server)))
    assert.equal(62, secure.outcome({ context = context, server_name = "example.com" }, server).verify_code)
  end)

  it("refuses what it does not know, by name", function()
    local function bad(class, parts, options) return refuses(class, parts, tls.context, options) end
    bad("TypeError", { "#1", "context", "table" }, 5)
    bad("ValueError", "unknown option 'verfy'", { verfy = false })
    bad("ValueError", "unknown option 'server'", { server = true })
    bad("ValueError", "called by name", { "ca.pem" })
    bad("TypeError", { "tls.verify", "boolean expected, got string" }, { verify = "no" })
    bad("TypeError", "tls.ca: string or list", { ca = 1 })
    bad("TypeError", "tls.ca: element 2: string", { ca = { made:path "ca.pem", 2 } })
    bad("ValueError", "tls.ca: no certificate", { ca = made:text "ca.key" })
    bad("ValueError", "tls.ca: a path or", { ca = "" })
    bad("ValueError", "tls.client_auth", { client_auth = "maybe" })
    bad("ValueError", { "tls.min_version", "'TLSv1.1'" }, { min_version = "TLSv1.1" })
    bad("ValueError", "tls.min_version: greater", { min_version = "TLSv1.3", max_version = "TLSv1.2" })
    bad("ValueError", "tls.alpn", { alpn = { "" } })
    bad("ValueError", "tls.alpn", { alpn = {} })
    bad("TypeError", "tls.alpn", { alpn = { true } })
    bad("ValueError", "tls.handshake_timeout", { handshake_timeout = 0 })
    bad("ValueError", "tls.server_name: a NUL", { server_name = "a\0b" })
    bad("ValueError", "tls.key: there is no tls.cert", { key = made:path "server.key" })
    assert.equal("NO_CIPHER_MATCH", bad("SSLError", "tls.ciphers: nothing", { ciphers = "nothing" }).code)
    assert.equal("ENOENT", bad("OSError", "open", { ca = made:path "nowhere.pem" }).code)
    assert.equal("ENOENT", bad("OSError", "open", { keylog = made:path "no/where" }).code)
  end)

  it("refuses certificates and keys that are none, or not of each other", function()
    local function bad(parts, options) return refuses("SSLError", parts, tls.context, options) end
    bad({ "tls.cert", "server.key", "no start line" }, { cert = made:path "server.key" })
    bad({ "tls.key", "server.pem" }, { cert = made:path "server.pem" })
    bad("tls.key", { cert = made:path "server.pem", key = made:path "server.pem" })
    bad({ "tls.key", "key values mismatch" }, { cert = made:path "server.pem", key = made:path "client.key" })
    bad("tls.ca", { ca = made:text("ca.pem"):gsub("M", "!", 1) })
    local broken = made:text("ca.pem"):gsub("\n(%w+)\n", "\n\n", 1)
    bad("tls.ca", { ca = broken })
    bad("tls.cert", { cert = made:text "server.pem" .. broken, key = made:path "server.key" })
  end)

  it("takes an encrypted key with its password, and asks nobody for it", function()
    local path = made:path "locked.key"
    assert(os.execute(("openssl pkey -in %s -out %s -aes128 -passout pass:sesame"):format(made:path "server.key", path)))
    local options = { cert = made:path "server.pem", key = path, key_password = "sesame" }
    assert.is_nil((secure.outcome(trusting(), options)))
    options.key_password = "wrong"
    refuses("SSLError", { "tls.key", "locked.key" }, tls.context, options)
    options.key_password = nil
    refuses("SSLError", { "tls.key", "password" }, tls.context, options)
  end)
end)

describe("start_tls", function()
  it("goes on with a stream that was plain before, in both directions", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    local server = started(function()
      assert.equal("STARTTLS", b:read())
      b:write("go ahead\n"):start_tls(showing("server", { server = true }))
      assert.equal("secret", b:read())
      b:write("answer\n")
    end)
    a:write("STARTTLS\n")
    assert.is_nil(a:tls())
    assert.is_nil(a:peer_certificate())
    assert.equal("go ahead", a:read())
    assert.equal(a, a:start_tls(trusting()))
    assert.equal(a, a:handshake())
    a:write("secret\n")
    assert.equal("answer", a:read())
    async.await(server)
  end)

  it("takes what was sent too early for TLS, never for plain text", function()
    -- Somebody on the way adds a command of his own behind STARTTLS: it must not be taken for the client's.
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    a:write("STARTTLS\nDELETE everything\n")
    assert.equal("STARTTLS", b:read())
    local e = refuses("SSLError", "start_tls memory: ", b.start_tls, b, showing("server", { server = true }))
    assert.equal(e.code, refuses("SSLError", "read memory: ", b.read, b).code)
    assert.equal(e.code, refuses("SSLError", "write memory: ", b.write, b, "x").code)
    -- An eager client's handshake, though, is one.
    a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    a:write("STARTTLS\n")
    local client = started(a.start_tls, a, trusting())
    assert.equal("STARTTLS", b:read())
    b:start_tls(showing("server", { server = true }))
    async.await(client)
  end)

  it("is refused where it cannot be", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    refuses("TypeError", { "#1", "start_tls" }, function() a:start_tls() end)
    refuses("TypeError", { "#1", "tls: true, a table" }, function() a:start_tls("yes") end)
    refuses("TypeError", "tls.context", a.start_tls, a, { context = 5 })
    refuses("ValueError", "unknown option", a.start_tls, a, { context = tls.context(), ca = "x" })
    refuses("ValueError", { "tls.server_name", "verify = false" }, a.start_tls, a, { ca = made:path "ca.pem" })
    refuses("ValueError", { "tls.cert", "needs a certificate" }, a.start_tls, a, { server = true })
    refuses("RuntimeError", "handshake: the stream has no TLS", a.handshake, a)
    local reader = started(b.read, b)
    refuses("RuntimeError", { "start_tls", "reading from" }, b.start_tls, b, trusting())
    reader:cancel()
    async.wait { reader }
    local shaking = started(b.start_tls, b, trusting())
    refuses("InvalidStateError", "tls: the handshake", b.tls, b)
    refuses("InvalidStateError", "peer_certificate: the handshake", b.peer_certificate, b)
    refuses("RuntimeError", "reading", b.read, b)
    refuses("RuntimeError", "writing", b.write, b, "x")
    refuses("RuntimeError", "reading", b.handshake, b)
    a:shutdown()
    assert.equal("UNEXPECTED_EOF", refuses("SSLError", "start_tls", async.await, shaking).code)
    local c <close>, other = memory.pair()
    other:close()
    c:shutdown()
    refuses("RuntimeError", { "start_tls", "shut down" }, c.start_tls, c, trusting())
    c:close()
    assert.equal("EBADF", refuses("OSError", "start_tls", c.start_tls, c, trusting()).code)
    with_pair(nil, nil, function(d)
      refuses("RuntimeError", "has TLS already", d.start_tls, d, trusting())
    end)
  end)

  it("cancelled, goes on, and what is written then waits for it and is sealed", function()
    local relay <close> = secure.relay(function(_, bytes)
      assert.is_nil(bytes:find("secret", 1, true))
      return bytes
    end)
    local a, b = relay.a, relay.b
    local client = started(a.start_tls, a, trusting())
    client:cancel()
    refuses("CancelledError", {}, async.await, client)
    local writer = started(a.write, a, "secret\n")
    assert.is_true(#async.all_tasks() > 2)
    b:start_tls(showing("server", { server = true }))
    assert.equal("secret", b:read())
    async.await(writer)
    assert.equal("TLSv1.3", a:handshake():tls().version)
  end)

  it("does not wait for a silent peer for ever #real", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    local e = refuses("SSLError", "start_tls memory: the handshake timed out", a.start_tls, a,
      trusting { handshake_timeout = 0.01 })
    assert.equal("HANDSHAKE_TIMED_OUT", e.code)
    assert.equal(e.code, refuses("SSLError", "read", a.read, a).code)
    -- The limit ends with the handshake.
    local clock <close> = testing.clock { autojump = false }
    with_pair(trusting { handshake_timeout = 10 }, nil, function(c, d)
      clock:advance(11)
      c:write("x")
      assert.equal("x", d:read(1))
    end)
  end)

  it("tells who speaks no TLS at all", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    b:write("220 mail.example.com ESMTP\r\n")
    assert.equal("WRONG_VERSION_NUMBER", refuses("SSLError", "wrong version number", a.start_tls, a, trusting()).code)
  end)
end)

describe("the end of a stream with TLS", function()
  it("is said: one that just breaks off is an error, behind all that had arrived", function()
    for _, how in ipairs { "shutdown", "close", "cut", "ignored" } do
      local relay <close> = secure.relay()
      local a, b = relay.a, relay.b
      secure.shake(a, b, trusting { ignore_eof = how == "ignored" }, showing())
      b:write("all of it\nand more")
      helper.turns(20)
      if how == "shutdown" or how == "close" then b[how](b) else relay.cut() end
      assert.equal("all of it", a:read())
      if how == "cut" then
        for _ = 1, 2 do
          local e = refuses("SSLError", { "read memory: unexpected EOF", "no close_notify" }, a.read, a, "a")
          assert.equal("UNEXPECTED_EOF", e.code)
        end
        assert.equal("and more", a:read(8))
      else
        assert.equal("and more", a:read("a"))
        assert.is_nil(a:read())
      end
    end
  end)

  it("of one direction leaves the other", function()
    with_pair(nil, nil, function(a, b)
      a:write("question"):shutdown()
      assert.equal("question", b:read("a"))
      b:write("answer"):shutdown()
      assert.equal("answer", a:read("a"))
    end)
  end)

  it("a shutdown in the handshake comes behind it", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    local client = started(a.start_tls, a, trusting())
    client:cancel()
    async.wait { client }
    local shut = started(a.shutdown, a)
    assert.is_false(shut:done())
    b:start_tls(showing("server", { server = true }))
    assert.equal("", b:read("a"))
    async.await(shut)
    b:write("still here")
    assert.equal("still here", a:read(10))
  end)

  it("a close in the handshake sends what was written, behind it", function()
    local a, b = memory.pair()
    local _ <close> = b
    local client = started(a.start_tls, a, trusting())
    client:cancel()
    async.wait { client }
    local writer = started(a.write, a, "last words")
    a:close()
    pcall(async.await, writer)
    b:start_tls(showing("server", { server = true }))
    assert.equal("last words", b:read("a"))
    -- It has read all there was: its end is a closed stream, not a reset one.
    assert.equal("EPIPE", refuses("OSError", "write", b.write, b, "x").code)
  end)

  it("forged bytes are an error of both directions", function()
    local forge = false
    local relay <close> = secure.relay(function(direction, bytes)
      if not forge or direction == "up" then return bytes end
      return bytes:sub(1, -2) .. string.char(bytes:byte(-1) ~ 1)
    end)
    local a, b = relay.a, relay.b
    secure.shake(a, b, trusting(), showing())
    b:write("good\n")
    assert.equal("good", a:read())
    forge = true
    b:write("forged\n")
    local e = refuses("SSLError", "read memory: ", a.read, a)
    assert.equal("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", e.code)
    assert.equal(e.code, refuses("SSLError", "write memory: ", a.write, a, "x").code)
    assert.truthy(refuses("SSLError", "alert", b.read, b).code:find("BAD_RECORD_MAC"))
  end)
end)

describe("bytes", function()
  it("of ten megabytes go both ways #nosweep", function()
    local size = helper.scaled(10, 1) << 20
    local text = {}
    for i = 1, 4096 do text[i] = string.char((i * 31 + i // 7) % 256) end
    local block = table.concat(text):rep(16)
    with_pair(nil, nil, function(a, b)
      local function sends(s)
        return function()
          for _ = 1, size // #block do s:write(block) end
          s:shutdown()
        end
      end
      local function reads(s)
        return function()
          local got = 0
          for piece in function() return s:read(#block) end do
            assert(piece == block)
            got = got + #piece
          end
          return got
        end
      end
      local got = async.gather { reads(a), reads(b), sends(a), sends(b) }
      assert.same({ size, size }, { got[1], got[2] })
    end)
  end)

  it("that nobody reads make the writer wait: no more than the mark and one write are kept", function()
    local a, b = secure.pair(trusting(), showing(), { capacity = 20000 })
    local _ <close> = a
    local _ <close> = b
    local written = 0
    local writer = started(function()
      while true do
        a:write(("x"):rep(10000))
        written = written + 10000
      end
    end)
    helper.turns(200)
    assert.is_true(written <= 40000, tostring(written))
    assert.equal(("x"):rep(100), b:read(100))
    writer:cancel()
    async.wait { writer }
  end)

  it("of several strings make one record", function()
    local relay <close> = secure.relay()
    secure.shake(relay.a, relay.b, trusting(), showing())
    relay.a:write("warm\n")
    assert.equal("warm", relay.b:read())
    local before = relay.up
    local pieces = {}
    for i = 1, 15 do pieces[i] = ("%02d,"):format(i) end
    relay.a:write(table.unpack(pieces)):write("\n")
    assert.equal(table.concat(pieces), relay.b:read())
    assert.is_true(relay.up - before < 150, tostring(relay.up - before)) -- a record costs 22 bytes
  end)
end)

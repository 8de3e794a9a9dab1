-- TLS with the others: openssl's own server and client, python's, socat's, nginx and curl.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local command = require "spec.support.command"
local helper = require "spec.helper"
local http = require "spec.support.peers_http"
local nginx = require "spec.support.nginx"
local peers = require "spec.support.peers"
local net, process, tls = async.net, async.process, async.tls

local made, trust, show

local function echo(stream)
  for line in stream:lines "L" do stream:write(line) end
end

describe("TLS #real", function()
  lazy_setup(function()
    made = certificates.make("client", "other", "stranger")
    trust = tls.context { ca = made:path "ca.pem" }
    show = tls.context(made:pair "server")
  end)
  lazy_teardown(function() made:remove() end)

  local function cert(name) return made:path(name .. ".pem") end
  local function key(name) return made:path(name .. ".key") end

  describe("with openssl s_server", function()
    local function start(...)
      local peer = peers.start {
        "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert "server", "-key", key "server", "-rev", ...,
      }
      assert.is_true(helper.eventually(function()
        peer.port = tonumber(peer:log():match("ACCEPT [%d.]+:(%d+)"))
        return peer.port
      end))
      return peer
    end

    it("talks in both versions, in small pieces and large", function()
      for option, version in pairs { ["-tls1_2"] = "TLSv1.2", ["-tls1_3"] = "TLSv1.3" } do
        local peer <close> = start(option)
        for _ = 1, 3 do
          local stream <close> = net.connect("127.0.0.1", peer.port, { tls = trust })
          assert.equal(version, stream:tls().version)
          assert.equal("CN = server", (stream:peer_certificate().subject:gsub("CN=", "CN = ")))
          for _, size in ipairs { 1, 100, 15000 } do
            local line = peers.bytes(size)
            stream:write(line, "\n")
            assert.is_true(stream:read("l") == line:reverse())
          end
          stream:shutdown()
          assert.is_nil(stream:read("l"))
        end
      end
    end)

    it("shows a certificate of its own where one is asked for", function()
      local peer <close> = start("-Verify", "1", "-verify_return_error", "-CAfile", cert "ca")
      for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
        local mine = { ca = cert "ca", cert = cert "client", key = key "client", max_version = version }
        local stream <close> = net.connect("127.0.0.1", peer.port, { tls = mine })
        stream:write("hello\n")
        assert.equal("olleh", stream:read("l"))
      end
      -- With TLS 1.3 the client has done its part before it hears that it is not wanted.
      local e = helper.refuses("SSLError", "certificate required", function()
        local other <close> = net.connect("127.0.0.1", peer.port, { tls = trust })
        other:write("hello\n")
        other:read("l")
      end)
      assert.equal("TLSV13_ALERT_CERTIFICATE_REQUIRED", e.code)
    end)

    it("agrees on a protocol", function()
      local peer <close> = start("-alpn", "lun/2,lun/1")
      local stream <close> = net.connect("127.0.0.1", peer.port, { tls = { ca = cert "ca", alpn = { "h2", "lun/1" } } })
      assert.equal("lun/1", stream:tls().alpn)
    end)

    it("knows a server that was killed: a cut is no end", function()
      local peer <close> = start()
      local stream <close> = net.connect("127.0.0.1", peer.port, { tls = trust })
      stream:write("hello\n")
      assert.equal("olleh", stream:read("l"))
      peer.process:kill("KILL")
      local e = helper.thrown(stream.read, stream, "l")
      assert.is_true(e.code == "UNEXPECTED_EOF" or e.code == "ECONNRESET", tostring(e))
    end)
  end)

  describe("with openssl s_client", function()
    -- -> what it printed, its complaints, its exit code
    local function client(port, input, ...)
      local words = {
        "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-verify_return_error", "-quiet", input = input, ...,
      }
      return peers.run(words)
    end

    -- Serves one line to each s_client that fn(port, seen, server) starts; `seen` gets what was known of each.
    local function answering(options, fn)
      local seen = {}
      options.cert, options.key = cert "server", key "server"
      peers.serving(function(stream)
        local info = stream:tls()
        info.subject = (stream:peer_certificate() or {}).subject
        seen[#seen + 1] = info
        stream:write(stream:read("L"):upper())
      end, function(port, server) fn(port, seen, server) end, { tls = options })
    end

    it("serves it in both versions, with a name and a protocol", function()
      answering({ alpn = { "lines/1" } }, function(port, seen)
        for i, version in ipairs { "TLSv1.2", "TLSv1.3" } do
          local out, _, code = client(port, "hello\n", "-CAfile", cert "ca", "-servername", "localhost", "-alpn",
            "lines/1", i == 1 and "-tls1_2" or "-tls1_3")
          assert.equal("HELLO\n", out)
          assert.equal(0, code)
          assert.equal(version, seen[i].version)
          assert.equal("localhost", seen[i].server_name)
          assert.equal("lines/1", seen[i].alpn)
        end
      end)
    end)

    it("asks for a certificate, and refuses who has none or a strange one", function()
      answering({ ca = cert "ca" }, function(port, seen)
        local function shows(name)
          local words = { "-CAfile", cert "ca" }
          if name then words = { "-CAfile", cert "ca", "-cert", cert(name), "-key", key(name) } end
          return client(port, "hello\n", table.unpack(words))
        end
        assert.equal("HELLO\n", (shows "client"))
        assert.equal("CN=Client \xC3\x84da", seen[1].subject)
        for name, why in pairs { [false] = "alert certificate required", stranger = "alert unknown ca" } do
          local out, err = shows(name)
          assert.equal("", out)
          assert.truthy(err:find(why, 1, true), err)
        end
        assert.equal(1, #seen)
      end)
    end)

    it("knows it again by a ticket, which a reload forgets; without one nothing is kept", function()
      answering({}, function(port, seen, server)
        local function comes(...)
          local out, err = client(port, "hi\n", "-CAfile", cert "ca", "-tls1_2", ...)
          assert.equal("HI\n", out, err)
          return seen[#seen].resumed
        end
        local session, other = made:path "session", made:path "other"
        assert.is_false(comes("-sess_out", session))
        assert.is_true(comes("-sess_in", session))
        server:reload(made:pair "server")
        assert.is_false(comes("-sess_in", session))
        assert.is_false(comes("-no_ticket", "-sess_out", other))
        assert.is_nil(command.slurp(other)) -- there is nothing to come again with
      end)
    end)

    -- One that takes commands: what says(text, answer) types, and waits for in what it prints.
    local function typing(port, ...)
      local words = { "s_client", "-connect", "127.0.0.1:" .. port, "-CAfile", cert "ca", ... }
      local program = process.spawn("openssl", words, { stdin = "pipe", stdout = "pipe", stderr = "stdout" })
      local function says(text, answer)
        program.stdin:write(text, "\n")
        local printed = async.wait_for(function() return program.stdout:read_until(answer, 1 << 20) end, 20 * helper.slow)
        assert.truthy(printed, answer .. " is missing")
      end
      return program, says
    end

    it("lets it change its keys, but not renegotiate", function()
      peers.serving(function(stream) async.pcall(echo, stream) end, function(port)
        local new <close>, says = typing(port, "-msg")
        says("hello", "hello\n")
        says("K", "KeyUpdate")
        says("again", "again\n")
        local old <close>, types = typing(port, "-tls1_2")
        types("R", "no renegotiation")
      end, { tls = show })
    end)

    it("refuses old versions, and goes on", function()
      peers.serving(echo, function(port)
        local _, err, code = client(port, "", "-CAfile", cert "ca", "-tls1_1", "-cipher", "ALL@SECLEVEL=0")
        assert.is_true(code ~= 0)
        assert.truthy(err:find("alert protocol version", 1, true), err)
        local stream <close> = net.connect("127.0.0.1", port, { tls = trust })
        stream:write("x\n")
        assert.equal("x", stream:read("l"))
      end, { tls = show })
    end)

    it("hears from it that our certificate will not do", function()
      local seen
      local reports = helper.reports(function()
        local server <close> = net.listen("127.0.0.1", 0, { tls = show })
        local task = async.create_task(function()
          local stream <close> = server:accept()
          seen = helper.thrown(stream.handshake, stream)
        end)
        local _, err, code = client(server:address().port, "", "-CAfile", cert "client")
        assert.is_true(code ~= 0)
        assert.truthy(err:find("verify error", 1, true), err)
        async.await(task)
      end)
      assert.same({}, reports)
      assert.truthy(seen.message:find("unknown ca", 1, true), seen.message)
    end)

    it("goes over to TLS in the middle of SMTP", function()
      local heard
      peers.serving(function(stream)
        stream:write("220 ready\r\n")
        for line in stream:lines() do
          if line:find("^EHLO") then
            stream:write("250-hello\r\n250 STARTTLS\r\n")
          elseif line:find("^STARTTLS") then
            stream:write("220 go on\r\n")
            stream:start_tls { context = show, server = true }
          else
            heard = line
            stream:write("250 heard\r\n")
            return
          end
        end
      end, function(port)
        local out = client(port, "NOOP\r\n", "-CAfile", cert "ca", "-starttls", "smtp")
        assert.truthy(out:find("250 heard", 1, true), out)
      end)
      assert.truthy(heard:find("^NOOP"))
    end)
  end)

  describe("with python", function()
    it("talks to asyncio's server, and hears its goodbye", function()
      local server <close> = peers.python("servers", "tls", cert "server", key "server")
      async.map({ 1, 2, 3, 4, 5 }, function(i)
        local stream <close> = net.connect("127.0.0.1", server.port, { tls = { ca = cert "ca", alpn = { "lun/1" } } })
        assert.equal("lun/1", stream:tls().alpn)
        stream:write("echo ", i, "\n")
        assert.equal(tostring(i), stream:read("l"))
        stream:write("bytes 500000\n")
        assert.is_true(stream:read(500000) == ("x"):rep(500000))
        stream:write("digest 1000000\n", ("a"):rep(1000000))
        assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", stream:read("l"))
        stream:shutdown()
        assert.is_nil(stream:read("l"))
      end)
    end)

    it("serves asyncio's clients", function()
      peers.serving(echo, function(port)
        local out, err, code = peers.run {
          "python3", "spec/support/python/clients.py", "tls", port, 10, cert "ca",
        }
        assert.equal("", err)
        assert.equal(0, code)
        assert.equal("10 clients\n", out)
      end, { tls = show })
    end)

    it("takes no cut of its for an end", function()
      local server <close> = peers.python("servers", "tls", cert "server", key "server")
      local stream <close> = net.connect("127.0.0.1", server.port, { tls = trust })
      stream:write("echo half\n")
      assert.equal("half\n", stream:read("L"))
      stream:write("abort\n")
      local e = helper.thrown(stream.read, stream, "a")
      assert.is_true(e.code == "UNEXPECTED_EOF" or e.code == "ECONNRESET", tostring(e))
    end)

    it("gives no answers without end to a client that reads none #nosweep", function()
      local options = made:pair "server"
      options.ciphers, options.max_version = "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0", "TLSv1.2"
      local e
      peers.serving(function(stream) e = helper.thrown(stream.read, stream) end, function(port)
        local words = { "spec/support/python/clients.py", "renegotiate", port, "", cert "ca", made:path "keys" }
        assert.equal("given up\n", (peers.run { "python3", table.unpack(words) }))
      end, { tls = options })
      assert.equal("TOO_MANY_WARN_ALERTS", e.code)
      assert.truthy(e.message:find "^read 127%.0%.0%.1:%d+: too many warn alerts$")
    end)

    it("says goodbye to its blocking clients, and hears theirs", function()
      peers.serving(echo, function(port)
        assert.equal("unwrapped\n", (peers.run { "python3", "spec/support/python/clients.py", "unwrap", port, "", cert "ca" }))
      end, { tls = show, limit = 200000 })
    end)
  end)

  it("with socat, both ways", function()
    local peer <close> = peers.socat(("OPENSSL-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,verify=0,cert=%s,key=%s")
      :format(cert "server", key "server"), "EXEC:cat")
    local data = peers.bytes(helper.scaled(500000, 50000)) .. "\n"
    local stream <close> = net.connect("127.0.0.1", peer.port, { tls = trust })
    local writing = async.create_task(stream.write, stream, data)
    assert.is_true(stream:read(#data) == data)
    async.await(writing)
    peers.serving(function(client) client:write(client:read("l"):upper(), "\n") end, function(port)
      assert.equal("HELLO\n", (peers.run {
        "socat", "-t5", "-", ("OPENSSL:127.0.0.1:%d,cafile=%s"):format(port, cert "ca"), input = "hello\n",
      }))
    end, { tls = show })
  end)

  it("with nginx and curl", function()
    local port = command.free_port()
    local _ <close> = nginx.start({ big = peers.bytes(1000000) }, { server = ([[
      listen 127.0.0.1:%d ssl;
      ssl_certificate %s;
      ssl_certificate_key %s;
      ssl_protocols TLSv1.2 TLSv1.3;
    ]]):format(port, cert "server", key "server") })
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local options = { ca = cert "ca", alpn = { "http/1.1" }, max_version = version }
      local stream <close> = net.connect("127.0.0.1", port, { tls = options })
      assert.equal(version, stream:tls().version)
      assert.equal("http/1.1", stream:tls().alpn)
      for _ = 1, 2 do assert.is_true(http.get(stream, "/big").body == peers.bytes(1000000)) end
      stream:write(http.request("/big", { version = "1.0" }))
      assert.equal(1000000, #http.read_answer(stream).body)
      assert.is_nil(stream:read(1)) -- the end is said
    end
    peers.serving(function(client)
      http.read_request(client)
      client:write(http.answer(peers.bytes(300000)))
    end, function(ours)
      local out = peers.run { "curl", "-sS", "--cacert", cert "ca", "https://localhost:" .. ours .. "/" }
      assert.is_true(out == peers.bytes(300000))
      local _, err, code = peers.run { "curl", "-sS", "https://localhost:" .. ours .. "/" }
      assert.equal(60, code)
      assert.truthy(err:find("certificate", 1, true), err)
    end, { tls = show })
  end)
end)

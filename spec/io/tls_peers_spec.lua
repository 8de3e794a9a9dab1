-- TLS with others: openssl's s_client and s_server, python3's ssl module, nginx; each way round.
local async = require "lunation"
local net = async.net
local certificates = require "spec.support.certificates"
local command = require "spec.support.command"
local helper = require "spec.helper"
local nginx = require "spec.support.nginx"

local refuses = helper.refuses
local tls = async.tls
local made

setup(function() made = certificates.make("client", "other", "stranger") end)
teardown(function() made:remove() end)

-- Starts a program in the folder of the certificates, which gets the lines of `input` one by one, and then none for a
-- while -> a peer: `log()`, what it has printed; closable.
local function peer(line, input)
  local log = os.tmpname()
  local feeder = {}
  for text in (input or ""):gmatch("[^\n]+") do feeder[#feeder + 1] = ("echo %s; sleep 0.2; "):format(text) end
  local pid = command.start {
    "sh", "-c", ("cd %s && (%s sleep 60) | exec %s"):format(command.quote(made.dir), table.concat(feeder), line),
    log = log,
  }
  local self = { pid = pid }
  function self.log() return command.slurp(log) or "" end
  return setmetatable(self, { __close = function()
    command.stop(pid)
    os.remove(log)
  end })
end

-- A server program that prints "PORT n" or the like: its port.
local function port_of(program, pattern)
  local port
  assert.is_true(helper.eventually(function()
    port = program.log():match(pattern)
    return port
  end, 20), program.log())
  return math.tointeger(tonumber(port))
end

-- A server of ours that answers lines, for fn(port, server, seen); `seen` gets what tls() told of each connection.
local function with_server(options, fn)
  options.cert, options.key = made:path "server.pem", made:path "server.key"
  local server <close> = net.listen("127.0.0.1", 0, { tls = options })
  local seen = {}
  local serving = async.create_task(server.serve, server, function(stream)
    seen[#seen + 1] = stream:tls()
    seen[#seen].subject = (stream:peer_certificate() or {}).subject
    -- These programs are stopped by a signal, which is no orderly end.
    async.pcall(function()
      for text in stream:lines() do stream:write("<", text, ">\n") end
    end)
  end)
  local _ <close> = async.defer(function()
    serving:cancel()
    async.wait { serving }
  end)
  return fn(server:address().port, server, seen)
end

local function shows(program, ...)
  for _, text in ipairs { ... } do
    assert.is_true(helper.eventually(function() return program.log():find(text, 1, true) end, 20),
      text .. " is missing in\n" .. program.log())
  end
end

describe("openssl s_client", function()
  local function client(port, words, input)
    return peer(("openssl s_client -connect 127.0.0.1:%d -CAfile ca.pem %s 2>&1"):format(port, words), input)
  end

  for _, version in ipairs { "tls1_2", "tls1_3" } do
    it("speaks with a server of ours, " .. version .. " #real", function()
      with_server({ alpn = { "lines/1" } }, function(port, _, seen)
        local words = ("-%s -servername localhost -alpn lines/1 -verify_return_error -ign_eof"):format(version)
        local program <close> = client(port, words, "hello\n")
        shows(program, "<hello>", "Verification: OK", "ALPN protocol: lines/1")
        assert.equal(version == "tls1_2" and "TLSv1.2" or "TLSv1.3", seen[1].version)
        assert.equal("localhost", seen[1].server_name)
        assert.equal("lines/1", seen[1].alpn)
      end)
    end)
  end

  it("shows its certificate, or is refused #real", function()
    with_server({ ca = made:path "ca.pem" }, function(port, _, seen)
      local good <close> = client(port, "-cert client.pem -key client.key -ign_eof", "hello\n")
      shows(good, "<hello>", "Test CA")
      assert.equal("CN=Client \xC3\x84da", seen[1].subject)
      local bare <close> = client(port, "-ign_eof", "hello\n")
      shows(bare, "alert certificate required")
      local strange <close> = client(port, "-cert stranger.pem -key stranger.key -ign_eof", "hello\n")
      shows(strange, "alert unknown ca")
      assert.equal(1, #seen)
    end)
  end)

  it("comes again with a session, which a reload forgets #real", function()
    with_server({}, function(port, server, seen)
      do
        local first <close> = client(port, "-tls1_2 -sess_out session.pem -ign_eof", "hello\n")
        shows(first, "<hello>")
        assert.is_true(helper.eventually(function() return command.slurp(made:path "session.pem") end))
      end
      local second <close> = client(port, "-tls1_2 -sess_in session.pem -ign_eof", "again\n")
      shows(second, "<again>", "Reused")
      server:reload(made:pair "server")
      local third <close> = client(port, "-tls1_2 -sess_in session.pem -ign_eof", "anew\n")
      shows(third, "<anew>", "New, TLSv1.2")
      local resumed = {}
      for i, info in ipairs(seen) do resumed[i] = info.resumed end
      assert.same({ false, true, false }, resumed)
    end)
  end)

  it("may change its keys in the middle #real", function()
    with_server({}, function(port)
      local program <close> = client(port, "-msg", "one\nK\ntwo\n")
      shows(program, "<one>", "<<< TLS 1.3, Handshake [length 0005], KeyUpdate", "<two>")
    end)
  end)

  it("may not renegotiate, nor speak TLS 1.1 #real", function()
    with_server({}, function(port)
      local again <close> = client(port, "-tls1_2", "R\n")
      shows(again, "no renegotiation")
      local old <close> = client(port, "-tls1_1 -cipher ALL@SECLEVEL=0", "")
      shows(old, "alert protocol version")
    end)
  end)
end)

describe("openssl s_server", function()
  local function server(words)
    return peer("openssl s_server -accept 127.0.0.1:0 -cert server.pem -key server.key " .. words .. " 2>&1")
  end

  for _, version in ipairs { "tls1_2", "tls1_3" } do
    it("speaks with a client of ours, " .. version .. " #real", function()
      local program <close> = server("-rev -alpn lines/1 -CAfile ca.pem -Verify 1 -verify_return_error -" .. version)
      local port = port_of(program, "ACCEPT 127.0.0.1:(%d+)")
      local options = made:pair "client"
      options.ca, options.alpn = made:path "ca.pem", { "lines/1" }
      for _, word in ipairs { "hello", "again" } do
        local stream <close> = net.connect("127.0.0.1", port, { tls = options })
        assert.equal("lines/1", stream:tls().alpn)
        assert.equal(word:reverse(), stream:write(word, "\n"):read())
        stream:shutdown()
      end
    end)
  end

  it("refuses a client without a certificate #real", function()
    local program <close> = server("-rev -CAfile ca.pem -Verify 1 -verify_return_error")
    local port = port_of(program, "ACCEPT 127.0.0.1:(%d+)")
    local e = refuses("SSLError", "alert", function()
      local stream <close> = net.connect("127.0.0.1", port, { tls = { ca = made:path "ca.pem" } })
      stream:read()
    end)
    assert.equal("TLSV13_ALERT_CERTIFICATE_REQUIRED", e.code)
  end)
end)

describe("python3's ssl", function()
  local SERVER = [[
import os, socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
listener = socket.create_server(("127.0.0.1", 0))
print("PORT", listener.getsockname()[1], flush=True)
while True:
    plain, _ = listener.accept()
    try:
        with context.wrap_socket(plain, server_side=True) as s:
            data = b""
            while not data.endswith(b"\n"):
                data += s.recv(65536)
            if data == b"cut\n":
                s.sendall(b"half")
                os.close(s.detach())
            else:
                s.sendall(data[::-1])
                s.unwrap()
            print("DONE", len(data), flush=True)
    except Exception as e:
        print("ERROR", e, flush=True)
    finally:
        plain.close()
]]
  local CLIENT = [[
import socket, ssl, sys
context = ssl.create_default_context(cafile="ca.pem")
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    with context.wrap_socket(plain, server_hostname="localhost") as s:
        for n in (1, 1000, 100000):
            s.sendall(b"x" * n + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                data += s.recv(65536)
            print(n, len(data), s.version())
        s.unwrap()
        print("unwrapped")
]]

  it("serves a client of ours: the end, its own bytes, a cut #real", function()
    command.write_file(made:path "server.py", SERVER)
    local program <close> = peer "python3 server.py 2>&1"
    local port = port_of(program, "PORT (%d+)")
    local options = { tls = { ca = made:path "ca.pem" } }
    for _, size in ipairs { 3, 70000 } do
      local stream <close> = net.connect("localhost", port, options)
      local text = ("abc"):rep(size)
      assert.equal("\n" .. text:reverse(), stream:write(text, "\n"):read("a"))
    end
    shows(program, "DONE 10", "DONE 210001")
    local stream <close> = net.connect("localhost", port, options)
    stream:write("cut\n")
    local e = refuses("SSLError", "no close_notify", stream.read, stream, "a")
    assert.equal("UNEXPECTED_EOF", e.code)
    assert.equal("half", stream:read(4))
    refuses("SSLError", "hostname mismatch", net.connect, "localhost", port, { tls = { ca = made:path "ca.pem", server_name = "x" } })
    shows(program, "ERROR")
  end)

  it("is served by us #real", function()
    command.write_file(made:path "client.py", CLIENT)
    local server <close> = net.listen("127.0.0.1", 0, { limit = 200000, tls = made:pair "server" })
    local serving = async.create_task(server.serve, server, function(stream)
      for text in stream:lines("L") do stream:write(text) end
      stream:shutdown()
    end)
    local program <close> = peer("python3 client.py " .. server:address().port .. " 2>&1")
    shows(program, "1 2 TLSv1.3", "100000 100001 TLSv1.3", "unwrapped")
    serving:cancel()
    async.wait { serving }
  end)
end)

describe("nginx", function()
  it("serves a client of ours #real", function()
    local body, port = ("0123456789abcdef"):rep(20000), command.free_port()
    local server <close> = nginx.start({ ["big.txt"] = body }, {
      http = ([[
        server {
          listen 127.0.0.1:%d ssl;
          ssl_certificate %s/server.pem;
          ssl_certificate_key %s/server.key;
          root files;
        }]]):format(port, made.dir, made.dir),
    })
    assert.is_number(server.port)
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local stream <close> = net.connect("localhost", port, {
        tls = { ca = made:path "ca.pem", alpn = { "http/1.1" }, max_version = version },
      })
      assert.equal("http/1.1", stream:tls().alpn)
      stream:write("GET /big.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
      local head = stream:read_until("\r\n\r\n")
      assert.equal(#body, math.tointeger(tonumber(head:match("Content%-Length: (%d+)"))))
      assert.is_true(body == stream:read(#body))
      assert.equal("", stream:read("a")) -- the end is said
    end
  end)
end)

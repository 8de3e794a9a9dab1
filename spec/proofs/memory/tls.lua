-- TLS on pairs in memory and on TCP: contexts, handshakes, refusals, an exchange, the end; what a stream tells of it.
local async = require "lunation"
local memory = require "lunation.memory"
local net = require "lunation.net"
local tls = require "lunation.tls"
local runner <close> = async.Runner { debug = sweep.debug }

-- Its signatures have one length, so every run sends the same number of bytes.
local KEY = [[
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJrZ6xr7hmsnaOh26/ATtVyIPoTr7+WiJgRSHh7LYhsh
-----END PRIVATE KEY-----
]]
local CERTIFICATE = [[
-----BEGIN CERTIFICATE-----
MIIBIzCB1qADAgECAgEBMAUGAytlcDAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcN
MjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxvY2Fs
aG9zdDAqMAUGAytlcAMhAHFzdBpBrza3GA4eP1Wu25KCQHGdbVKy1Lz66FYZA0/p
o0swSTAMBgNVHRMEBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAd
BgNVHQ4EFgQUl58JaXDAQEYCDkIdLAzaQ4RYc4MwBQYDK2VwA0EA0TlR/0kHk9p2
UCeYf/W8nX9UrEXNz7ud+5oCGyukQzoR7aerlpJLls6K4078ti0iEDf24fCbYLl3
ZVr6bJKsAA==
-----END CERTIFICATE-----
]]

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local trust = tls.context { ca = { CERTIFICATE }, alpn = { "a", "b" }, server_name = "localhost" }
  local show = { cert = CERTIFICATE, key = KEY, alpn = { "b" }, server = true }
  assert(tostring(trust))
  pcall(tls.context, { ca = KEY })

  local a, b = memory.pair()
  local _ <close> = a
  local _ <close> = b
  -- Who fails closes: the other end is not to wait.
  local other = async.create_task(function()
    if not pcall(b.start_tls, b, show) then b:close() end
  end)
  a:start_tls(trust)
  async.await(other)
  assert(a:handshake() == a and a:tls().alpn == "b")
  local shown = a:peer_certificate()
  assert(#shown.san == 2 and shown.subject == "CN=localhost" and #shown.fingerprint == 64)
  assert(b:peer_certificate() == nil)
  local writer = async.create_task(function()
    a:write("x", ("y"):rep(20000), "\n", 12)
    a:shutdown()
  end)
  assert(#b:read("L") == 20002 and b:read("n") == 12 and b:read("a") == "")
  async.await(writer)

  local c, d = memory.pair()
  local _ <close> = c
  local _ <close> = d
  other = async.create_task(function()
    if not pcall(d.start_tls, d, show) then d:close() end
  end)
  local ok, e = pcall(c.start_tls, c, { ca = CERTIFICATE, server_name = "elsewhere" })
  assert(not ok and tostring(e))
  pcall(c.read, c)
  c:close()
  async.wait { other }
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local context = tls.context { cert = CERTIFICATE, key = KEY, ca = CERTIFICATE, client_auth = "none" }
  local server <close> = net.listen("127.0.0.1", 0, { tls = context })
  local port = server:address().port
  server:reload(context)
  local serving <close> = async.TaskGroup()
  serving:create_task(function()
    server:serve(function(stream)
      stream:write(stream:read(), "\n")
      stream:read("a")
    end)
  end)
  do
    local stream <close> = net.connect("127.0.0.1", port, { tls = { context = context }, timeout = 5 })
    assert(stream:write("there and back\n"):read() == "there and back")
    stream:shutdown()
  end
  server:close()
end)

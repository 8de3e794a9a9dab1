-- TLS: a client meets a certificate that it has no reason to trust, and says so clearly. Trust is named, not assumed.
local async = require "lunation"
local net, tls = async.net, async.tls

-- A certificate for localhost and 127.0.0.1, signed by itself. Everybody knows its key: it is for this program alone.
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

local server <close> = net.listen("127.0.0.1", 0, { tls = { cert = CERTIFICATE, key = KEY } })
local port = server:address().port
local serving = async.create_task(function()
  local _ <close> = server -- nobody would be served any more
  server:serve(function(stream)
    -- Called once the handshake is over; the client may be gone by then.
    async.pcall(stream.write, stream, "hello over ", stream:tls().version, "\n")
  end)
end)

local function try(what, options)
  local ok, e = async.pcall(function()
    local stream <close> = net.connect("127.0.0.1", port, { tls = options, timeout = 10 })
    print(what, stream:read(), stream:tls().verified and "verified" or "NOT verified")
  end)
  if not ok then print(what, e.name, (e.message:gsub(":%d+:", ":PORT:"))) end
end

try("with the system's authorities", true)
try("for another host", { ca = CERTIFICATE, server_name = "example.com" })
try("with this authority", { ca = CERTIFICATE })
try("without asking who it is", { verify = false })

-- Read once, used for any number of connections.
local context = tls.context { ca = CERTIFICATE, alpn = { "http/1.1" } }
local stream <close> = net.connect("127.0.0.1", port, { tls = context })
assert(stream:read():find("hello"))
print("who it is", stream:peer_certificate().subject, table.concat(stream:peer_certificate().san, ", "))
serving:cancel()

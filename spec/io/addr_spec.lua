-- Addresses as scripts give and get them: numeric ones with zones, families, ports that are floats, both families on
-- one socket, and errors that name the address at fault.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"
local net = require "lunation.net"

local refuses = helper.refuses

-- A server at `host`, or nil with the test marked pending: without IPv6 there is no "::1".
local function listening(host, port)
  local ok, server = pcall(net.listen, host, port or 0)
  if ok then return server end
  pending("no IPv6 on this machine")
end

describe("a numeric address", function()
  it("may have a zone, by name or by number", function()
    local server <close> = listening("::1%lo")
    if not server then return end
    local port = server:address().port
    for _, host in ipairs { "::1%1", "::1%lo", "0:0:0:0:0:0:0:1" } do
      local stream <close> = net.connect(host, port)
      assert.equal("::1", (stream:peer().host:gsub("%%.*", "")))
    end
    local options = { numeric_host = true }
    assert.equal("fe80::1%lo", (net.getnameinfo({ host = "fe80::1%1" }, options)))
  end)

  it("is none if its zone is unknown or its text too long", function()
    for _, host in ipairs { "fe80::1%no-such-if", "fe80::1%", "fe80::1%4294967297", "127.0.0.1%lo",
      "0000:0000:0000:0000:0000:0000:1.2.33.1444%lo", "0000:0000:0000:0000:0000:0000:0000:0001:0000:0000%lo" } do
      refuses("ValueError", { "numeric address", host }, net.getnameinfo, { host = host })
    end
    local long = "0000:0000:0000:0000:0000:0000:101.102.103.104"
    local e = refuses("TimeoutError", {}, net.connect, { long .. "%lo" }, 1, { timeout = 0 })
    assert.equal(("connect [%s%%lo]:1: no connection within 0.0 seconds"):format(long), e.message)
    assert.equal("::101.102.103.104", (net.getnameinfo({ host = long .. "%lo" }, { numeric_host = true }))
      :gsub("%%.*", ""))
  end)

  it("that is of another family than was asked for is refused", function()
    local e = refuses("OSError", "getaddrinfo 127.0.0.1: EAI_", net.connect, "127.0.0.1", 1, { family = "inet6" })
    assert.equal("getaddrinfo", e.syscall)
    local hosts = { "::1", "127.0.0.1" }
    refuses("ValueError", { "#1", "'::1'", "place 1", "inet" }, net.connect, hosts, 1, { family = "inet" })
    refuses("ValueError", { "#1", "'127.0.0.1'", "place 2" }, net.connect, hosts, 1, { family = "inet6" })
  end)
end)

describe("a name that would have to be looked up", function()
  it("is refused where nothing can wait for that, by the call that was made", function()
    local s <close> = net.udp { host = "127.0.0.1" }
    local calls = {
      listen = function() net.listen("localhost", 0) end,
      udp = function() net.udp { host = "localhost" } end,
      send = function() s:send("x", "localhost", 1) end,
    }
    for name, call in pairs(calls) do
      refuses("RuntimeError", name .. " where Lua cannot yield", string.gsub, "x", "x", call)
    end
  end)
end)

describe("a NUL in a name", function()
  it("is refused, not taken for its end", function()
    refuses("ValueError", { "#3", "NUL" }, net.connect, "127.0.0.1", 1, { local_address = "127.0.0.1\0x" })
    refuses("ValueError", { "#1", "NUL" }, net.udp, { multicast_interface = "lo\0x" })
    local s <close> = net.udp()
    refuses("ValueError", { "#2", "NUL" }, function() s:join("224.0.0.251", "lo\0x") end)
  end)
end)

describe("a list of addresses", function()
  it("has as many as it says", function()
    local endless = setmetatable({ "127.0.0.1" }, { __len = function() return (1 << 32) + 1 end })
    refuses("ValueError", "#1", net.connect, endless, 1)
  end)
end)

describe("local_address", function()
  it("is named by the error if it is at fault", function()
    local e = refuses("OSError", {}, net.connect, "127.0.0.1", 1, { local_address = "192.0.2.1" })
    assert.equal("bind 192.0.2.1:0: EADDRNOTAVAIL", e.message)
    assert.equal("bind", e.syscall)
    assert.equal("192.0.2.1:0", e.address)
    e = refuses("OSError", {}, net.connect, "127.0.0.1", 1, { local_address = "::1" })
    assert.equal("bind [::1]:0: EAFNOSUPPORT", e.message)
    assert.equal(e.message, e.causes[1].message)
  end)

  it("says which addresses of a name are of use", function()
    if not pcall(net.getaddrinfo, "localhost", nil, { family = "inet" }) then return pending("no localhost") end
    local port = sockets.dead_port()
    local e = refuses("OSError", {}, net.connect, "localhost", port, { local_address = "127.0.0.1" })
    assert.equal(("connect 127.0.0.1:%d: ECONNREFUSED"):format(port), e.message)
    -- The system's list may have it twice.
    for _, cause in ipairs(e.causes) do assert.equal(e.message, cause.message) end
  end)
end)

describe("a server for all of this machine", function()
  it("calls IPv4 by its name", function()
    local server <close> = net.listen(nil, 0)
    local client = async.create_task(net.connect, "127.0.0.1", server:address().port)
    local stream <close> = server:accept()
    local other <close> = async.await(client)
    assert.same(other:sock(), stream:peer())
    assert.same(other:peer(), stream:sock())
    assert.equal("inet", stream:peer().family)
    assert.equal("127.0.0.1", stream:peer().host)
  end)

  it("is not for IPv4 alone because somebody else has the port for IPv6", function()
    local six <close> = listening("::")
    if not six then return end
    local port = six:address().port
    local e = refuses("OSError", {}, net.listen, nil, port)
    assert.equal(("bind [::]:%d: EADDRINUSE"):format(port), e.message)
  end)
end)

describe("a port", function()
  it("may be a float with an integer value, wherever there is one", function()
    assert.equal(80, net.getaddrinfo("127.0.0.1", 80.0)[1].port)
    local to <close> = net.udp { host = "127.0.0.1", port = 0.0 }
    local port = to:address().port + 0.0
    local from <close> = net.udp { connect = { "127.0.0.1", port } }
    from:send("by its number")
    assert.equal("by its number", (to:recv()))
    if not pcall(net.getaddrinfo, "localhost") then return end
    local by_name <close> = net.udp()
    by_name:send("by its name", "localhost", port)
    assert.equal("by its name", (to:recv()))
    refuses("ValueError", { "#1", "connect", "port" }, net.udp, { connect = { "127.0.0.1", 1.5 } })
    refuses("ValueError", { "#1", "connect", "port" }, net.udp, { connect = { "127.0.0.1", "53" } })
  end)
end)

describe("the zone of a group", function()
  it("is the interface, if no other is given", function()
    local ok, s = pcall(net.udp, { host = "::" })
    if not ok then return pending("no IPv6 on this machine") end
    local _ <close> = s
    s:join("ff01::7:7%lo")
    s:leave("ff01::7:7", "lo")
    s:join("ff01::7:7", "lo")
    s:leave("ff01::7:7%1")
    refuses("ValueError", { "#1", "join" }, function() s:join("ff01::7:7%no-such-if") end)
  end)
end)

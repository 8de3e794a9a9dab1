-- Names of addresses, and lookups in the pool. (Addresses of names: net_spec.lua.)
local async = require "lunation"
local helper = require "spec.helper"
local net = require "lunation.net"

local refuses, turns = helper.refuses, helper.turns

local here = { host = "127.0.0.1", port = 80, family = "inet" }

describe("getnameinfo", function()
  it("gives numbers when it is asked for them", function()
    local numbers = { numeric_host = true, numeric_service = true }
    assert.same({ "127.0.0.1", "80" }, { net.getnameinfo(here, numbers) })
    assert.same({ "::1", "0" }, { net.getnameinfo({ host = "::1" }, numbers) })
  end)

  it("gives the names that this machine knows", function()
    local known = pcall(net.getaddrinfo, "localhost")
    local host, service = net.getnameinfo(here)
    assert.is_true(#host > 0)
    if known then assert.equal("localhost", host) end
    local ok, http = pcall(net.getaddrinfo, "127.0.0.1", "http")
    if ok then
      assert.equal("http", service)
      assert.equal(80, http[1].port)
    end
  end)

  it("tells services of streams and of datagrams apart", function()
    if not pcall(net.getaddrinfo, "127.0.0.1", "tftp", { type = "datagram" }) then
      return pending("this machine knows no services")
    end
    assert.equal(69, net.getaddrinfo("127.0.0.1", "tftp", { type = "datagram" })[1].port)
    refuses("OSError", "EAI_", net.getaddrinfo, "127.0.0.1", "tftp", { type = "stream" })
    local options = { type = "datagram", numeric_host = true }
    assert.equal("tftp", select(2, net.getnameinfo({ host = "127.0.0.1", port = 69 }, options)))
  end)

  it("takes the address of a stream and of a datagram", function()
    local a <close> = net.udp { host = "127.0.0.1" }
    a:send("x", "127.0.0.1", a:address().port)
    local _, from = a:recv()
    local host, service = net.getnameinfo(from, { numeric_host = true, numeric_service = true })
    assert.same({ from.host, tostring(from.port) }, { host, service })
  end)

  it("throws an OSError that names the address", function()
    local nobody = { host = "192.0.2.1", port = 9 }
    local e = refuses("OSError", "getnameinfo 192.0.2.1:9: EAI_", net.getnameinfo, nobody, { name_required = true })
    assert.equal("getnameinfo", e.syscall)
  end)

  it("can be cancelled", function()
    for n = 0, 2 do
      local task = async.create_task(net.getnameinfo, here)
      turns(n)
      task:cancel()
      async.wait { task }
      assert.is_true(task:cancelled() or #task:result() > 0)
    end
    assert.is_true(helper.eventually(function() return async.get_running_loop():stats().requests == 0 end))
  end)

  it("checks its arguments", function()
    refuses("TypeError", { "#1", "getnameinfo" }, net.getnameinfo, "127.0.0.1")
    refuses("TypeError", { "#1", "getnameinfo", "host" }, net.getnameinfo, {})
    refuses("TypeError", { "#1", "getnameinfo", "host" }, net.getnameinfo, { host = 1 })
    refuses("ValueError", { "#1", "'localhost'" }, net.getnameinfo, { host = "localhost" })
    refuses("ValueError", { "#1", "port" }, net.getnameinfo, { host = "::1", port = 65536 })
    refuses("TypeError", { "#2", "getnameinfo" }, net.getnameinfo, here, 1)
    refuses("TypeError", { "#2", "numeric_host" }, net.getnameinfo, here, { numeric_host = 1 })
    refuses("ValueError", { "#2", "type" }, net.getnameinfo, here, { type = "raw" })
    refuses("ValueError", { "#3", "type" }, net.getaddrinfo, "::1", 1, { type = "raw" })
  end)
end)

describe("many lookups", function()
  it("go on side by side, each with its own answer", function()
    local ports = {}
    for i = 1, 100 do ports[i] = i end
    local answers = async.map(ports, function(port)
      return net.getaddrinfo("127.0.0.1", port)[1].port + tonumber((select(2, net.getnameinfo(
        { host = "127.0.0.1", port = port }, { numeric_host = true, numeric_service = true }))))
    end)
    for i = 1, 100 do assert.equal(2 * i, answers[i]) end
  end)
end)

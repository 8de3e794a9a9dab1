-- Datagrams: sending, receiving, addresses, groups, and what a socket is told of its failures.
local async = require "lunation"
local helper = require "spec.helper"
local command = require "spec.support.command"
local net = require "lunation.net"

local refuses, turns = helper.refuses, helper.turns

local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns()
  return task
end

-- pair(fn): fn(a, b, port of b), two sockets on 127.0.0.1.
local function pair(fn)
  local a <close> = net.udp { host = "127.0.0.1" }
  local b <close> = net.udp { host = "127.0.0.1" }
  return fn(a, b, b:address().port)
end

local function dead_port()
  local s <close> = net.udp { host = "127.0.0.1" }
  return s:address().port
end

describe("a UDP socket", function()
  it("sends and receives datagrams, each whole and for itself", function()
    pair(function(a, b, port)
      a:send("one", "127.0.0.1", port):send("", "127.0.0.1", port):send("th\0ree", "127.0.0.1", port)
      for _, expected in ipairs { "one", "", "th\0ree" } do
        local data, from = b:recv()
        assert.equal(expected, data)
        assert.same(a:address(), from)
      end
    end)
  end)

  it("answers to the address that recv gave", function()
    pair(function(a, b, port)
      local serving = started(function()
        for data, from in b:packets() do b:send(data:upper(), from) end
        return "closed"
      end)
      for word in ("some words to be shouted"):gmatch("%a+") do
        a:send(word, { host = "127.0.0.1", port = port })
        assert.equal(word:upper(), a:recv())
      end
      b:close()
      assert.equal("closed", async.await(serving))
    end)
  end)

  it("is bound to a free port of all addresses unless told otherwise", function()
    local s <close> = net.udp()
    local a = s:address()
    assert.equal("0.0.0.0", a.host)
    assert.equal("inet", a.family)
    assert.is_true(a.port > 0)
    assert.is_nil(s:peer())
    assert.equal(("<UDPSocket open 0.0.0.0:%d>"):format(a.port), tostring(s))
    local all <close> = net.udp { host = "*" }
    assert.equal("0.0.0.0", all:address().host)
    local e = refuses("OSError", {}, net.udp, { host = "127.0.0.1", port = (function()
      local taken = net.udp { host = "127.0.0.1" }
      finally(function() taken:close() end)
      return taken:address().port
    end)() })
    assert.is_truthy(e.message:find("^bind 127.0.0.1:%d+: EADDRINUSE$"))
  end)

  it("looks names up", function()
    if not pcall(net.getaddrinfo, "localhost") then return pending("localhost has no address on this machine") end
    local b <close> = net.udp { host = "localhost", family = "inet" }
    local a <close> = net.udp()
    a:send("by name", "localhost", b:address().port)
    assert.equal("by name", b:recv())
    local c <close> = net.udp { family = "inet", connect = { "localhost", b:address().port } }
    assert.equal("127.0.0.1", c:peer().host)
    c:send("connected")
    assert.equal("connected", b:recv())
    refuses("OSError", "getaddrinfo no-such-host.invalid", a.send, a, "x", "no-such-host.invalid", 1)
    refuses("OSError", "getaddrinfo no-such-host.invalid", net.udp, { host = "no-such-host.invalid" })
    refuses("OSError", "getaddrinfo no-such-host.invalid", net.udp, { connect = { "no-such-host.invalid", 1 } })
  end)

  it("speaks IPv6 where there is any", function()
    local ok, b = pcall(net.udp, { host = "::1" })
    if not ok then return pending("no IPv6 on this machine") end
    local _ <close> = b
    local a <close> = net.udp { family = "inet6" }
    a:send("six", "::1", b:address().port)
    local data, from = b:recv()
    assert.equal("six", data)
    assert.equal("inet6", from.family)
    assert.equal("::1", from.host)
    assert.equal("EAFNOSUPPORT", refuses("OSError", "send [::1]:1", function()
      local four <close> = net.udp()
      four:send("x", "::1", 1)
    end).code)
  end)

  it("says of a truncated datagram how long it was", function()
    pair(function(a, b, port)
      a:send("0123456789", "127.0.0.1", port):send("0123456789", "127.0.0.1", port)
      local data, from = b:recv(4)
      assert.equal("0123", data)
      assert.equal(10, from.truncated)
      data, from = b:recv(10)
      assert.equal("0123456789", data)
      assert.is_nil(from.truncated)
    end)
  end)

  it("carries the longest datagram and refuses a longer one", function()
    pair(function(a, b, port)
      local longest = ("x"):rep(65507)
      a:send(longest, "127.0.0.1", port)
      assert.equal(longest, b:recv())
      local e = refuses("OSError", "send 127.0.0.1:" .. port, a.send, a, longest .. "x", "127.0.0.1", port)
      assert.equal("EMSGSIZE", e.code)
      a:send("still works", "127.0.0.1", port)
      assert.equal("still works", b:recv())
    end)
  end)

  it("serves several receivers in order", function()
    pair(function(a, b, port)
      local order, tasks = {}, {}
      for i = 1, 3 do
        tasks[i] = started(function()
          local data = b:recv()
          order[#order + 1] = i .. data
        end)
      end
      for _, word in ipairs { "a", "b", "c" } do
        a:send(word, "127.0.0.1", port)
        async.sleep(0.002)
      end
      async.gather(tasks)
      assert.same({ "1a", "2b", "3c" }, order)
    end)
  end)

  it("loses nothing to a cancelled receiver", function()
    pair(function(a, b, port)
      local first, second = started(b.recv, b), started(b.recv, b)
      a:send("x", "127.0.0.1", port)
      first:cancel()
      async.wait { first }
      local got = first:cancelled() and async.await(second) or first:result()
      assert.equal("x", got)
      second:cancel()
      async.wait { second }
      refuses("TimeoutError", {}, async.wait_for, function() return b:recv() end, 0.005)
      a:send("y", "127.0.0.1", port)
      assert.equal("y", b:recv())
    end)
  end)

  it("gives way now and then to others", function()
    pair(function(a, b, port)
      local ticks = 0
      local ticker = started(function()
        while true do
          ticks = ticks + 1
          async.sleep(0)
        end
      end)
      local before = ticks
      for _ = 1, 300 do
        a:send("x", "127.0.0.1", port)
        b:recv()
      end
      ticker:cancel()
      async.wait { ticker }
      assert.is_true(ticks - before >= 3)
    end)
  end)

  it("closed, ends what waits for it", function()
    local s = net.udp { host = "127.0.0.1" }
    local waiting = started(s.recv, s)
    local loop = started(function()
      for _ in s:packets() do error("a packet") end
      return "ended"
    end)
    s:close()
    s:close()
    assert.equal("ECANCELED", refuses("OSError", "recv 127.0.0.1:", async.await, waiting).code)
    assert.equal("ended", async.await(loop))
    for _, name in ipairs { "send", "recv", "packets", "address", "peer", "join", "leave" } do
      local e = refuses("OSError", { name, "the socket is closed" }, s[name], s, "x", "127.0.0.1", 1)
      assert.equal("EBADF", e.code)
    end
    assert.is_truthy(tostring(s):find("^<UDPSocket closed 127.0.0.1:"))
  end)

  it("closed while a name is looked up for it, sends nothing", function()
    if not pcall(net.getaddrinfo, "localhost") then return pending("localhost has no address on this machine") end
    local s = net.udp { host = "127.0.0.1" }
    local sending = async.create_task(s.send, s, "x", "localhost", 9)
    async.sleep(0)
    s:close()
    assert.equal("ECANCELED", refuses("OSError", "send 127.0.0.1:", async.await, sending).code)
  end)

  it("may be closed between its packets, in the loop over them", function()
    pair(function(a, b, port)
      for i = 1, 3 do a:send(tostring(i), "127.0.0.1", port) end
      local seen = {}
      for data in b:packets() do
        seen[#seen + 1] = data
        b:close()
      end
      assert.same({ "1" }, seen)
    end)
  end)

  it("is closed by the collector", function()
    local function handles() return async.get_running_loop():stats().handles end
    local before = handles()
    helper.without_sites(function()
      for _ = 1, 50 do net.udp() end
      collectgarbage()
      collectgarbage()
    end)
    assert.is_true(helper.eventually(function() return handles() <= before end))
  end)
end)

describe("a connected UDP socket", function()
  it("needs no destination and hears nobody else", function()
    pair(function(a, b, port)
      local c <close> = net.udp { connect = { host = "127.0.0.1", port = port } }
      assert.equal(port, c:peer().port)
      assert.equal("127.0.0.1", c:address().host)
      c:send("hello")
      local data, from = b:recv()
      assert.equal("hello", data)
      assert.same(c:address(), from)
      a:send("stranger", c:address())
      b:send("friend", from)
      assert.equal("friend", c:recv())
      refuses("ValueError", { "#2", "send", "not connected" }, function() a:send("x") end)
    end)
  end)

  it("hears of a refusal in its next call, and goes on", function()
    local port = dead_port()
    local c <close> = net.udp { connect = { "127.0.0.1", port } }
    local waiting = started(c.recv, c)
    c:send("x")
    local e = refuses("OSError", {}, async.await, waiting)
    assert.equal(("recv 127.0.0.1:%d: ECONNREFUSED"):format(port), e.message)
    c:send("x")
    async.sleep(0.005)
    e = refuses("OSError", {}, c.send, c, "x")
    assert.equal(("send 127.0.0.1:%d: ECONNREFUSED"):format(port), e.message)
    local there <close> = net.udp { host = "127.0.0.1", port = port }
    helper.eventually(function() return pcall(c.send, c, "you are there") end)
    assert.equal("you are there", there:recv())
  end)
end)

describe("options of udp", function()
  it("let sockets share an address", function()
    for _, option in ipairs { "reuse_address", "reuse_port" } do
      local first <close> = net.udp { host = "127.0.0.1", [option] = true }
      local port = first:address().port
      local second <close> = net.udp { host = "127.0.0.1", port = port, [option] = true }
      assert.equal(port, second:address().port)
    end
  end)

  it("allow broadcasts", function()
    local to <close> = net.udp()
    local port = to:address().port
    local plain <close> = net.udp()
    assert.equal("EACCES", refuses("OSError", "127.255.255.255", plain.send, plain, "x", "127.255.255.255", port).code)
    local loud <close> = net.udp { broadcast = true }
    loud:send("to all", "127.255.255.255", port)
    assert.equal("to all", to:recv())
  end)

  it("carry multicast on the loopback interface", function()
    local group = "239.255.7.7"
    local to <close> = net.udp { reuse_address = true }
    local port = to:address().port
    to:join(group, "127.0.0.1")
    local from <close> = net.udp { multicast_interface = "127.0.0.1", multicast_ttl = 0, ttl = 9 }
    from:send("to the group", group, port)
    assert.equal("to the group", to:recv())
    local by_name <close> = net.udp { multicast_interface = "lo", multicast_loop = true }
    by_name:send("to the group again", group, port)
    assert.equal("to the group again", to:recv())
    to:leave(group, "127.0.0.1")
    from:send("to those who stayed", group, port)
    refuses("TimeoutError", {}, async.wait_for, function() return to:recv() end, 0.02)
    assert.equal("EADDRNOTAVAIL", refuses("OSError", "leave " .. group, to.leave, to, group, "127.0.0.1").code)
    assert.equal("ENODEV", refuses("OSError", "join no-such-if", to.join, to, group, "no-such-if").code)
    assert.equal("EINVAL", refuses("OSError", "join 127.0.0.1", to.join, to, "127.0.0.1", "127.0.0.1").code)
    refuses("ValueError", { "#1", "join" }, function() to:join("ff02::1") end)
    refuses("OSError", "udp multicast_interface: ENODEV", net.udp, { multicast_interface = "no-such-if" })
  end)

  it("know groups of IPv6 where there is any", function()
    local options = { host = "::", multicast_interface = "lo", multicast_ttl = 0, multicast_loop = false, ttl = 3 }
    local ok, s = pcall(net.udp, options)
    if not ok then return pending("no IPv6 on this machine") end
    local _ <close> = s
    s:join("ff01::7:7", "lo")
    s:leave("ff01::7:7", "lo")
    assert.equal("EADDRNOTAVAIL", refuses("OSError", "leave ff01::7:7", s.leave, s, "ff01::7:7", "lo").code)
    assert.equal("ENODEV", refuses("OSError", "join no-such-if", s.join, s, "ff01::7:7", "no-such-if").code)
    refuses("ValueError", { "#1", "join" }, function() s:join("239.1.1.1") end)
  end)

  it("are checked", function()
    refuses("TypeError", { "#1", "udp" }, net.udp, 1)
    refuses("TypeError", { "#1", "host" }, net.udp, { host = 1 })
    refuses("TypeError", { "#1", "port" }, net.udp, { port = "1" })
    refuses("ValueError", { "#1", "port" }, net.udp, { port = 65536 })
    refuses("ValueError", { "#1", "family" }, net.udp, { family = "unix" })
    refuses("ValueError", { "#1", "253" }, net.udp, { host = ("x"):rep(254) })
    refuses("TypeError", { "#1", "connect" }, net.udp, { connect = "127.0.0.1" })
    refuses("TypeError", { "#1", "connect" }, net.udp, { connect = {} })
    refuses("ValueError", { "#1", "connect" }, net.udp, { connect = { "127.0.0.1" } })
    refuses("ValueError", { "#1", "connect" }, net.udp, { connect = { "127.0.0.1", 65536 } })
    refuses("ValueError", { "#1", "ttl" }, net.udp, { ttl = 0 })
    refuses("ValueError", { "#1", "multicast_ttl" }, net.udp, { multicast_ttl = 256 })
    refuses("TypeError", { "#1", "multicast_loop" }, net.udp, { multicast_loop = 1 })
    refuses("TypeError", { "#1", "multicast_interface" }, net.udp, { multicast_interface = 1 })
    refuses("TypeError", { "#1", "broadcast" }, net.udp, { broadcast = 1 })
    local s <close> = net.udp()
    refuses("TypeError", { "#1", "send", "string" }, function() s:send(1, "127.0.0.1", 1) end)
    refuses("TypeError", { "#2", "send", "string" }, function() s:send("x", 1, 1) end)
    refuses("TypeError", { "#3", "send", "integer" }, function() s:send("x", "127.0.0.1") end)
    refuses("ValueError", { "#3", "send" }, function() s:send("x", "127.0.0.1", 65536) end)
    refuses("TypeError", { "#2", "send", "host" }, function() s:send("x", { port = 1 }) end)
    refuses("TypeError", { "#3", "send" }, function() s:send("x", { host = "127.0.0.1" }) end)
    refuses("ValueError", { "#1", "recv" }, function() s:recv(0) end)
    refuses("TypeError", "recv", s.recv, {})
    local got = async.Future()
    async.get_running_loop():call_soon(function() got:set_result(select(2, pcall(s.recv, s))) end)
    assert.equal("RuntimeError", async.await(got).name)
  end)

  it("hold for the loop that made the socket", function()
    helper.plain [[
      local net, s = async.net, nil
      async.run(function() s = net.udp() end)
      async.run(function() assert(refuses("OSError", "closed", s.recv, s).code == "EBADF") end)
    ]]
  end)
end)

describe("a socket with errors and queued work", function()
  -- libuv's own UDP handles read freed memory when they are closed in their callback while sends are queued.
  it("is closed by the very task that its packet woke, others waiting", function()
    pair(function(a, b, port)
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = started(function()
          local data = b:recv()
          b:close()
          return data
        end)
      end
      for i = 1, 5 do a:send(tostring(i), "127.0.0.1", port) end
      async.wait(tasks)
      local ends = {}
      for i = 1, 5 do
        local e = tasks[i]:exception()
        ends[i] = e and e.code or tasks[i]:result()
      end
      assert.equal("1", ends[1])
      assert.equal("ECANCELED", ends[5])
    end)
  end)
end)

describe("datagrams of others", function()
  it("come from and go to python3's sockets", function()
    local dir = command.temp_dir()
    local _ <close> = async.defer(function() command.remove_dir(dir) end)
    local here <close> = net.udp { host = "127.0.0.1" }
    local program = [[
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.sendto(b"question", ("127.0.0.1", int(sys.argv[1])))
print(s.recv(100).decode())
]]
    local pid = command.start { "python3", "-c", program, here:address().port, log = dir .. "/log" }
    local data, from = here:recv()
    assert.equal("question", data)
    here:send("answer", from)
    assert.is_true(command.wait_until(command.ended(pid)))
    assert.equal("answer\n", command.slurp(dir .. "/log"))
  end)
end)

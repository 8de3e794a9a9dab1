-- TLS where connections are made: net.connect and net.listen with the option tls, over TCP and Unix sockets; servers
-- that go on whatever their clients do.
local async = require "lunation"
local net = async.net
local certificates = require "spec.support.certificates"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local refuses, started = helper.refuses, tasks.started
local tls = async.tls
local made, trust, show

setup(function()
  made = certificates.make("other", "stranger", "client", "leaf")
  trust = tls.context { ca = made:path "ca.pem" }
  show = tls.context(made:pair "server")
end)
teardown(function() made:remove() end)

-- Runs fn(port, server) beside a server that answers lines; options as listen takes them.
local function with_server(options, fn, handler)
  local server <close> = net.listen("127.0.0.1", 0, options)
  local serving = async.create_task(server.serve, server, handler or function(stream)
    for line in stream:lines() do stream:write("<", line, ">\n") end
  end)
  local _ <close> = async.defer(function()
    serving:cancel()
    async.wait { serving }
  end)
  return fn(server:address().port, server)
end

describe("net.connect with TLS", function()
  it("checks the host that it was given", function()
    with_server({ tls = show }, function(port)
      for _, host in ipairs { "127.0.0.1", "localhost" } do
        local stream <close> = net.connect(host, port, { tls = trust })
        assert.equal(host == "localhost" and host or nil, stream:tls().server_name)
        assert.is_true(stream:tls().verified)
        assert.equal("127.0.0.1", stream:peer().host)
        assert.truthy(tostring(stream):find("^<Stream open 127.0.0.1:"))
        assert.equal("<hi>", stream:write("hi\n"):read())
      end
      local e = refuses("SSLError", {}, net.connect, "127.0.0.1", port, { tls = { context = trust, server_name = "x.test" } })
      local at = "127.0.0.1:" .. port
      assert.equal("connect " .. at .. ": certificate verify failed: hostname mismatch, certificate is not valid for "
        .. "'x.test'", e.message)
      assert.equal("connect", e.syscall)
      assert.equal(at, e.address)
      e = refuses("SSLError", "certificate verify failed", net.connect, "localhost", port, { tls = true })
      assert.equal(20, e.verify_code)
      local stream <close> = net.connect("127.0.0.1", port, { tls = { verify = false } })
      assert.is_false(stream:tls().verified)
    end)
  end)

  it("refuses bad options before it opens anything", function()
    refuses("TypeError", { "#3", "connect", "tls: true" }, net.connect, "127.0.0.1", 1, { tls = 5 })
    refuses("ValueError", { "#3", "connect", "unknown option" }, net.connect, "127.0.0.1", 1, { tls = { sni = 1 } })
    refuses("TypeError", { "#1", "connect" }, net.connect, nil, 1, { tls = true })
    refuses("TypeError", { "#2", "connect" }, net.connect, "127.0.0.1", "1", { tls = trust })
    refuses("ValueError", { "#3", "listen", "tls.cert" }, net.listen, "127.0.0.1", 0, { tls = true })
    refuses("ValueError", { "#3", "listen", "tls.cert" }, net.listen, "127.0.0.1", 0, { tls = trust })
    local e = refuses("OSError", "connect", net.connect, "127.0.0.1", sockets.dead_port(), { tls = true })
    assert.equal("ECONNREFUSED", e.code)
    local plain <close> = net.listen("127.0.0.1", 0, { tls = false })
    local stream <close> = net.connect("127.0.0.1", plain:address().port, { tls = false })
    assert.is_nil(stream:tls())
    refuses("RuntimeError", "reload: the server has no TLS", plain.reload, plain, show)
  end)

  it("is cancelled, or runs out of time, in the handshake, and leaves nothing open #real", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local port = server:address().port
    local loop = async.get_running_loop()
    local before = loop:stats().handles
    local client = async.create_task(net.connect, "127.0.0.1", port, { tls = trust })
    local peer <close> = server:accept()
    assert.equal("\x16\x03\x01", peer:read(3)) -- the beginning of a ClientHello
    client:cancel()
    refuses("CancelledError", {}, async.await, client)
    peer:read("a")
    refuses("TimeoutError", { "connect 127.0.0.1:" .. port, "time" }, net.connect, "127.0.0.1", port,
      { tls = trust, timeout = 0.02 * helper.slow })
    local e = refuses("SSLError", "the handshake timed out", net.connect, "127.0.0.1", port,
      { tls = { ca = made:path "ca.pem", handshake_timeout = 0.01 }, timeout = 60 })
    assert.equal("HANDSHAKE_TIMED_OUT", e.code)
    peer:close()
    helper.turns(3)
    assert.is_true(helper.eventually(function() return loop:stats().handles == before end))
  end)

  it("hears of a peer that goes away in the handshake", function()
    for _, how in ipairs { "shutdown", "close" } do
      local server <close> = net.listen("127.0.0.1", 0)
      local client = async.create_task(net.connect, "127.0.0.1", server:address().port, { tls = trust })
      local peer <close> = server:accept()
      assert.equal("\x16", peer:read(1))
      peer[how](peer)
      assert.equal("UNEXPECTED_EOF", refuses("SSLError", "connect 127.0.0.1:", async.await, client).code)
    end
  end)

  it("takes no plain text for an answer", function()
    with_server({}, function(port)
      local e = refuses("SSLError", "connect 127.0.0.1:", net.connect, "127.0.0.1", port, { tls = trust })
      assert.equal("WRONG_VERSION_NUMBER", e.code)
    end, function(stream) stream:write("HTTP/1.1 400 Bad Request\r\n\r\n") end)
  end)
end)

describe("a server with TLS", function()
  it("accepts at once: a client that is slow keeps nobody waiting", function()
    local server <close> = net.listen("127.0.0.1", 0, { tls = show })
    local port = server:address().port
    local slow <close> = net.connect("127.0.0.1", port)
    local silent <close> = server:accept()
    refuses("InvalidStateError", "handshake", silent.tls, silent)
    local client = async.create_task(net.connect, "127.0.0.1", port, { tls = trust })
    local peer <close> = server:accept()
    peer:write("welcome\n") -- waits for the handshake by itself
    local stream <close> = async.await(client)
    assert.equal("welcome", stream:read())
    assert.equal(peer, peer:handshake())
    slow:close()
    assert.equal("UNEXPECTED_EOF", refuses("SSLError", "handshake 127.0.0.1:", silent.handshake, silent).code)
    assert.equal("UNEXPECTED_EOF", refuses("SSLError", "read 127.0.0.1:", silent.read, silent).code)
  end)

  it("sends nothing before the handshake, and nothing at all if it fails", function()
    local server <close> = net.listen("127.0.0.1", 0, { tls = show })
    local client <close> = net.connect("127.0.0.1", server:address().port)
    local peer <close> = server:accept()
    local writer = started(peer.write, peer, ("top secret "):rep(10000))
    assert.is_false(writer:done())
    client:write("GET / HTTP/1.0\r\n\r\n")
    assert.equal("HTTP_REQUEST", refuses("SSLError", "write 127.0.0.1:", async.await, writer).code)
    assert.equal("HTTP_REQUEST", refuses("SSLError", "read 127.0.0.1:", peer.read, peer).code)
    peer:close()
    assert.is_nil(client:read("a"):find("secret", 1, true))
  end)

  it("calls its handler when the handshake is over, and for nobody who fails it", function()
    local handled = 0
    local reports = helper.reports(function()
      with_server({ tls = show }, function(port)
        refuses("SSLError", {}, net.connect, "127.0.0.1", port, { tls = true })
        do
          local plain <close> = net.connect("127.0.0.1", port)
          plain:write("hello\n")
          plain:read("a")
        end
        net.connect("127.0.0.1", port):close()
        local stream <close> = net.connect("127.0.0.1", port, { tls = trust })
        assert.equal("TLSv1.3", stream:read())
        assert.is_nil(stream:read())
        assert.equal(1, handled)
      end, function(stream)
        handled = handled + 1
        stream:write(stream:tls().version, "\n")
      end)
    end)
    assert.same({}, reports)
  end)

  it("reports what its handler throws", function()
    local reports = helper.reports(function()
      with_server({ tls = show }, function(port)
        local stream <close> = net.connect("127.0.0.1", port, { tls = trust })
        assert.is_nil(stream:read())
      end, function() error("no luck", 0) end)
    end)
    assert.equal("Unhandled exception in connection handler", reports[1].message)
    assert.equal("no luck", reports[1].exception)
    assert.equal(1, #reports)
  end)

  it("shows another certificate from one connection on", function()
    with_server({ tls = show }, function(port, server)
      local old <close> = net.connect("localhost", port, { tls = trust })
      refuses("ValueError", { "#1", "reload", "tls.cert" }, function() server:reload(trust) end)
      refuses("OSError", "open", server.reload, server, { cert = made:path "nowhere.pem" })
      server:reload { cert = made:path "leaf.chain", key = made:path "leaf.key" }
      local new <close> = net.connect("localhost", port, { tls = trust })
      assert.equal("CN=server", old:peer_certificate().subject)
      assert.equal("CN=leaf", new:peer_certificate().subject)
      for _, stream in ipairs { old, new } do assert.equal("<on>", stream:write("on\n"):read()) end
      server:reload(show)
      local again <close> = net.connect("localhost", port, { tls = trust })
      assert.equal("CN=server", again:peer_certificate().subject)
    end)
  end)

  it("works on a Unix socket", function()
    local path = made:path "socket"
    local server <close> = net.listen_unix(path, { tls = show })
    refuses("ValueError", { "tls.server_name", "verify" }, net.connect_unix, path, { tls = trust })
    local client = async.create_task(net.connect_unix, path, { tls = { context = trust, server_name = "localhost" } })
    local peer <close> = server:accept()
    local stream <close> = async.await(client)
    stream:write("over a path\n"):shutdown()
    assert.equal("over a path\n", peer:read("a"))
    assert.equal(path, stream:peer().path)
  end)

  it("serves many at a time #nosweep", function()
    with_server({ tls = show }, function(port)
      local n = helper.scaled(60, 10)
      local list = {}
      for i = 1, n do list[i] = i end
      async.map(list, function(i)
        local stream <close> = net.connect("127.0.0.1", port, { tls = trust })
        for k = 1, 3 do assert.equal(("<%d.%d>"):format(i, k), stream:write(i, ".", k, "\n"):read()) end
      end)
    end)
  end)

  it("ends with its loop, wherever a handshake stands", function()
    local stdout = helper.plain(([[
      local net, tls = async.net, async.tls
      local show, trust = tls.context { cert = %q, key = %q }, tls.context { ca = %q, server_name = "localhost" }
      local memory = require "lunation.memory"
      local kept = {}
      for i = 1, 30 do
        local runner = async.Runner()
        runner:run(function()
          local server = net.listen("127.0.0.1", 0, { tls = show })
          local client = async.create_task(pcall, net.connect, "127.0.0.1", server:address().port, { tls = trust })
          kept[#kept + 1] = server:accept()
          local a, b = memory.pair { max_read = 400 }
          async.create_task(pcall, a.start_tls, a, trust)
          async.create_task(pcall, b.start_tls, b, { context = show, server = true })
          for _ = 1, i do async.sleep(0) end
          if i %% 4 == 0 then a:close() end
          if i %% 5 == 0 then async.create_task(pcall, kept[#kept].write, kept[#kept], "x") async.sleep(0) kept[#kept]:close() end
          kept[#kept + 1] = a
        end)
        runner:close()
      end
      for _, stream in ipairs(kept) do refuses("OSError", "closed", stream.read, stream) end
      print "ended"
    ]]):format(made:path "server.pem", made:path "server.key", made:path "ca.pem"))
    assert.equal("ended\n", stdout)
  end)

  it("belongs to its loop and to tasks", function()
    helper.plain(([[
      local memory = require "lunation.memory"
      local trust = async.tls.context { ca = %q, server_name = "localhost" }
      refuses("RuntimeError", "no running event loop", async.net.connect, "127.0.0.1", 1, { tls = trust })
      local a
      local runner = async.Runner()
      runner:run(function()
        a = memory.pair()
        local done = async.Future()
        async.get_running_loop():call_soon(function()
          done:set_result(select(2, pcall(a.start_tls, a, trust)))
        end)
        eq("RuntimeError", async.await(done).name)
        eq(nil, a:tls())
      end)
      async.run(function() refuses("RuntimeError", "another event loop", a.start_tls, a, trust) end)
      runner:close()
    ]]):format(made:path "ca.pem"))
  end)
end)

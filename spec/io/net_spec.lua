-- Connecting, listening, serving, and looking names up.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"
local command = require "spec.support.command"
local net = require "lunation.net"

local refuses, turns = helper.refuses, helper.turns

local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns()
  return task
end

-- serving(handler, fn): fn(port, server, task) while handler serves; the server is closed and waited for afterwards.
local function serving(handler, fn)
  local server <close> = net.listen("127.0.0.1", 0)
  local task = started(server.serve, server, handler)
  local results = table.pack(pcall(fn, server:address().port, server, task))
  server:close()
  async.wait { task }
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- Some machines, containers above all, know no names at all.
local function needs_localhost()
  if not pcall(net.getaddrinfo, "localhost") then pending("localhost has no address on this machine") end
end

local function live_handles() return async.get_running_loop():stats().handles end

describe("the module", function()
  -- In a process of its own: busted loads modules anew for each file, and another one may have had async.net before.
  it("is async.net", function() helper.plain [[eq(require "lunation.net", async.net)]] end)
end)

describe("connect", function()
  it("reaches a server by name and by address", function()
    needs_localhost()
    serving(function(stream) stream:write("hello\n") end, function(port)
      for _, host in ipairs { "127.0.0.1", "localhost" } do
        local stream <close> = net.connect(host, port)
        assert.equal("hello", stream:read("l"))
        assert.equal(port, stream:peer().port)
      end
    end)
  end)

  it("throws an OSError that names the address", function()
    local port = sockets.dead_port()
    local e = refuses("OSError", {}, net.connect, "127.0.0.1", port)
    assert.equal(("connect 127.0.0.1:%d: ECONNREFUSED"):format(port), e.message)
    assert.equal("ECONNREFUSED", e.code)
    assert.equal("connect", e.syscall)
    assert.equal("127.0.0.1:" .. port, e.address)
    assert.equal(111, e.errno)
  end)

  it("tries the next address when one fails", function()
    needs_localhost()
    -- ::1 refuses (the server listens on 127.0.0.1 alone), 127.0.0.1 works.
    serving(function(stream) stream:write("found\n") end, function(port)
      local stream <close> = net.connect("localhost", port)
      assert.equal("found", stream:read("l"))
      assert.equal("127.0.0.1", stream:peer().host)
    end)
  end)

  it("throws the first error when all addresses fail", function()
    needs_localhost()
    local e = refuses("OSError", "connect", net.connect, "localhost", sockets.dead_port())
    assert.equal("ECONNREFUSED", e.code)
    assert.is_true(#e.causes >= 1)
    assert.equal(e.message, e.causes[1].message)
    for _, cause in ipairs(e.causes) do assert.is_true(async.isinstance(cause, async.OSError)) end
  end)

  it("names a host that there is not", function()
    local e = refuses("OSError", "getaddrinfo no-such-host.invalid: EAI_", net.connect, "no-such-host.invalid", 80)
    assert.equal("getaddrinfo", e.syscall)
  end)

  it("gives up after its timeout, also while others go on", function()
    local e = refuses("TimeoutError", "connect", net.connect, "127.0.0.1", sockets.dead_port(), { timeout = 0 })
    assert.is_truthy(e.message:find("127.0.0.1", 1, true))
    serving(function(stream) stream:write("x") end, function(port)
      local stream <close> = net.connect("127.0.0.1", port, { timeout = 5 })
      async.sleep(0.005)
      assert.equal("x", stream:read(1))
    end)
  end)

  it("takes a local address, a limit and nodelay", function()
    serving(function(stream) stream:write(stream:peer().host, "\n", ("x"):rep(50)) end, function(port)
      local options = { local_address = "127.0.0.2", limit = 20, nodelay = false }
      local stream <close> = net.connect("127.0.0.1", port, options)
      assert.equal("127.0.0.2", stream:sock().host)
      assert.equal("127.0.0.2", stream:read("l"))
      refuses("LimitOverrunError", "20", stream.read, stream, "l")
    end)
  end)

  it("leaves nothing open when it is cancelled at any point", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local port = server:address().port
    for _, host in ipairs { "127.0.0.1", "localhost", "no-such-host.invalid" } do
      for n = 0, 3 do
        local before = live_handles()
        local task = async.create_task(net.connect, host, port)
        turns(n)
        task:cancel()
        async.wait { task }
        if not task:cancelled() and not task:exception() then task:result():close() end
        assert.is_true(helper.eventually(function() return live_handles() <= before end))
      end
    end
    assert.is_true(helper.eventually(function() return async.get_running_loop():stats().requests == 0 end, 30))
  end)

  it("checks its arguments", function()
    refuses("TypeError", { "#1", "connect", "string" }, net.connect, nil, 80)
    refuses("TypeError", { "#2", "connect", "integer" }, net.connect, "127.0.0.1", "80")
    refuses("TypeError", { "#2", "connect" }, net.connect, "127.0.0.1", 80.5)
    refuses("ValueError", { "#2", "connect" }, net.connect, "127.0.0.1", 65536)
    refuses("ValueError", { "#2", "connect" }, net.connect, "127.0.0.1", -1)
    refuses("TypeError", { "#3", "connect" }, net.connect, "127.0.0.1", 80, "options")
    refuses("TypeError", { "#3", "connect", "timeout" }, net.connect, "127.0.0.1", 80, { timeout = "1" })
    refuses("TypeError", { "#3", "connect", "timeout" }, net.connect, "127.0.0.1", 80, { timeout = 0 / 0 })
    refuses("TypeError", { "#3", "connect", "nodelay" }, net.connect, "127.0.0.1", 80, { nodelay = 1 })
    refuses("TypeError", { "#3", "connect", "limit" }, net.connect, "127.0.0.1", 80, { limit = 1.5 })
    refuses("ValueError", { "#3", "connect", "limit" }, net.connect, "127.0.0.1", 80, { limit = 0 })
    refuses("ValueError", { "#3", "connect", "local_address" }, net.connect, "::1", 80, { local_address = "x" })
    refuses("ValueError", { "#1", "connect", "253" }, net.connect, ("x"):rep(254), 80)
    refuses("ValueError", { "#1", "connect", "NUL" }, net.connect, "127.0.0.1\0", 80)
  end)

  it("is for tasks alone", function()
    local e = async.Future()
    async.get_running_loop():call_soon(function() e:set_result(select(2, pcall(net.connect, "127.0.0.1", 80))) end)
    assert.equal("RuntimeError", async.await(e).name)
  end)
end)

describe("listen", function()
  it("tells where", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local a = server:address()
    assert.equal("127.0.0.1", a.host)
    assert.equal("inet", a.family)
    assert.is_true(a.port > 0)
    assert.equal(("<Server open 127.0.0.1:%d>"):format(a.port), tostring(server))
  end)

  it("takes names, all addresses, and IPv6 if there is any", function()
    needs_localhost()
    local named <close> = net.listen("localhost", 0)
    assert.is_true(named:address().port > 0)
    for _, host in ipairs { "", "*" } do
      local server <close> = net.listen(host, 0)
      local task = async.create_task(server.accept, server)
      net.connect("127.0.0.1", server:address().port):close()
      async.await(task):close()
    end
    local server <close> = net.listen(nil, 0)
    assert.is_true(server:address().port > 0)
    local ok, six = pcall(net.listen, "::1", 0)
    if not ok then return assert.equal("OSError", six.name) end
    local task = async.create_task(six.accept, six)
    local client = net.connect("::1", six:address().port)
    assert.equal("inet6", client:peer().family)
    assert.is_truthy(tostring(client):find("[::1]:", 1, true))
    async.await(task):close()
    client:close()
    six:close()
  end)

  it("throws an OSError for an address in use, unless it is shared", function()
    local first <close> = net.listen("127.0.0.1", 0, { reuse_port = true })
    local port = first:address().port
    local e = refuses("OSError", {}, net.listen, "127.0.0.1", port)
    assert.equal(("bind 127.0.0.1:%d: EADDRINUSE"):format(port), e.message)
    assert.equal("127.0.0.1:" .. port, e.address)
    local second <close> = net.listen("127.0.0.1", port, { reuse_port = true, backlog = 1 })
    assert.equal(port, second:address().port)
    refuses("OSError", { "bind 192.0.2.1:", "EADDRNOTAVAIL" }, net.listen, "192.0.2.1", 0)
    refuses("OSError", "getaddrinfo no-such-host.invalid", net.listen, "no-such-host.invalid", 0)
  end)

  it("checks its arguments", function()
    refuses("TypeError", { "#1", "listen" }, net.listen, 1, 0)
    refuses("TypeError", { "#2", "listen" }, net.listen, "127.0.0.1")
    refuses("ValueError", { "#2", "listen" }, net.listen, "127.0.0.1", 70000)
    refuses("ValueError", { "#3", "listen", "backlog" }, net.listen, "127.0.0.1", 0, { backlog = 0 })
    refuses("TypeError", { "#3", "listen", "reuse_port" }, net.listen, "127.0.0.1", 0, { reuse_port = 1 })
  end)
end)

describe("accept", function()
  it("gives connections to those who wait, in order", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local port, order, tasks = server:address().port, {}, {}
    for i = 1, 3 do
      tasks[i] = started(function()
        local stream <close> = server:accept()
        order[#order + 1] = i
        stream:read("a")
      end)
    end
    for _ = 1, 3 do
      net.connect("127.0.0.1", port):close()
      async.sleep(0.002)
    end
    async.gather(tasks)
    assert.same({ 1, 2, 3 }, order)
  end)

  it("loses no connection when it is cancelled", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local first = started(server.accept, server)
    local second = started(server.accept, server)
    local client <close> = net.connect("127.0.0.1", server:address().port)
    first:cancel()
    async.wait { first }
    local stream = first:cancelled() and async.await(second) or first:result()
    client:write("to you\n")
    assert.equal("to you", stream:read("l"))
    stream:close()
    second:cancel()
    async.wait { second }
  end)

  it("throws an OSError when the server is closed", function()
    local server = net.listen("127.0.0.1", 0)
    local waiting = started(server.accept, server)
    server:close()
    server:close()
    assert.equal("ECANCELED", refuses("OSError", "accept 127.0.0.1:", async.await, waiting).code)
    for _, name in ipairs { "accept", "address", "serve" } do
      assert.equal("EBADF", refuses("OSError", { name, "closed" }, server[name], server, print).code)
    end
    assert.is_truthy(tostring(server):find("closed", 1, true))
  end)

  it("checks its arguments", function()
    refuses("TypeError", "accept", function()
      local server <close> = net.listen("127.0.0.1", 0)
      server.accept(1)
    end)
  end)
end)

describe("serve", function()
  it("runs the handler for each connection at once and closes its stream", function()
    local kept
    serving(function(stream)
      kept = stream
      for line in stream:lines() do stream:write(line:upper(), "\n") end
    end, function(port)
      local results = async.map({ "a", "b", "c", "d" }, function(word)
        local stream <close> = net.connect("127.0.0.1", port)
        local answers = {}
        for i = 1, 3 do
          stream:write(word, i, "\n")
          answers[i] = stream:read("l")
        end
        return table.concat(answers)
      end)
      assert.same({ "A1A2A3", "B1B2B3", "C1C2C3", "D1D2D3", n = 4 }, results)
    end)
    assert.equal("closed", tostring(kept):match("%a+", 9))
  end)

  it("reports an error of the handler at once and goes on", function()
    local task
    local reports = helper.reports(function()
      serving(function(stream)
        task = async.current_task()
        if stream:read("l") == "bug" then error(async.ValueError("a bug")) end
        stream:write("fine\n")
      end, function(port)
        for _, word in ipairs { "bug", "fine" } do
          local stream <close> = net.connect("127.0.0.1", port)
          stream:write(word, "\n")
          assert.equal(word == "fine" and "fine" or nil, stream:read("l"))
          if word == "bug" then
            local failed = task
            turns(8)
            assert.is_true(failed:done())
          end
        end
      end)
    end)
    assert.equal(1, #reports)
    local context = reports[1]
    assert.equal("Unhandled exception in connection handler", context.message)
    assert.equal("connection", context.kind)
    assert.equal("a bug", context.exception.message)
    assert.equal(context.future, context.task)
    assert.equal("a bug", context.task:exception().message)
    assert.is_truthy(tostring(context.stream):find("^<Stream closed"))
    assert.is_truthy(context.traceback:find("net_spec.lua", 1, true))
  end)

  it("says nothing of a handler that was cancelled", function()
    local reports = helper.reports(function()
      serving(function(stream)
        async.current_task():cancel()
        stream:read("l")
      end, function(port)
        local stream <close> = net.connect("127.0.0.1", port)
        assert.equal("", stream:read("a"))
      end)
    end)
    assert.equal(0, #reports)
  end)

  it("returns after close() when the last connection has ended", function()
    local begun, ended = false, false
    local server = net.listen("127.0.0.1", 0)
    local task = started(server.serve, server, function(stream)
      begun = true
      stream:write(stream:read("l"), "\n")
      ended = true
    end)
    local port = server:address().port
    local stream <close> = net.connect("127.0.0.1", port)
    assert.is_true(helper.eventually(function() return begun end))
    server:close()
    assert.equal("ECONNREFUSED", refuses("OSError", "connect", net.connect, "127.0.0.1", port).code)
    assert.is_false(task:done())
    stream:write("still served\n")
    assert.equal("still served", stream:read("l"))
    assert.is_nil(async.await(task))
    assert.is_true(ended)
  end)

  it("cancelled, cancels the connections and waits for them, whatever comes in between", function()
    local log, begun = {}, 0
    local server <close> = net.listen("127.0.0.1", 0)
    local task = started(server.serve, server, function(stream)
      begun = begun + 1
      local _ <close> = async.defer(function(e)
        async.sleep(0.005)
        log[#log + 1] = e.name
      end)
      stream:read("a")
    end)
    local clients = {}
    for i = 1, 3 do clients[i] = net.connect("127.0.0.1", server:address().port) end
    assert.is_true(helper.eventually(function() return begun == 3 end))
    task:cancel("enough")
    turns()
    task:cancel("really")
    refuses("CancelledError", {}, async.await, task)
    assert.same({ "CancelledError", "CancelledError", "CancelledError" }, log)
    for _, client in ipairs(clients) do
      assert.equal("", client:read("a"))
      client:close()
    end
    -- The server itself is still open.
    task = started(server.accept, server)
    net.connect("127.0.0.1", server:address().port):close()
    async.await(task):close()
  end)

  it("cancelled after close(), does so too", function()
    local begun = false
    local server = net.listen("127.0.0.1", 0)
    local task = started(server.serve, server, function(stream)
      begun = true
      stream:read("a")
    end)
    local client <close> = net.connect("127.0.0.1", server:address().port)
    assert.is_true(helper.eventually(function() return begun end))
    server:close()
    turns()
    assert.is_false(task:done())
    task:cancel()
    refuses("CancelledError", {}, async.await, task)
    assert.equal("", client:read("a"))
  end)

  it("takes many connections that come at once", function()
    local n = helper.scaled(300, 50)
    local most, now = 0, 0
    serving(function(stream)
      now = now + 1
      most = math.max(most, now)
      stream:write(stream:read("l"), "\n")
      now = now - 1
    end, function(port)
      local list = {}
      for i = 1, n do list[i] = i end
      local results = async.map(list, function(i)
        local stream <close> = net.connect("127.0.0.1", port)
        stream:write(i, "\n")
        return stream:read("n")
      end)
      for i = 1, n do assert.equal(i, results[i]) end
      assert.is_true(most > 1)
    end)
  end)

  it("is for one task at a time, and wants a function", function()
    serving(function() end, function(_, server)
      refuses("RuntimeError", "served already", server.serve, server, print)
      refuses("TypeError", { "#1", "serve", "function" }, function() server:serve(1) end)
    end)
  end)
end)

describe("getaddrinfo", function()
  it("gives addresses", function()
    needs_localhost()
    local list = net.getaddrinfo("127.0.0.1", 80)
    assert.same({ { host = "127.0.0.1", port = 80, family = "inet" } }, list)
    local named = net.getaddrinfo("localhost", nil, { family = "inet" })
    assert.same({ host = "127.0.0.1", port = 0, family = "inet" }, named[1])
    assert.is_true(#net.getaddrinfo("localhost") >= 1)
    assert.same({ { host = "::1", port = 7, family = "inet6" } }, net.getaddrinfo("::1", 7, { family = "inet6" }))
  end)

  it("throws an OSError that names the host", function()
    local e = refuses("OSError", "getaddrinfo no-such-host.invalid: EAI_", net.getaddrinfo, "no-such-host.invalid")
    assert.equal("getaddrinfo", e.syscall)
    assert.is_truthy(e.code:find("^EAI_"))
  end)

  it("can be cancelled", function()
    local task = started(net.getaddrinfo, "localhost")
    task:cancel()
    async.wait { task }
    assert.is_true(task:cancelled() or #task:result() > 0)
    assert.is_true(helper.eventually(function() return async.get_running_loop():stats().requests == 0 end))
  end)

  it("checks its arguments", function()
    refuses("TypeError", { "#1", "getaddrinfo" }, net.getaddrinfo)
    refuses("TypeError", { "#2", "getaddrinfo" }, net.getaddrinfo, "localhost", {})
    refuses("ValueError", { "#2", "getaddrinfo" }, net.getaddrinfo, "localhost", 65536)
    refuses("ValueError", { "#3", "getaddrinfo", "family" }, net.getaddrinfo, "localhost", 1, { family = "ipx" })
    refuses("ValueError", { "#1", "getaddrinfo" }, net.getaddrinfo, ("a"):rep(300))
  end)
end)

describe("in debug", function()
  it("what was dropped unclosed is reported, with the place where it was made", function()
    local loop = async.get_running_loop()
    local debugging = loop:get_debug()
    local _ <close> = async.defer(function() loop:set_debug(debugging) end)
    local reports = helper.reports(function()
      loop:set_debug(true)
      local function drop()
        local server = net.listen("127.0.0.1", 0)
        local client = net.connect("127.0.0.1", server:address().port)
        server:accept():close()
        return client:read("a")
      end
      drop()
      collectgarbage()
      collectgarbage()
    end)
    assert.equal(2, #reports)
    for _, context in ipairs(reports) do
      assert.equal("Handle was never closed", context.message)
      assert.equal("leak", context.kind)
      assert.is_truthy(tostring(context.object):find("^<%a+ closed 127"))
      assert.is_truthy(context.source_traceback:find("net_spec.lua", 1, true), context.source_traceback)
    end
  end)
end)

describe("the end of a run", function()
  local function run(text)
    local path = os.tmpname()
    command.write_file(path, text)
    local stdout, stderr, code = command.run { command.lunation, path }
    os.remove(path)
    assert.equal("", stderr)
    assert.equal(0, code)
    return stdout
  end

  it("closes what was left open, and what outlives the loop is harmless", function()
    local out = run [[
      local async = require "lunation"
      local net = async.net
      local runner = async.Runner()
      local function main()
        local server = net.listen("127.0.0.1", 0)
        async.create_task(function() server:serve(function(s) s:read("a") end) end)
        local client = net.connect("127.0.0.1", server:address().port)
        async.create_task(function() client:read("a") end)
        async.sleep(0.01)
        return server, client
      end
      print("in the command a loop runs already", (pcall(runner.run, runner, main)))
      _G.server, _G.client = main()
    ]]
    assert.equal("in the command a loop runs already\tfalse\n", out)
  end)

  it("still sends what was written", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local reader = started(function()
      local stream <close> = server:accept()
      async.sleep(0.02)
      return #stream:read("a")
    end)
    local path, size = os.tmpname(), helper.scaled(10000000, 4000000)
    command.write_file(path, ([[
      local async = require "lunation"
      local stream = async.net.connect("127.0.0.1", %d)
      local task = async.create_task(stream.write, stream, ("x"):rep(%d))
      async.sleep(0)
      task:cancel()
      pcall(async.await, task)
    ]]):format(server:address().port, size))
    local pid = command.start { command.lunation, path }
    assert.equal(size, async.await(reader))
    command.stop(pid)
    os.remove(path)
  end)
end)

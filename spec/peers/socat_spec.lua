-- socat as the other end: TCP, Unix sockets, UDP, programs behind pipes and terminals, and its many ways to end.
local async = require "lunation"
local helper = require "spec.helper"
local peers = require "spec.support.peers"
local net = require "lunation.net"

-- Its own choice of a backlog is 5, and who finds it full tries again after a second.
local LISTEN = "TCP-LISTEN:0,bind=127.0.0.1,backlog=64"

local function connect(peer)
  if peer.path then return net.connect_unix(peer.path) end
  return net.connect("127.0.0.1", peer.port)
end

-- Writes `data` in pieces while it reads as much; what came back.
local function echoed(stream, data)
  local writer = async.create_task(function()
    for at = 1, #data, 50000 do stream:write(data:sub(at, at + 49999)) end
    stream:shutdown()
  end)
  local _ <close> = async.defer(function()
    writer:cancel()
    async.wait { writer }
  end)
  local back = stream:read("a")
  async.await(writer)
  return back
end

local function echo(stream)
  while true do
    local piece = stream:read_some()
    if not piece then return stream:shutdown() end
    stream:write(piece)
  end
end

describe("socat that listens #real", function()
  for _, case in ipairs {
    { LISTEN .. ",fork", "EXEC:cat" },
    { "UNIX-LISTEN:DIR/socket,fork", "EXEC:cat" },
    -- In larger blocks it waits for the program, which waits for it.
    { LISTEN .. ",fork", "EXEC:cat,pipes", "-b4096" },
  } do
    it("echoes for many clients at once: " .. table.concat(case, " "), function()
      local peer <close> = peers.socat(table.unpack(case))
      local list = {}
      for i = 1, helper.scaled(20, 5) do list[i] = i end
      peers.keeps_descriptors(async.map, list, function(i)
        local stream <close> = connect(peer)
        for k = 1, 5 do
          stream:write(("client %d line %d\n"):format(i, k))
          assert.equal(("client %d line %d"):format(i, k), stream:read("l"))
        end
        stream:shutdown()
        assert.equal("", stream:read("a"))
      end)
    end)

    it("takes and gives megabytes at once: " .. table.concat(case, " "), function()
      local peer <close> = peers.socat(table.unpack(case))
      local data = peers.bytes(helper.scaled(4000000, 500000))
      local stream <close> = connect(peer)
      assert.is_true(echoed(stream, data) == data)
    end)
  end

  it("is told by a half close that there is no more, and still answers", function()
    local peer <close> = peers.socat(LISTEN .. ",fork", "EXEC:sort")
    for _ = 1, 3 do
      local stream <close> = connect(peer)
      stream:write("b\nc\n", "a\n")
      stream:shutdown()
      stream:shutdown()
      assert.equal("a\nb\nc\n", stream:read("a"))
    end
  end)

  it("puts a terminal between us and a program", function()
    local peer <close> = peers.socat(LISTEN .. ",fork", "EXEC:cat,pty,rawer")
    local stream <close> = connect(peer)
    for i = 1, 100 do
      stream:write(i, "\n")
      assert.equal(tostring(i), stream:read("l"))
    end
  end)

  it("ends when its program does: all that it said, then the end", function()
    local peer <close> = peers.socat(LISTEN .. ",fork", "SYSTEM:head -c 200000 /dev/zero")
    local stream <close> = connect(peer)
    assert.is_true(stream:read("a") == ("\0"):rep(200000))
    assert.is_nil(stream:read("l"))
  end)

  it("reads no more: a writer waits, within bounds, until a deadline", function()
    local peer <close> = peers.socat(LISTEN, "EXEC:sleep 100")
    local stream <close> = connect(peer)
    local piece, written = ("x"):rep(65536), 0
    local before
    local e = helper.thrown(function()
      local _ <close> = async.timeout(0.3)
      while true do
        stream:write(piece)
        written = written + 1
        if written == 100 then before = peers.resident() end
      end
    end)
    assert.is_true(async.isinstance(e, async.TimeoutError), tostring(e))
    assert.is_true(not before or peers.resident() - before < 4000)
    peer:stop()
    e = helper.thrown(function()
      for _ = 1, 1000 do stream:write(piece) end
    end)
    assert.is_true(e.code == "ECONNRESET" or e.code == "EPIPE", tostring(e))
  end)

  it("is reached by an abstract name", function()
    local name = "lunation" .. tostring({}):gsub("%W", "")
    local peer <close> = peers.start { "socat", "-d", "-d", "ABSTRACT-LISTEN:" .. name .. ",fork", "EXEC:cat" }
    assert.is_true(helper.eventually(function() return peer:log():find("listening on", 1, true) end))
    local stream <close> = net.connect_unix("\0" .. name)
    stream:write("hello\n")
    assert.equal("hello", stream:read("l"))
    assert.same({ "unix", "\0" .. name }, { stream:peer().family, stream:peer().path })
  end)

  it("answers datagrams", function()
    local peer <close> = peers.socat("UDP-LISTEN:0,bind=127.0.0.1", "EXEC:cat")
    local socket <close> = net.udp { connect = { "127.0.0.1", peer.port } }
    for i = 1, 20 do
      local text = peers.bytes(i * 50)
      socket:send(text)
      local data, address = socket:recv()
      assert.equal(text, data)
      assert.equal(peer.port, address.port)
    end
  end)
end)

describe("a server of ours, and socat that connects #real", function()
  -- socat with these words; stdin is `input`.
  local function socat(input, ...)
    return (peers.run { "socat", input = input, ... })
  end

  it("serves it, up to its half close and beyond", function()
    peers.serving(function(stream)
      local text = stream:read("a")
      stream:write(text:upper(), #text, "\n")
    end, function(port)
      assert.equal("HELLO\n6\n", socat("hello\n", "-t5", "-", "TCP:127.0.0.1:" .. port))
      local data = peers.bytes(2000000)
      local out = socat(data, "-t5", "-", "TCP:127.0.0.1:" .. port)
      assert.is_true(out == data:upper() .. "2000000\n")
    end)
  end)

  it("hears no end from one that makes none, until it has gone", function()
    local heard
    local began = async.get_running_loop():time()
    peers.serving(function(stream)
      assert(stream:read("l") == "hello")
      heard = stream:read("a")
      heard = heard .. (async.get_running_loop():time() - began >= 0.5 and " late" or " at once")
    end, function(port)
      socat("hello\n", "-t0.5", "-", "TCP:127.0.0.1:" .. port .. ",shut-none")
      assert.is_true(helper.eventually(function() return heard end))
    end)
    assert.equal(" late", heard)
  end)

  it("speaks only, or listens only", function()
    local data = peers.bytes(500000)
    local got
    peers.serving(function(stream)
      if stream:read(5) == "send\n" then stream:write(data) else got = stream:read("a") end
    end, function(port)
      socat(data, "-u", "-", "TCP:127.0.0.1:" .. port)
      assert.is_true(helper.eventually(function() return got end))
      assert.is_true(got == data:sub(6))
      assert.is_true(socat("send\n", "-t5", "-", "TCP:127.0.0.1:" .. port) == data)
    end)
  end)

  it("survives one that goes without reading, or with a reset", function()
    for _, option in ipairs { "", ",linger=0" } do
      local errors = {}
      peers.serving(function(stream)
        local ok, e = async.pcall(function()
          while true do stream:write(("x"):rep(100000)) end
        end)
        errors[#errors + 1] = not ok and e.code
      end, function(port)
        for _ = 1, 3 do socat("", "-u", "-", "TCP:127.0.0.1:" .. port .. option) end
        assert.is_true(helper.eventually(function() return #errors == 3 end))
      end)
      for _, code in ipairs(errors) do assert.is_true(code == "EPIPE" or code == "ECONNRESET", tostring(code)) end
    end
  end)

  it("is reached over a chain of Unix sockets and TCP", function()
    local dir <close> = peers.folder()
    local server <close> = net.listen_unix(dir .. "/ours")
    local task = async.create_task(server.serve, server, echo)
    local _ <close> = async.defer(function()
      task:cancel()
      async.wait { task }
    end)
    local inner <close> = peers.socat(LISTEN .. ",fork", "UNIX-CONNECT:" .. dir .. "/ours", "-t5")
    local outer <close> = peers.socat("UNIX-LISTEN:DIR/socket,fork", "TCP:127.0.0.1:" .. inner.port, "-t5")
    local data = peers.bytes(helper.scaled(2000000, 300000))
    async.map({ 1, 2, 3 }, function()
      local stream <close> = connect(outer)
      assert.is_true(echoed(stream, data) == data)
    end)
  end)

  it("gets datagrams, and answers where they came from", function()
    local socket <close> = net.udp { host = "127.0.0.1" }
    local task = async.create_task(function()
      for data, address in socket:packets() do socket:send(data:upper(), address) end
    end)
    local _ <close> = async.defer(function()
      socket:close()
      async.wait { task }
    end)
    local out = socat("a datagram\n", "-t0.3", "-", "UDP:127.0.0.1:" .. socket:address().port)
    assert.equal("A DATAGRAM\n", out)
  end)
end)

-- python's servers and clients, both ways: asyncio's streams, socketserver, http.server, smtplib, http.client, and bare
-- sockets that reset, are slow, or say things out of band.
local async = require "lunation"
local helper = require "spec.helper"
local http = require "spec.support.peers_http"
local peers = require "spec.support.peers"
local net = require "lunation.net"

local thrown = helper.thrown

describe("a server of python #real", function()
  local server

  local function start(kind) server = peers.python("servers", kind) end
  local function connect(options) return net.connect("127.0.0.1", server.port, options) end

  lazy_teardown(function() if server then server:stop() end end)

  describe("with asyncio", function()
    lazy_setup(function() start "asyncio" end)
    lazy_teardown(function() server:stop() end)

    it("echoes for many, over TCP and over a Unix socket", function()
      local list = {}
      for i = 1, helper.scaled(60, 10) do list[i] = i end
      async.map(list, function(i)
        local stream <close> = i % 2 == 0 and connect() or net.connect_unix(server.dir .. "/socket")
        for k = 1, 20 do
          stream:write("echo ", i, " ", k, "\n")
          assert.equal(i .. " " .. k, stream:read("l"))
        end
      end)
    end)

    it("sends and gets megabytes", function()
      local stream <close> = connect()
      stream:write("bytes 3000000\n")
      assert.is_true(stream:read(3000000) == ("x"):rep(3000000))
      stream:write("digest 1000000\n", ("a"):rep(1000000))
      assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", stream:read("l"))
    end)

    it("closes its half: an end for us, and it hears the rest", function()
      local stream = connect()
      stream:write("half\n")
      assert.is_nil(stream:read("l"))
      stream:write(("x"):rep(300000))
      stream:close()
      assert.is_true(helper.eventually(function()
        return require "spec.support.command".slurp(server.dir .. "/rest") == "300000\n"
      end))
    end)

    it("reads slowly: so do we write", function()
      local stream <close> = connect()
      stream:write("slowly 10000000\n")
      local before = peers.resident()
      for _ = 1, 100 do
        stream:write(("x"):rep(100000))
        assert.is_true(peers.resident() - before < 4000)
      end
      assert.equal("read", stream:read("l"))
    end)

    it("aborts: all that came before it, and then the end or the error", function()
      for _ = 1, 5 do
        local stream <close> = connect()
        stream:write("echo before\nabort\nnever read")
        assert.equal("before", stream:read("l"))
        local ok, e = pcall(stream.read, stream, "l")
        assert.is_true(ok and e == nil or e.code == "ECONNRESET", tostring(e))
      end
    end)
  end)

  it("with a thread for each connection gives lines back", function()
    local threads <close> = peers.python("servers", "socketserver")
    local list = {}
    for i = 1, helper.scaled(30, 5) do list[i] = i end
    async.map(list, function(i)
      local stream <close> = net.connect("127.0.0.1", threads.port)
      for k = 1, 10 do
        stream:write("line ", i, ":", k, "\nand one\n")
        assert.equal("LINE " .. i .. ":" .. k, stream:read("l"))
        assert.equal("AND ONE\n", stream:read("L"))
      end
      stream:write("no end of line")
      stream:shutdown()
      assert.equal("NO END OF LINE", stream:read("l"))
      assert.is_nil(stream:read("l"))
    end)
  end)

  it("with http.server keeps connections, and takes uploads", function()
    local pages <close> = peers.python("servers", "http")
    local stream <close> = net.connect("127.0.0.1", pages.port)
    for _, size in ipairs { 0, 1, 70000, 1000000 } do
      assert.equal(size, #http.get(stream, "/" .. size).body)
      local body = peers.bytes(size)
      assert.is_true(http.get(stream, "/", { method = "POST", body = body }).body == body)
    end
  end)

  it("resets: what it sent before comes first", function()
    local resetting <close> = peers.python("servers", "reset")
    for _ = 1, 5 do
      local stream <close> = net.connect("127.0.0.1", resetting.port)
      stream:write("1000\n")
      assert.equal("ECONNRESET", thrown(stream.read, stream, "l").code) -- there is no whole line
      assert.equal(("x"):rep(1000), stream:read_some())
      assert.equal("ECONNRESET", thrown(stream.read_some, stream).code)
    end
    peers.keeps_descriptors(function()
      for _, size in ipairs { 0, 1, 1000, 50000 } do
        for _ = 1, 5 do
          local stream <close> = net.connect("127.0.0.1", resetting.port)
          stream:write(size, "\n")
          local got = 0
          local e = thrown(function()
            while true do got = got + #assert(stream:read_some(), "the reset came as an end") end
          end)
          assert.equal("ECONNRESET", e.code)
          assert.equal(size, got)
          assert.equal("ECONNRESET", thrown(stream.read, stream, "a").code)
          assert.is_true(thrown(stream.write, stream, "x").code:find("^E[CP]") ~= nil)
        end
      end
    end)
  end)
end)

describe("a client of python, and a server of ours #real", function()
  local function python(kind, port, ...)
    local out, err, code = peers.run { "python3", "spec/support/python/clients.py", kind, port, ... }
    if code ~= 0 then error(err, 2) end
    return out
  end

  it("with asyncio, many at once", function()
    peers.serving(function(stream)
      for line in stream:lines("L") do stream:write(line) end
      stream:shutdown()
    end, function(port) assert.equal("20 clients\n", python("asyncio", port, 20)) end)
  end)

  -- One session of SMTP.
  local function mail(stream, box)
    local message = {}
    stream:write("220 lunation\r\n")
    for line in stream:lines() do
      local verb = line:match("^%a+"):upper()
      if verb == "QUIT" then return stream:write("221 bye\r\n") end
      if verb == "RCPT" and line:find("nobody") then
        stream:write("550 no such user\r\n")
      elseif verb == "RCPT" then
        message[#message + 1] = line:match("<(.-)>")
        stream:write("250 ok\r\n")
      elseif verb == "DATA" then
        stream:write("354 go on\r\n")
        message.text = stream:read_until("\r\n.\r\n"):gsub("\r\n%.", "\r\n")
        box[#box + 1] = message
        stream:write("250 queued\r\n")
      else
        stream:write("250 ok\r\n")
      end
    end
  end

  it("with smtplib, a dialogue of lines", function()
    local box = {}
    peers.serving(function(stream) mail(stream, box) end, function(port)
      assert.equal("refused (550, b'no such user')\nsent\n", python("smtp", port))
    end)
    assert.equal(1, #box)
    assert.equal("b@example.org c@example.org", table.concat(box[1], " "))
    assert.equal("Subject: dots\r\n\r\n.one\r\n..two\r\nthree\r\n" .. ("long line "):rep(90) .. "\r\n\r\n", box[1].text)
  end)

  it("with http.client, keeping the connection, also with chunks", function()
    peers.serving(function(stream)
      while true do
        local request = http.read_request(stream)
        if not request then return end
        stream:write(http.answer(http.read_body(stream, request.headers)))
      end
    end, function(port) assert.equal("one two three\n", python("http", port)) end)
  end)

  it("that resets: an error of the read or of the write, and the server goes on", function()
    local outcomes = {}
    peers.serving(function(stream)
      local ok, e = async.pcall(function()
        if stream:read(10) == ("x"):rep(10) then
          while true do stream:write(("y"):rep(65536)) end
        end
        return stream:read("a")
      end)
      outcomes[#outcomes + 1] = ok and "end" or e.code
    end, function(port)
      for _, n in ipairs { 0, 5, 10 } do
        python("reset", port, n)
        assert.is_true(helper.eventually(function() return outcomes[1] end))
        local outcome = table.remove(outcomes)
        assert.is_true(outcome == "ECONNRESET" or n == 10 and outcome == "EPIPE", outcome)
      end
    end)
  end)

  it("that reads slowly, through a small window", function()
    local most = 0
    peers.serving(function(stream)
      local before = peers.resident()
      for _ = 1, 80 do
        stream:write(("y"):rep(100000))
        most = math.max(most, peers.resident() - before)
      end
    end, function(port) assert.equal("8000000\n", python("slow", port, 8000000)) end)
    assert.is_true(most < 4000, most)
  end)

  it("that says something out of band: it is not part of the stream", function()
    peers.serving(function(stream) stream:write("got ", stream:read("a")) end, function(port)
      assert.equal("got hello world\n\n", python("urgent", port))
    end)
  end)

  it("that hears no more, but speaks", function()
    local heard
    peers.serving(function(stream)
      assert(stream:read("l") == "still here")
      pcall(stream.write, stream, "into the void\n")
      heard = stream:read("l")
    end, function(port)
      python("deaf", port)
      assert.is_true(helper.eventually(function() return heard end))
    end)
    assert.equal("and now gone", heard)
  end)
end)

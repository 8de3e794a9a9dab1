-- curl as the client of a small HTTP server of ours: downloads at any speed, uploads, the handshake before a body,
-- clients that give up, many at once.
local async = require "lunation"
local helper = require "spec.helper"
local http = require "spec.support.peers_http"
local peers = require "spec.support.peers"
local net = require "lunation.net"

local BIG = 600000

-- Runs curl with these words (URL stands for the server's) -> stdout, exit code.
local function curl(url, ...)
  local words = { "curl", "-sS", "--max-time", tostring(20 * helper.slow), ... }
  for i, word in ipairs(words) do words[i] = word:gsub("URL", url) end
  local out, _, code = peers.run(words)
  return out, code
end

local answers = {}

answers["/hello"] = function(stream) stream:write(http.answer("hello\n")) end

answers["/old"] = function(stream)
  stream:write("HTTP/1.0 200 OK\r\n\r\nuntil the end\n")
  return true
end

answers["/older"] = function(stream)
  stream:write("no head at all\n")
  return true
end

answers["/big"] = function(stream) stream:write(http.answer(peers.bytes(BIG))) end

answers["/cut"] = function(stream)
  stream:write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
  return true
end

answers["/moved"] = function(stream)
  stream:write("HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n")
end

answers["/chunks"] = function(stream)
  stream:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
  for i = 1, 30 do
    local text = peers.bytes(i * 11)
    stream:write(("%x;note=yes\r\n"):format(#text), text, "\r\n")
    if i % 10 == 0 then async.sleep(0.001) end
  end
  stream:write("0\r\nX-Trailer: yes\r\n\r\n")
end

answers["/upload"] = function(stream, request)
  if request.headers.expect == "100-continue" then stream:write("HTTP/1.1 100 Continue\r\n\r\n") end
  local body = http.read_body(stream, request.headers)
  stream:write(http.answer(("%d bytes, %s\n"):format(#body, body == peers.bytes(#body) and "as sent" or "others")))
end

answers["/unwanted"] = function(stream)
  stream:write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nno.\n")
  stream:shutdown()
  while stream:read_some() do end
  return true
end

answers["/silence"] = function(stream) return stream:read("l") or true end

describe("curl #real", function()
  local server, task, url, connections, ends

  lazy_setup(function()
    server = net.listen("127.0.0.1", 0)
    url = ("http://127.0.0.1:%d"):format(server:address().port)
    task = async.create_task(server.serve, server, function(stream)
      connections = connections + 1
      local _ <close> = async.defer(function(e) ends[#ends + 1] = e or "end" end)
      local ok, e = async.pcall(function()
        while true do
          local request = http.read_request(stream)
          if not request or answers[request.path](stream, request) then break end
        end
      end)
      if not ok then ends[#ends + 1] = e end
    end)
  end)

  lazy_teardown(function()
    server:close()
    task:cancel()
    async.wait { task }
  end)

  before_each(function() connections, ends = 0, {} end)

  local function ended() return helper.eventually(function() return #ends >= connections end) end

  it("gets answers of every kind", function()
    assert.equal("hello\n", (curl(url, "URL/hello")))
    assert.equal("until the end\n", (curl(url, "--http1.0", "URL/old")))
    assert.equal("no head at all\n", (curl(url, "--http0.9", "URL/older")))
    assert.equal("hello\n", (curl(url, "-L", "URL/moved")))
    local parts = {}
    for i = 1, 30 do parts[i] = peers.bytes(i * 11) end
    assert.is_true(curl(url, "URL/chunks") == table.concat(parts))
    assert.is_true(curl(url, "URL/big") == peers.bytes(BIG))
    assert.is_true(ended())
  end)

  it("keeps a connection for many requests", function()
    local words = {}
    for _ = 1, 20 do words[#words + 1] = "URL/hello" end
    assert.equal(("hello\n"):rep(20), (curl(url, table.unpack(words))))
    assert.equal(1, connections)
    assert.is_true(ended())
  end)

  it("comes many times at once", function()
    local out, code = curl(url, "--parallel", "--parallel-immediate", "--parallel-max", "50", "URL/hello?[1-50]")
    assert.equal(0, code)
    assert.equal("", out:gsub("hello\n", ""))
    assert.equal(50, select(2, out:gsub("hello\n", "")))
    assert.is_true(ended())
  end)
  answers["/hello?"] = answers["/hello"]
  for i = 1, 50 do answers["/hello?" .. i] = answers["/hello"] end

  it("reads slowly: we hold no more than a piece of the answer", function()
    local before, most = peers.resident(), 0
    answers["/pieces"] = function(stream)
      stream:write("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")
      for _ = 1, 200 do
        stream:write(("z"):rep(100000))
        most = math.max(most, peers.resident() - before)
      end
    end
    local _, code = curl(url, "--limit-rate", "9m", "-o", "/dev/null", "URL/pieces")
    assert.equal(0, code)
    assert.is_true(most < 6000, most .. " KiB more")
    assert.is_true(ended())
  end)

  it("uploads, after a word of ours or at once", function()
    for _, size in ipairs { 0, 1, 1023, 1500000 } do
      local dir <close> = peers.folder()
      require "spec.support.command".write_file(dir .. "/body", peers.bytes(size))
      for _, expect in ipairs { "Expect: 100-continue", "Expect:" } do
        local out = curl(url, "-H", expect, "-T", dir .. "/body", "URL/upload")
        assert.equal(size .. " bytes, as sent\n", out)
      end
    end
    assert.is_true(ended())
  end)

  it("hears that its upload is not wanted, while it sends", function()
    local dir <close> = peers.folder()
    require "spec.support.command".write_file(dir .. "/body", peers.bytes(1000000))
    local out = curl(url, "-H", "Expect:", "-T", dir .. "/body", "URL/unwanted")
    assert.equal("no.\n", out)
    assert.is_true(ended())
  end)

  it("knows an answer that is cut, and gives up on silence: an end for us", function()
    local out, code = curl(url, "URL/cut")
    assert.equal("only this", out)
    assert.equal(18, code)
    out, code = curl(url, "--max-time", "0.2", "URL/silence")
    assert.equal("", out)
    assert.equal(28, code)
    assert.is_true(ended())
    for _, e in ipairs(ends) do assert.equal("end", e) end
  end)

  it("gives up in the middle: an error of our write, and the next one is served", function()
    local _, code = curl(url, "--max-time", "0.2", "--limit-rate", "1k", "URL/big")
    assert.equal(28, code)
    assert.is_true(ended())
    -- What the system had taken of the answer may have been all of it.
    local e = ends[1]
    assert.is_true(e == "end" or e.code == "ECONNRESET" or e.code == "EPIPE", tostring(e))
    assert.equal("hello\n", (curl(url, "URL/hello")))
    assert.is_true(ended())
  end)

  it("comes over a Unix socket", function()
    local dir <close> = peers.folder()
    local unix <close> = net.listen_unix(dir .. "/http")
    local serving = async.create_task(unix.serve, unix, function(stream)
      http.read_request(stream)
      stream:write(http.answer(stream:sock().path))
    end)
    local out = curl("http://peer", "--unix-socket", dir .. "/http", "URL/hello")
    unix:close()
    async.await(serving)
    assert.equal(dir .. "/http", out)
  end)
end)

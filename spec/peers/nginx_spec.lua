-- A real nginx: as the server of our client, and as the proxy in front of our server.
local async = require "lunation"
local helper = require "spec.helper"
local http = require "spec.support.peers_http"
local nginx = require "spec.support.nginx"
local peers = require "spec.support.peers"
local net = require "lunation.net"

local BIG = 20 * 1024 * 1024

describe("nginx #real", function()
  local server, files

  lazy_setup(function()
    files = { ["0"] = "", ["1"] = "x" }
    for _, size in ipairs { 1000, 65536, 1000003 } do files[tostring(size)] = peers.bytes(size) end
    files.big = peers.bytes(1024):rep(BIG // 1024)
    server = nginx.start(files, { server = [[
      location /few/ { alias files/; keepalive_requests 3; }
      client_header_timeout 1s;
      large_client_header_buffers 4 1k;
    ]] })
  end)

  lazy_teardown(function() server:stop() end)

  local function connect(options) return net.connect("127.0.0.1", server.port, options) end

  it("serves files of all sizes over one connection", function()
    local stream <close> = connect()
    for _ = 1, 2 do
      for name, content in pairs(files) do
        local answer = http.get(stream, "/" .. name)
        assert.equal(200, answer.status)
        assert.is_true(answer.body == content)
      end
    end
    assert.equal(404, http.get(stream, "/none").status)
  end)

  it("ends an answer to HTTP/1.0 with the connection", function()
    for name, content in pairs(files) do
      local stream <close> = connect()
      stream:write(http.request("/" .. name, { version = "1.0" }))
      assert.truthy(stream:read_until("\r\n\r\n"):find("Connection: close", 1, true))
      assert.is_true(stream:read("a") == content)
      assert.is_nil(stream:read(1))
      assert.equal("", stream:read("a"))
    end
  end)

  it("sends in chunks what it does not know the length of", function()
    local stream <close> = connect()
    for _, name in ipairs { "1", "1000003" } do
      local answer = http.get(stream, "/chunked/" .. name)
      assert.equal("chunked", answer.headers["transfer-encoding"])
      assert.is_true(answer.body == files[name])
    end
  end)

  it("gets a request whole that is cut at any byte", function()
    local request = http.request("/1")
    local stream <close> = connect { nodelay = true }
    for i = 1, #request - 1 do
      stream:write(request:sub(1, i))
      async.sleep(0.0002)
      stream:write(request:sub(i + 1))
      assert.equal("x", http.read_answer(stream).body)
    end
    for i = 1, #request do
      stream:write(request:sub(i, i))
      async.sleep(0)
    end
    assert.equal("x", http.read_answer(stream).body)
  end)

  it("answers many requests that are sent at once, in order", function()
    local stream <close> = connect()
    local order = { "1", "1000", "0", "65536", "none" }
    local requests = {}
    for _, name in ipairs(order) do requests[#requests + 1] = http.request("/" .. name) end
    stream:write(table.concat(requests):rep(20))
    stream:shutdown()
    for _ = 1, 20 do
      for _, name in ipairs(order) do
        local answer = http.read_answer(stream)
        assert.equal(files[name] and 200 or 404, answer.status)
        assert.is_true(not files[name] or answer.body == files[name])
      end
    end
    assert.is_nil(stream:read(1))
  end)

  it("waits for a slow reader, who needs no memory for what is to come", function()
    local stream <close> = connect()
    stream:write(http.request("/big"))
    stream:read_until("\r\n\r\n")
    local before, most, got = peers.resident(), 0, 0
    async.sleep(0.1) -- all that the system can hold is there
    for i = 1, math.huge do
      local piece = stream:read_some()
      if not piece then break end
      got = got + #piece
      assert(piece == files.big:sub(got - #piece + 1, got), "the bytes are others")
      if i % 16 == 0 then
        async.sleep(0.001)
        collectgarbage()
        most = math.max(most, peers.resident())
      end
      if got == BIG then break end
    end
    assert.equal(BIG, got)
    assert.is_true(most - before < 8000, most - before .. " KiB more")
  end)

  it("survives clients that leave in the middle, and so do we", function()
    peers.keeps_descriptors(function()
      for i = 1, 30 do
        local stream = connect()
        stream:write(http.request("/big"))
        stream:read(i * 1000)
        stream:close()
      end
    end)
    local stream <close> = connect()
    assert.equal("x", http.get(stream, "/1").body)
  end)

  it("ends a connection after some requests: an end for the reader, whatever is written", function()
    local stream <close> = connect()
    for i = 1, 3 do
      local answer = http.get(stream, "/few/1")
      assert.equal("x", answer.body)
      assert.equal(i == 3 and "close" or "keep-alive", answer.headers.connection)
    end
    assert.is_nil(stream:read(1))
    -- The first write finds the connection closed, the next one the reset.
    local e = helper.thrown(function()
      for _ = 1, 1000 do
        stream:write(http.request("/few/1"))
        async.sleep(0.001)
      end
    end)
    assert.is_true(e.code == "EPIPE" or e.code == "ECONNRESET", tostring(e))
    assert.is_true(async.isinstance(e, async.OSError))
  end)

  it("refuses what is no request, and ends", function()
    for _, text in ipairs { "nonsense\r\n\r\n", "\22\3\1\2\0\1\0\1", http.request("/" .. ("x"):rep(3000)) } do
      local stream <close> = connect()
      stream:write(text)
      local ok, answer = pcall(stream.read, stream, "a")
      assert.truthy(ok and answer:find("^HTTP/1%.1 4%d%d") or not ok and answer.code == "ECONNRESET", answer)
    end
  end)

  it("ends a connection on which nothing comes; a deadline of ours is earlier", function()
    local stream <close> = connect()
    local other <close> = connect()
    other:write("GET /1 HT")
    local e = helper.thrown(function()
      local _ <close> = async.timeout(0.05)
      other:read("a")
    end)
    assert.is_true(async.isinstance(e, async.TimeoutError))
    other:write("TP/1.1\r\nHost: a\r\n\r\n")
    assert.equal("x", http.read_answer(other).body) -- nothing was lost
    stream:write("GET ")
    assert.equal("", stream:read("a"))
  end)

  it("serves a hundred connections at once", function()
    local list = {}
    for i = 1, helper.scaled(100, 20) do list[i] = i end
    local sizes = async.map(list, function()
      local stream <close> = connect()
      local sum = 0
      for _, name in ipairs { "1", "65536", "1000" } do sum = sum + #http.get(stream, "/" .. name).body end
      return sum
    end)
    for _, sum in ipairs(sizes) do assert.equal(66537, sum) end
  end)
end)

describe("nginx as a proxy in front of our server #real", function()
  local server, proxy, task, reports, accepted, seen

  local handlers = {}

  handlers["/hello"] = function(stream) stream:write(http.answer("hello")) end

  handlers["/bytes"] = function(stream)
    for byte in http.answer("one at a time"):gmatch(".") do
      stream:write(byte)
      async.sleep(0)
    end
  end

  handlers["/chunks"] = function(stream)
    stream:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i = 1, 50 do
      local text = peers.bytes(i * 100)
      stream:write(("%x\r\n%s\r\n"):format(#text, text))
    end
    stream:write("0\r\n\r\n")
  end

  handlers["/until-close"] = function(stream)
    stream:write("HTTP/1.0 200 OK\r\n\r\n", peers.bytes(300000))
    return true
  end

  handlers["/nothing"] = function() return true end

  handlers["/bug"] = function() error(async.ValueError("a bug")) end

  handlers["/endless"] = function(stream)
    stream:write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    local _ <close> = async.defer(function(e) seen = e or "no error" end)
    for _ = 1, 10000 do stream:write(("x"):rep(100000)) end
  end

  handlers["/upload"] = function(stream, request)
    local left, sum = tonumber(request.headers["content-length"]), 0
    while left > 0 do
      local piece = stream:read_some(math.min(left, 10000))
      seen = piece
      left = left - #piece
      for at = 1, #piece, 997 do sum = sum + piece:byte(at) end
      if left % 3 == 0 then async.sleep(0.0005) end
    end
    stream:write(http.answer("all there"))
  end

  local live = {}

  local function handle(stream)
    accepted = accepted + 1
    local me = async.current_task()
    live[me] = true
    local _ <close> = async.defer(function() live[me] = nil end)
    while true do
      local request = http.read_request(stream)
      if not request or handlers[request.path](stream, request) then return end
    end
  end

  lazy_setup(function()
    server = net.listen("127.0.0.1", 0)
    task = async.create_task(server.serve, server, handle)
    proxy = nginx.start({}, {
      http = ("upstream ours { server 127.0.0.1:%d max_fails=0; keepalive 4; }"):format(server:address().port),
      server = [[
        location / {
          proxy_pass http://ours;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_buffering off;
          proxy_request_buffering off;
          client_max_body_size 100m;
        }
      ]],
    })
  end)

  lazy_teardown(function()
    proxy:stop()
    server:close()
    task:cancel()
    async.wait { task }
  end)

  before_each(function() accepted, seen = 0, nil end)

  -- The proxy keeps connections to us.
  after_each(function()
    for handler in pairs(live) do handler:cancel() end
    assert.is_true(helper.eventually(function() return next(live) == nil end))
  end)

  local function connect() return net.connect("127.0.0.1", proxy.port) end

  local function get(path, options)
    local stream <close> = connect()
    return http.get(stream, path, options)
  end

  it("keeps its connections to us", function()
    local stream <close> = connect()
    for _ = 1, 50 do assert.equal("hello", http.get(stream, "/hello").body) end
    for _ = 1, 10 do assert.equal("hello", get("/hello").body) end
    assert.is_true(accepted <= 4, accepted .. " connections")
  end)

  it("understands answers that come byte by byte, in chunks, and up to the end", function()
    assert.equal("one at a time", get("/bytes").body)
    local parts = {}
    for i = 1, 50 do parts[i] = peers.bytes(i * 100) end
    assert.is_true(get("/chunks").body == table.concat(parts))
    assert.is_true(get("/until-close").body == peers.bytes(300000))
  end)

  it("tells the client when we have nothing to say, or a bug", function()
    assert.equal(502, get("/nothing").status)
    reports = helper.reports(function() assert.equal(502, get("/bug").status) end)
    assert.equal(1, #reports)
    assert.equal("a bug", reports[1].exception.message)
    assert.equal("hello", get("/hello").body)
  end)

  it("passes it on when a client leaves in the middle: an error of our write", function()
    reports = helper.reports(function()
      local stream = connect()
      stream:write(http.request("/endless"))
      stream:read(1000000)
      stream:close()
      assert.is_true(helper.eventually(function() return seen end))
      helper.turns(8)
    end)
    assert.is_true(async.isinstance(seen, async.OSError), tostring(seen))
    assert.is_true(seen.code == "EPIPE" or seen.code == "ECONNRESET", tostring(seen))
    assert.equal("write", seen.syscall)
    assert.equal(1, #reports)
    assert.equal(seen, reports[1].exception)
    assert.equal("hello", get("/hello").body)
  end)

  it("hands uploads on while they come", function()
    local body = peers.bytes(3000000)
    local answers = async.map({ 1, 2, 3 }, function() return get("/upload", { method = "PUT", body = body }).body end)
    assert.same({ "all there", "all there", "all there", n = 3 }, answers)
  end)

  it("gives up an upload whose client leaves: an end in the middle for us", function()
    reports = helper.reports(function()
      local stream = connect()
      stream:write("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", ("x"):rep(1000))
      assert.is_true(helper.eventually(function() return seen end))
      stream:close()
      assert.is_true(helper.eventually(function() return next(live) == nil end))
      helper.turns(8)
    end)
    assert.equal(1, #reports)
    assert.truthy(tostring(reports[1].exception):find("attempt to get length of a nil value", 1, true),
      tostring(reports[1].exception))
  end)

  it("says 502 once the server is closed", function()
    local mine <close> = net.listen("127.0.0.1", 0)
    local gone <close> = nginx.start({}, {
      server = ("location / { proxy_pass http://127.0.0.1:%d; }"):format(mine:address().port),
    })
    local serving = async.create_task(mine.serve, mine, handle)
    local function ask()
      local stream <close> = net.connect("127.0.0.1", gone.port)
      return http.get(stream, "/hello").status
    end
    assert.equal(200, ask())
    mine:close()
    async.await(serving)
    assert.equal(502, ask())
  end)
end)

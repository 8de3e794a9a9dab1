-- Runs every program of scripts/examples and compares what it prints with spec/examples/NAME.out; then tries
-- fetch_all.lua against a real nginx and against a server that misbehaves.
local command = require "spec.support.command"
local nginx = require "spec.support.nginx"
local odd_server = require "spec.support.odd_server"

local FOLDER = "scripts/examples/"

-- The names of the numbered examples, without ".lua".
local function examples()
  local names = {}
  for path in assert(io.popen("ls " .. FOLDER)):lines() do
    local name = path:match("^(%d%d_.*)%.lua$")
    if name then names[#names + 1] = name end
  end
  return names
end

-- An example that names the stock interpreter in its first line is run by that, with the module of the same build.
local function execute(path)
  local first = assert(command.slurp(path)):match("^[^\n]*")
  if not first:find("lua5.4", 1, true) then return command.run { command.lunation, path } end
  local call = { env = { LUA_CPATH = command.module .. "/?.so;;" } }
  for i, word in ipairs(command.stock) do call[i] = word end
  call[#call + 1] = path
  return command.run(call)
end

describe("example", function()
  local names = examples()

  it("programs are there", function() assert.is_true(#names >= 20) end)

  for _, name in ipairs(names) do
    it(name, function()
      local expected = command.slurp("spec/examples/" .. name .. ".out")
      assert(expected, "spec/examples/" .. name .. ".out, its expected output, is missing")
      local stdout, stderr, code = execute(FOLDER .. name .. ".lua")
      assert.equal(expected, stdout, stderr)
      -- stderr is empty, or has every line of NAME.err as a part of one of its own.
      local wanted = command.slurp("spec/examples/" .. name .. ".err")
      if not wanted then assert.equal("", stderr) end
      for line in (wanted or ""):gmatch("[^\n]+") do
        assert(stderr:find(line, 1, true), "stderr lacks: " .. line .. "\n" .. stderr)
      end
      assert.equal(0, code)
    end)
  end

  it("expected outputs all have a program", function()
    for path in assert(io.popen("ls spec/examples")):lines() do
      local name = path:match("^(.*)%.%a+$")
      assert(command.slurp(FOLDER .. name .. ".lua"), "no program for spec/examples/" .. path)
    end
  end)
end)

describe("fetch_all.lua", function()
  local web, odd

  setup(function()
    web = nginx.start {
      ["empty.txt"] = "",
      ["small.txt"] = "hello, world\n",
      ["middle.txt"] = ("x"):rep(100000),
      ["large.txt"] = ("0123456789abcdef"):rep(512 * 1024),
    }
    odd = odd_server.start()
  end)
  teardown(function()
    if web then web:stop() end
    if odd then odd:stop() end
  end)

  local function fetch_all(...)
    return command.run { command.lunation, FOLDER .. "fetch_all.lua", ... }
  end

  local function line(status, size, url)
    return ("%d %10d  %s"):format(status, size, url)
  end

  -- The lines of a text in the order of the alphabet: what completes first is not ours to say.
  local function sorted(text)
    local lines = {}
    for l in text:gmatch("[^\n]+") do lines[#lines + 1] = l end
    table.sort(lines)
    return lines
  end

  local function assert_lines(expected, text)
    table.sort(expected)
    assert.same(expected, sorted(text))
  end

  -- One URL that fails before it has a status, with this text; the good one beside it is fetched.
  local function assert_fails(url, text, ...)
    local good = web:url("/small.txt")
    local stdout, stderr, code = fetch_all(url, good, ...)
    assert.equal(url .. ": " .. text .. "\n", stderr)
    assert_lines({ line(200, 13, good) }, stdout)
    assert.equal(1, code)
  end

  it("fetches files of all sizes", function()
    local urls, expected = {}, {}
    for name, size in pairs { empty = 0, small = 13, middle = 100000, large = 8 * 1024 * 1024 } do
      local url = web:url("/" .. name .. ".txt")
      urls[#urls + 1] = url
      expected[#expected + 1] = line(200, size, url)
    end
    local stdout, stderr, code = fetch_all(table.unpack(urls))
    assert.equal("", stderr)
    assert_lines(expected, stdout)
    assert.equal(0, code)
  end)

  it("fetches bodies that come in chunks, with extensions and trailers, or end with the connection", function()
    local urls = {
      [web:url("/chunked/middle.txt")] = line(200, 100000, web:url("/chunked/middle.txt")),
      [web:url("/chunked/large.txt")] = line(200, 8 * 1024 * 1024, web:url("/chunked/large.txt")),
      [odd:url("/trailers")] = line(200, 1030, odd:url("/trailers")),
      [odd:url("/until-close")] = line(200, 12345, odd:url("/until-close")),
      [odd:url("/empty")] = line(204, 0, odd:url("/empty")),
      [odd:url("/early-hints")] = line(200, 5, odd:url("/early-hints")),
    }
    local args, expected = {}, {}
    for url, text in pairs(urls) do
      args[#args + 1] = url
      expected[#expected + 1] = text
    end
    local stdout, stderr, code = fetch_all(table.unpack(args))
    assert.equal("", stderr)
    assert_lines(expected, stdout)
    assert.equal(0, code)
  end)

  it("takes a query and leaves the fragment out", function()
    local url = web:url("/small.txt?a=b#part")
    local stdout, stderr, code = fetch_all(url)
    assert.equal("", stderr)
    assert.equal(line(200, 13, url) .. "\n", stdout)
    assert.equal(0, code)
  end)

  it("a redirection is an answer like another", function()
    local stdout, _, code = fetch_all(web:url("/moved"))
    assert.matches("^301 +%d+  http://", stdout)
    assert.equal(0, code)
  end)

  it("status 404 is the failure of that URL", function()
    local good, bad, bare = web:url("/small.txt"), web:url("/missing.txt"), odd:url("/bare-503")
    local stdout, stderr, code = fetch_all(bad, good, bare)
    assert.equal(bad .. ": 404 Not Found\n" .. bare .. ": 503\n", stderr)
    local lines = sorted(stdout)
    assert.equal(3, #lines)
    assert.equal(line(200, 13, good), lines[1])
    assert.matches("^404 +%d+  http", lines[2])
    assert.matches("^503 +0  http", lines[3])
    assert.equal(1, code)
  end)

  it("survives a refused connection", function()
    local port = command.free_port()
    assert_fails(("http://127.0.0.1:%d/"):format(port), ("connect 127.0.0.1:%d: ECONNREFUSED"):format(port))
  end)

  it("survives an unknown host", function()
    local bad, good = "http://no-such-host.invalid/", web:url("/small.txt")
    local stdout, stderr, code = fetch_all(bad, good)
    assert.matches("^http://no%-such%-host%.invalid/: .*no%-such%-host%.invalid.*\n$", stderr)
    assert.equal(1, #sorted(stderr))
    assert_lines({ line(200, 13, good) }, stdout)
    assert.equal(1, code)
  end)

  it("survives a server that never answers", function()
    local start = os.time()
    assert_fails(odd:url("/never"), "no complete answer within 0.5 s", "--timeout", "0.5")
    assert.is_true(os.time() - start < 4)
  end)

  it("survives answers that are cut short", function()
    assert_fails(odd:url("/cut"), "the body was cut short: 10 of 1000 bytes")
    assert_fails(odd:url("/cut-chunk"), "the body was cut short: 10 of 1024 bytes")
    for _, path in ipairs { "/cut-head", "/no-last-chunk", "/nothing" } do
      assert_fails(odd:url(path), "the connection was closed too early")
    end
  end)

  it("survives answers that are no HTTP", function()
    assert_fails(odd:url("/not-http"), "this is not an HTTP/1.1 server")
    assert_fails(odd:url("/bad-chunk"), "malformed chunk")
    assert_fails(odd:url("/two-lengths"), "two different Content-Length headers")
    assert_fails(odd:url("/many-headers"), "more than 100 header lines")
  end)

  it("survives a header line without end", function()
    local url = odd:url("/long-header")
    local stdout, stderr, code = fetch_all(url)
    assert.equal("", stdout)
    assert.equal(url .. ": ", stderr:sub(1, #url + 2))
    assert.equal(1, #sorted(stderr))
    assert.equal(1, code)
  end)

  it("says what is wrong with a URL", function()
    assert_fails("https://example.org/", "bad URL: https:// is not supported yet")
    assert_fails("example.org", "bad URL: http://host/path is expected")
    assert_fails("ftp://example.org/", "bad URL: unknown scheme ftp://")
    assert_fails("http:///path", "bad URL: no host")
    assert_fails("http://example.org:port/", "bad URL: bad port")
    assert_fails("http://example.org:70000/", "bad URL: bad port")
    assert_fails("http://example.org/a b", "bad URL: white space or control character")
    assert_fails("http://me:secret@example.org/", "bad URL: user and password are not supported")
  end)

  it("keeps to 10 connections at a time", function()
    local urls, expected = {}, {}
    local own <close> = odd_server.start() -- one that has counted nothing yet
    for i = 1, 50 do
      urls[i] = own:url("/slow")
      expected[i] = line(200, 4, urls[i])
    end
    local stdout, stderr, code = fetch_all(table.unpack(urls))
    assert.equal("", stderr)
    assert_lines(expected, stdout)
    assert.equal(0, code)
    assert.equal("10", command.slurp(own:file("peak")))
  end)

  it("stops at Ctrl-C and says what was done", function()
    local own <close> = odd_server.start()
    local stdout, stderr, code, signal = command.run {
      command.lunation, FOLDER .. "fetch_all.lua", web:url("/small.txt"), own:url("/never"),
      interrupt = own:file("waiting"),
    }
    assert.equal(line(200, 13, web:url("/small.txt")) .. "\n", stdout)
    assert.matches("fetch_all: interrupted, 1 of 2 fetched\n", stderr, 1, true)
    assert.is_nil(stderr:find("traceback", 1, true), stderr)
    assert.equal(2, #sorted(stderr)) -- ours, and the command's one line
    assert.equal(130, code)
    assert.equal(2, signal)
  end)

  it("has a usage text", function()
    local stdout, stderr, code = fetch_all("--help")
    assert.matches("^usage: lunation fetch_all.lua", stdout)
    assert.equal("", stderr)
    assert.equal(0, code)
    for _, args in ipairs { {}, { "--timeout" }, { "--timeout", "soon", "http://x/" }, { "--fast", "http://x/" } } do
      stdout, stderr, code = fetch_all(table.unpack(args))
      assert.equal("", stdout)
      assert.matches("usage: lunation fetch_all.lua", stderr, 1, true)
      assert.equal(2, code)
    end
  end)
end)

-- Asking a name server as dig does: questions and answers built by hand, over UDP with tries and deadlines, then over TCP.
-- The server is spec/support/python/dns_server.py, which loses, delays, truncates and lies.
local async = require "lunation"
local helper = require "spec.helper"
local peers = require "spec.support.peers"
local net = require "lunation.net"

local SOON = 0.06 * math.min(helper.slow, 20) -- seconds for one try over UDP where answers do not come
local NO_SUCH_NAME = 3

local AnswerError = async.exception("AnswerError")

local function question(name)
  local labels = name:gsub("([^.]+)%.?", function(label) return string.pack("s1", label) end)
  return labels .. "\0" .. string.pack(">I2I2", 1, 1)
end

-- The addresses in an answer to the question with that id, whether it is truncated, and its code; nothing if it is none.
local function parse(data, id, asked)
  if #data < 12 + #asked then return end
  local got, flags, questions, answers, at = string.unpack(">I2I2I2I2", data)
  at = at + 4
  if got ~= id or flags & 0x8000 == 0 or questions ~= 1 or data:sub(at, at + #asked - 1) ~= asked then return end
  at = at + #asked
  local list = {}
  for i = 1, answers do
    local _, kind, _, _, address, after = string.unpack(">I2I2I2I4s2", data, at)
    if kind == 1 then list[i] = ("%d.%d.%d.%d"):format(address:byte(1, 4)) end
    at = after
  end
  return list, flags & 0x200 ~= 0, flags & 15
end

local function over_tcp(port, id, asked)
  local stream <close> = net.connect("127.0.0.1", port, { timeout = 5 })
  local query = string.pack(">I2I2I2I2I2I2", id, 0x100, 1, 0, 0, 0) .. asked
  stream:write(string.pack(">s2", query))
  local head = assert(stream:read(2), "no answer")
  local size = string.unpack(">I2", head)
  return parse(stream:read(size), id, asked)
end

-- dig(port, name, patience?) -> addresses, {tries =, tcp =, strays = answers that were none}
local function dig(port, name, patience)
  local id, asked = math.random(0, 65535), question(name)
  local seen = { tries = 0, strays = 0 }
  local socket <close> = net.udp { connect = { "127.0.0.1", port } }
  local query = string.pack(">I2I2I2I2I2I2", id, 0x100, 1, 0, 0, 0) .. asked
  local function try()
    seen.tries = seen.tries + 1
    socket:send(query)
    while true do
      local list, truncated, code = parse(socket:recv(), id, asked)
      if list then return list, truncated, code end
      seen.strays = seen.strays + 1
    end
  end
  for _ = 1, 4 do
    local ok, list, truncated, code = async.pcall(async.wait_for, try, patience or 10)
    if ok and not truncated then
      if code == NO_SUCH_NAME then error(AnswerError("no such name: " .. name)) end
      return list, seen
    end
    if ok then break end
    if not async.isinstance(list, async.TimeoutError) then error(list, 0) end
  end
  seen.tcp = true
  return over_tcp(port, id, asked), seen
end

describe("a small dig #real", function()
  local server

  before_each(function() server = peers.python "dns_server" end)
  after_each(function() server:stop() end)

  it("gets an answer", function()
    local list, seen = dig(server.port, "ok.example.org")
    assert.same({ "192.0.2.7" }, list)
    assert.same({ tries = 1, strays = 0 }, seen)
  end)

  it("asks many names at once", function()
    local names = {}
    for i = 1, helper.scaled(100, 20) do names[i] = "ok" .. i .. ".example.org" end
    local lists = async.map(names, function(name) return dig(server.port, name) end, { limit = 20 })
    for i = 1, #names do assert.same({ "192.0.2.7" }, lists[i]) end
  end)

  it("goes over to TCP for an answer that was truncated", function()
    local list, seen = dig(server.port, "big.example.org")
    assert.equal(50, #list)
    assert.equal("192.0.2.50", list[50])
    assert.same({ tries = 1, strays = 0, tcp = true }, seen)
  end)

  it("asks again when a question is lost", function()
    local list, seen = dig(server.port, "lost2.example.org", SOON)
    assert.same({ "192.0.2.7" }, list)
    assert.is_true(seen.tries >= 3)
  end)

  it("takes a late answer", function()
    local list = dig(server.port, "slow.example.org", SOON)
    assert.same({ "192.0.2.7" }, list)
  end)

  it("does not take answers to what it has not asked", function()
    for name, strays in pairs { wrong = 2, garbage = 2, twice = 0 } do
      local list, seen = dig(server.port, name .. ".example.org")
      assert.same({ "192.0.2.7" }, list)
      assert.same({ tries = 1, strays = strays }, seen)
    end
  end)

  it("gives up on UDP, then asks over TCP", function()
    local list, seen = dig(server.port, "never.example.org", SOON)
    assert.equal(50, #list)
    assert.same({ tries = 4, strays = 0, tcp = true }, seen)
  end)

  it("is told that there is no such name", function()
    helper.refuses("AnswerError", "no such name", dig, server.port, "none.example.org")
  end)

  it("has a deadline for all of it, and leaves nothing behind", function()
    peers.keeps_descriptors(function()
      local e = helper.thrown(async.wait_for, function() return dig(server.port, "mute.example.org", SOON) end, 6 * SOON)
      assert.is_true(async.isinstance(e, async.TimeoutError))
    end)
  end)

  it("hears at once that nobody is there", function()
    local port = server.port
    server:stop()
    assert.is_true(helper.eventually(function()
      local ok, stream = async.pcall(net.connect, "127.0.0.1", port)
      if ok then stream:close() end
      return not ok
    end))
    local e = helper.refuses("OSError", "ECONNREFUSED", dig, port, "ok.example.org")
    assert.equal("127.0.0.1:" .. port, e.address)
  end)
end)

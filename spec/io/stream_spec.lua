-- Streams: what read gives for each format, how they end, who may use them at a time, and what a cancel leaves behind.
-- Writing is in write_spec.lua.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"

local refuses, turns = helper.refuses, helper.turns
local with_pair = sockets.with_pair

-- with_peer(text, fn): fn(stream) where the other end has sent `text` and closed.
local function with_text(text, fn, options)
  return with_pair(function(client, peer)
    peer:write(text)
    peer:close()
    return fn(client)
  end, options)
end

-- A task that has run until it waits.
local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns()
  return task
end

describe("read", function()
  it("gives lines without their ends, then the remainder, then nil", function()
    with_text("one\n\ntwo\r\nrest", function(s)
      assert.same({ "one", "", "two\r", "rest" }, { s:read("l"), s:read(), s:read("l"), s:read("l") })
      assert.is_nil(s:read("l"))
      assert.is_nil(s:read("l"))
    end)
  end)

  it("gives lines with their ends", function()
    with_text("one\n\nrest", function(s)
      assert.same({ "one\n", "\n", "rest" }, { s:read("L"), s:read("*L"), s:read("L") })
      assert.is_nil(s:read("L"))
    end)
  end)

  it("gives everything, and an empty string at the end", function()
    with_text("a\nb\0c", function(s)
      assert.equal("a\nb\0c", s:read("a"))
      assert.equal("", s:read("a"))
      assert.is_nil(s:read(1))
    end)
  end)

  it("gives so many bytes, fewer at the end, nil at nothing", function()
    with_text("abcdefg", function(s)
      assert.equal("abc", s:read(3))
      assert.equal("", s:read(0))
      assert.equal("defg", s:read(100))
      assert.is_nil(s:read(100))
      assert.is_nil(s:read(0))
    end)
  end)

  it("waits for the first byte at read(0)", function()
    with_pair(function(client, peer)
      local task = started(client.read, client, 0)
      assert.is_false(task:done())
      peer:write("x")
      assert.equal("", async.await(task))
      assert.equal("x", client:read(1))
    end)
  end)

  it("gives numbers as Lua's io does", function()
    with_text(" 12 -7.5e2\n0x1F +3 1e400 .5 nan 9", function(s)
      assert.equal("integer", math.type(s:read("n")))
      assert.equal(-750.0, s:read("n"))
      assert.same({ 31, 3, math.huge, 0.5 }, { s:read("n", "n", "n", "n") })
      assert.is_nil(s:read("n"))
    end)
    with_text("77", function(s)
      assert.equal(77, s:read("n"))
      assert.is_nil(s:read("n"))
    end)
    with_text(("9"):rep(300), function(s) assert.is_nil(s:read("n")) end)
  end)

  it("gives a number that arrives in pieces whole", function()
    with_pair(function(client, peer)
      local task = started(client.read, client, "n", "l")
      for _, piece in ipairs { " ", "-1", "2", ".", "5e", "1 tail\n" } do
        peer:write(piece)
        async.sleep(0.001)
      end
      assert.same({ -125.0, " tail" }, { async.await(task) })
    end)
  end)

  it("takes several formats and stops at the first that fails", function()
    with_text("head\nabcde\ntail", function(s)
      assert.same({ "head", "ab", "cde" }, { s:read("l", 2, "l") })
      local values = table.pack(s:read("l", "l", "a"))
      assert.equal(2, values.n)
      assert.equal("tail", values[1])
      assert.is_nil(values[2])
    end)
  end)

  it("joins what arrives byte by byte", function()
    with_pair(function(client, peer)
      local task = started(client.read, client, "l", 4, "L")
      for byte in ("line\nfourend\n"):gmatch(".") do
        peer:write(byte)
        async.sleep(0)
      end
      assert.same({ "line", "four", "end\n" }, { async.await(task) })
    end)
  end)

  it("passes megabytes unchanged", function()
    local chunks = {}
    for i = 1, 64 do chunks[i] = string.char(i + 32):rep(helper.scaled(64) * 1024) end
    local text = table.concat(chunks)
    with_pair(function(client, peer)
      local writer = async.create_task(function()
        peer:write(table.unpack(chunks))
        peer:shutdown()
      end)
      assert.is_true(client:read("a") == text)
      async.await(writer)
    end)
    with_pair(function(client, peer)
      local writer = async.create_task(function() peer:write(text):write("!") end)
      assert.is_true(client:read(#text) == text)
      assert.equal("!", client:read(1))
      async.await(writer)
    end)
  end)

  it("refuses a line over the limit and keeps it", function()
    with_text(("x"):rep(11) .. "\nnext\n", function(s)
      local e = refuses("LimitOverrunError", "10", s.read, s, "l")
      assert.equal(11, e.consumed)
      refuses("LimitOverrunError", "10", s.read, s, "L")
      assert.equal(("x"):rep(11), s:read(e.consumed))
      assert.same({ "", "next" }, { s:read("l", "l") })
    end, { limit = 10 })
    with_text(("x"):rep(10) .. "\n", function(s) assert.equal(10, #s:read("l")) end, { limit = 10 })
  end)

  it("refuses more blanks than that in front of a number and keeps them", function()
    with_text((" "):rep(11) .. "7", function(s)
      local e = refuses("LimitOverrunError", { "read", "no number", "10 bytes" }, s.read, s, "n")
      assert.equal(11, e.consumed)
      s:read(1)
      assert.equal(7, s:read("n"))
    end, { limit = 10 })
  end)

  it("has a limit of 64 KiB for lines, with and without an end", function()
    with_text(("x"):rep(65536) .. "\n" .. ("y"):rep(65537), function(s)
      assert.equal(65536, #s:read("l"))
      refuses("LimitOverrunError", "65536", s.read, s, "l")
      assert.equal(65537, #s:read("a"))
    end)
  end)

  it("checks its arguments", function()
    with_text("text\n", function(s)
      refuses("ValueError", { "#1", "read", "unknown format" }, function() s:read("x") end)
      refuses("ValueError", { "#2", "read" }, function() s:read("l", -1) end)
      refuses("TypeError", { "#1", "read" }, function() s:read({}) end)
      refuses("TypeError", { "#1", "read" }, function() s:read(1.5) end)
      refuses("TypeError", "read", s.read, io.stdout)
      assert.equal("text", s:read("l"))
    end)
  end)
end)

describe("read_some", function()
  it("gives what is there, at most so much, and nil at the end", function()
    with_text("abcdef", function(s)
      assert.equal("ab", s:read_some(2))
      assert.equal("cdef", s:read_some())
      assert.is_nil(s:read_some())
      assert.is_nil(s:read_some(1))
    end)
  end)

  it("checks its arguments", function()
    with_pair(function(s)
      refuses("ValueError", { "#1", "read_some" }, function() s:read_some(0) end)
      refuses("TypeError", { "#1", "read_some" }, function() s:read_some("1") end)
      refuses("TypeError", "read_some", s.read_some, 1)
    end)
  end)
end)

describe("read_until", function()
  it("gives all up to and with the separator, however it arrives", function()
    with_pair(function(client, peer)
      local task = started(client.read_until, client, "\r\n\r\n")
      for byte in ("a\r\n\r b\r\n\r\nbody"):gmatch(".") do
        peer:write(byte)
        async.sleep(0)
      end
      assert.equal("a\r\n\r b\r\n\r\n", async.await(task))
      assert.equal("body", client:read(4))
    end)
  end)

  it("throws IncompleteReadError at the end and keeps the bytes; nil if there are none", function()
    with_text("abc", function(s)
      local e = refuses("IncompleteReadError", "separator", s.read_until, s, ";")
      assert.equal("abc", e.partial)
      assert.equal(";", e.expected)
      assert.equal("abc", s:read("a"))
      assert.is_nil(s:read_until(";"))
    end)
  end)

  it("throws LimitOverrunError over max and keeps the bytes", function()
    with_text("abcdef;", function(s)
      local e = refuses("LimitOverrunError", "5", s.read_until, s, ";", 5)
      assert.equal(6, e.consumed)
      assert.equal("abcdef;", s:read_until(";", 6))
    end)
    with_pair(function(client, peer)
      peer:write("abcdefgh")
      refuses("LimitOverrunError", "5", client.read_until, client, "--", 5)
      assert.equal("abcdefgh", client:read(8))
    end)
  end)

  it("checks its arguments", function()
    with_pair(function(s)
      refuses("ValueError", { "#1", "read_until", "empty" }, function() s:read_until("") end)
      refuses("TypeError", { "#1", "read_until" }, function() s:read_until() end)
      refuses("TypeError", { "#2", "read_until" }, function() s:read_until(";", "5") end)
      refuses("ValueError", { "#2", "read_until" }, function() s:read_until(";", -1) end)
    end)
  end)
end)

describe("lines", function()
  it("iterates to the end of the stream", function()
    with_text("a\nb\n\nc", function(s)
      local list = {}
      for line in s:lines() do list[#list + 1] = line end
      assert.same({ "a", "b", "", "c" }, list)
    end)
  end)

  it("passes formats on", function()
    with_text("1 2 3 4", function(s)
      local list = {}
      for a, b in s:lines("n", "n") do list[#list + 1] = a * 10 + b end
      assert.same({ 12, 34 }, list)
    end)
    with_text("abcde", function(s)
      local list = {}
      for piece in s:lines(2) do list[#list + 1] = piece end
      assert.same({ "ab", "cd", "e" }, list)
    end)
  end)

  it("checks its arguments", function()
    with_pair(function(s)
      refuses("ValueError", { "#1", "lines" }, function() s:lines("z") end)
      refuses("TypeError", "lines", s.lines)
    end)
  end)
end)

describe("the end of a connection", function()
  it("gives data first, then the error", function()
    with_pair(function(client, peer)
      client:write("unread")
      peer:write("line\nrest")
      async.sleep(0.005)
      peer:close()
      async.sleep(0.005)
      assert.equal("line", client:read("l"))
      local e = refuses("OSError", { "read 127.0.0.1:", "ECONNRESET" }, client.read, client, "l")
      assert.equal("read", e.syscall)
      assert.equal("rest", client:read_some())
      refuses("OSError", "ECONNRESET", client.read_some, client)
    end)
  end)

  it("is an OSError for whoever waits when it is closed here", function()
    with_pair(function(client, peer)
      local reader = started(client.read, client, "l")
      local writer = started(client.write, client, ("x"):rep(10000000))
      local shut = started(pcall, peer.read, peer, "l")
      client:close()
      client:close()
      assert.equal("ECANCELED", refuses("OSError", "read 127.0.0.1:", async.await, reader).code)
      assert.equal("ECANCELED", refuses("OSError", "write 127.0.0.1:", async.await, writer).code)
      peer:close()
      async.await(shut)
    end)
  end)

  it("makes every use throw", function()
    with_pair(function(client)
      client:close()
      for _, name in ipairs { "read", "read_some", "lines", "write", "shutdown", "peer", "sock" } do
        local e = refuses("OSError", { name, "closed" }, client[name], client)
        assert.equal("EBADF", e.code)
      end
      assert.equal("OSError", select(2, pcall(client.read_until, client, ";")).name)
      assert.is_truthy(tostring(client):find("^<Stream closed 127%.0%.0%.1:%d+>$"))
    end)
  end)

  it("comes with the end of the block of a <close> variable", function()
    local client, peer = sockets.pair()
    do
      local _ <close> = client
      client:write("bye")
    end
    assert.equal("bye", peer:read("a"))
    peer:close()
  end)

  it("comes when nobody has the stream any more", function()
    local _, peer = helper.without_sites(sockets.pair)
    _ = nil
    collectgarbage()
    collectgarbage()
    assert.is_nil(peer:read("l"))
    peer:close()
  end)
end)

describe("two tasks at one stream", function()
  it("may not both read", function()
    with_pair(function(client, peer)
      local first = started(client.read, client, "l")
      refuses("RuntimeError", { "read", "another task" }, client.read, client, "l")
      refuses("RuntimeError", { "read_some", "another task" }, client.read_some, client)
      peer:write("for the first\n")
      assert.equal("for the first", async.await(first))
    end)
  end)

  it("may not both write", function()
    with_pair(function(client, peer)
      local text = ("x"):rep(10000000)
      local first = started(client.write, client, text)
      refuses("RuntimeError", { "write", "another task" }, client.write, client, "y")
      refuses("RuntimeError", { "shutdown", "another task" }, client.shutdown, client)
      assert.equal(#text, #peer:read(#text))
      async.await(first)
    end)
  end)

  it("may read and write at once", function()
    with_pair(function(client, peer)
      local reader = started(client.read, client, "l")
      client:write("ping\n")
      peer:write(peer:read("l"):upper(), "\n")
      assert.equal("PING", async.await(reader))
    end)
  end)
end)

describe("a cancelled read", function()
  it("loses no byte, wherever it is cancelled", function()
    for _, format in ipairs { "l", "L", "a", 100, "n" } do
      with_pair(function(client, peer)
        local reader = started(client.read, client, "l", format)
        peer:write("first\n12")
        async.sleep(0.002)
        reader:cancel()
        refuses("CancelledError", {}, async.await, reader)
        peer:write("34\n"):shutdown()
        assert.equal("first\n1234\n", client:read("a"))
      end)
    end
  end)

  it("gets what came first, and the request later", function()
    with_pair(function(client)
      local first, later
      local reader = started(function()
        first = select(2, pcall(client.read, client, "l"))
        later = select(2, pcall(async.sleep, 1))
      end)
      client:close()
      reader:cancel()
      async.wait { reader }
      assert.equal("ECANCELED", first.code)
      assert.equal("CancelledError", later.name)
    end)
  end)

  it("loses no byte to timeouts in a loop", function()
    with_pair(function(client, peer)
      local rounds = helper.scaled(60, 10)
      local writer = async.create_task(function()
        for i = 1, rounds do
          peer:write(("%05d\n"):format(i))
          if i % 3 == 0 then async.sleep(0.0005) end
        end
        peer:shutdown()
      end)
      local list = {}
      while true do
        local ok, line = pcall(async.wait_for, function() return client:read("l", "l") end, 0.0004)
        if ok and not line then break end
        if ok then list[#list + 1] = line end
        if not ok then assert.equal("TimeoutError", line.name) end
      end
      async.await(writer)
      -- Two lines a read: every first one is there.
      assert.equal((rounds + 1) // 2, #list)
      for i, line in ipairs(list) do assert.equal(i * 2 - 1, tonumber(line)) end
    end)
  end)
end)

describe("fairness", function()
  it("lets others run while lines are there", function()
    with_pair(function(client, peer)
      peer:write(("x\n"):rep(5000)):shutdown()
      async.sleep(0.005)
      local ticks, done = 0, false
      local ticker = async.create_task(function()
        while not done do
          ticks = ticks + 1
          async.sleep(0)
        end
      end)
      local n = 0
      for _ in client:lines() do n = n + 1 end
      done = true
      async.await(ticker)
      assert.equal(5000, n)
      assert.is_true(ticks >= 30)
    end)
  end)
end)

describe("addresses", function()
  it("are those of the two ends", function()
    with_pair(function(client, peer)
      assert.same(client:sock(), peer:peer())
      assert.same(client:peer(), peer:sock())
      local a = client:sock()
      assert.equal("127.0.0.1", a.host)
      assert.equal("inet", a.family)
      assert.is_true(math.type(a.port) == "integer" and a.port > 0)
      assert.is_truthy(tostring(client):find("^<Stream open 127%.0%.0%.1:%d+>$"))
    end)
  end)
end)

describe("outside a task", function()
  it("nothing that may wait is to be had", function()
    with_pair(function(client)
      local errors = async.Queue()
      async.get_running_loop():call_soon(function()
        errors:put_nowait(select(2, pcall(client.read, client, "l")))
        errors:put_nowait(select(2, pcall(client.write, client, "x")))
      end)
      for _ = 1, 2 do assert.equal("RuntimeError", errors:get().name) end
    end)
  end)
end)

describe("a task whose coroutine was closed by force", function()
  it("ends with an error, wherever it waited, and what it waited for may go", function()
    local stdout = helper.plain [[
      async.run(function()
        local net, loop = async.net, async.get_running_loop()
        local reports = {}
        loop:set_exception_handler(function(_, context) reports[#reports + 1] = context.exception.message end)
        local function kill(task)
          async.sleep(0)
          assert(coroutine.close(task:get_coro()))
        end
        local peer
        do
          local server = net.listen("127.0.0.1", 0)
          local stream = net.connect("127.0.0.1", server:address().port)
          peer = server:accept()
          kill(async.create_task(stream.read, stream, "l"))
          kill(async.create_task(stream.write, stream, ("x"):rep(10000000)))
          kill(async.create_task(server.accept, server))
          kill(async.create_task(net.connect, "localhost", server:address().port))
          kill(async.create_task(net.getaddrinfo, "localhost"))
        end
        collectgarbage()
        collectgarbage()
        pcall(peer.write, peer, "x")
        peer:close()
        while loop:stats().tasks > 1 or loop:stats().handles > 0 do async.sleep(0.001) end
        for _ = 1, 2 do
          collectgarbage()
          async.sleep(0.001)
        end
        for _, message in ipairs(reports) do assert(message:find "closed from outside", message) end
        print(#reports)
      end)
    ]]
    assert.equal("5\n", stdout)
  end)
end)

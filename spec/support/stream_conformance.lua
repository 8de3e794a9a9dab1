-- What every stream must do, whatever carries its bytes: a list of cases { name, run }, run(make) with a maker of
-- connected pairs: make(options) -> a, b, closed by the case. Nothing here relies on a write returning before the
-- other end has read, nor on how many bytes come at a time; so writers are tasks. What needs time to happen is waited
-- for, not slept for.
local assert = require "luassert"
local async = require "lunation"
local helper = require "spec.helper"
local tasks = require "spec.support.tasks"

local refuses, started = helper.refuses, tasks.started
local cases = {}

-- case(name, fn): fn(a, b) over a fresh pair; options are the maker's.
local function case(name, fn, options)
  cases[#cases + 1] = {
    name = name,
    run = function(make)
      local a, b = make(options)
      local _ <close> = a
      local _ <close> = b
      fn(a, b)
    end,
  }
end

-- A task that writes and then ends the stream, in the way asked for; in any case, should it be cut.
local function sends(stream, text, ending)
  return started(function()
    local _ <close> = async.defer(function(e) if e ~= nil then stream:close() end end)
    stream:write(text)
    if ending == "shutdown" then stream:shutdown() elseif ending == "close" then stream:close() end
  end)
end

-- All that read_some gives, and what ended it: nil or the error.
local function drain(stream)
  local list = {}
  while true do
    local ok, piece = async.pcall(stream.read_some, stream)
    if not ok or not piece then return table.concat(list), piece end
    list[#list + 1] = piece
  end
end

-- Every length of a text of `size` bytes; in a slow build some of them, others each time that it is asked for.
local turn = 0
local function lengths(size)
  turn = turn + 1
  local step = helper.slow < 10 and 1 or 7
  local n = step == 1 and -1 or turn % step - step
  return function()
    n = n + step
    if n < 0 then n = n + step end
    return n <= size and n or nil
  end
end

-- ---- reading ----

-- One read after the other until one gives nothing, then the rest; Lua's own library gives the same for a file.
local function read_all(source, formats)
  local list = {}
  repeat
    local values = table.pack(source:read(table.unpack(formats)))
    list[#list + 1] = values
  until values[1] == nil or formats[1] == "a" or #list > 50
  list[#list + 1] = source:read("a")
  return list
end

local TEXT = "one\n\n 12 -0x1F 7.5e1x\r\nlast line"
local FORMATS = { { "l" }, { "L" }, { "a" }, { 1 }, { 5 }, { "n", "l" }, { "l", 3, "L" }, { "n", "n", "n" }, { 0, 4 } }

for _, formats in ipairs(FORMATS) do
  local function run(make)
    for n in lengths(#TEXT) do
      local file <close> = assert(io.tmpfile())
      file:write(TEXT:sub(1, n))
      file:seek("set")
      local expected = read_all(file, formats)
      for _, ending in ipairs { "shutdown", "close" } do
        local a, b = make()
        local _ <close> = a
        local _ <close> = b
        local writer = sends(b, TEXT:sub(1, n), ending)
        assert.same(expected, read_all(a, formats), ("%d bytes, then %s"):format(n, ending))
        async.await(writer)
      end
    end
  end
  local name = "reads " .. table.concat(formats, ",") .. " as Lua's io does, wherever the text ends"
  cases[#cases + 1] = { name = name, run = run }
end

case("read_some gives at least one byte, at most so many, then nil for ever", function(a, b)
  local writer = sends(b, "abcdef", "shutdown")
  local text = ""
  while #text < 6 do
    local piece = a:read_some(4)
    assert.is_true(#piece >= 1 and #piece <= 4)
    text = text .. piece
  end
  assert.equal("abcdef", text)
  for _ = 1, 2 do assert.is_nil(a:read_some()) end
  async.await(writer)
end)

case("read_until finds its separator however it comes, and keeps what is behind it", function(a, b)
  local writer = sends(b, "a\r\n\r b\r\n\r\nbody", "shutdown")
  assert.equal("a\r\n\r b\r\n\r\n", a:read_until("\r\n\r\n"))
  local e = refuses("IncompleteReadError", "separator", a.read_until, a, "\r\n\r\n")
  assert.equal("body", e.partial)
  assert.equal("body", a:read("a"))
  assert.is_nil(a:read_until(";"))
  async.await(writer)
end)

case("what is too long is refused and kept", function(a, b)
  local writer = sends(b, ("x"):rep(11) .. "\nabcdef;", "shutdown")
  assert.equal(11, refuses("LimitOverrunError", "10", a.read, a, "l").consumed)
  assert.equal(("x"):rep(11), a:read(11))
  assert.equal("", a:read("l"))
  refuses("LimitOverrunError", "5", a.read_until, a, ";", 5)
  assert.equal("abcdef;", a:read_until(";", 6))
  async.await(writer)
end, { limit = 10 })

case("lines iterates to the end", function(a, b)
  local writer = sends(b, "a\nb\n\nc", "close")
  local list = {}
  for line in a:lines() do list[#list + 1] = line end
  assert.same({ "a", "b", "", "c" }, list)
  async.await(writer)
end)

case("a read waits for its bytes and no longer", function(a, b)
  local reader = started(a.read, a, 3, "l")
  async.await(started(b.write, b, "ab"))
  helper.turns(20)
  assert.is_false(reader:done())
  local writer = started(b.write, b, "c!\nrest")
  assert.same({ "abc", "!" }, { async.await(reader) })
  assert.equal("rest", a:read(4))
  async.await(writer)
end)

-- ---- writing ----

case("write sends strings and numbers in order and gives the stream", function(a, b)
  local reader = started(b.read, b, "a")
  assert.equal(a, a:write("a", 1, "", 2.5):write("b"):write():write(""))
  a:write(table.unpack((function()
    local pieces = {}
    for i = 1, 100 do pieces[i] = i .. "," end
    return pieces
  end)()))
  a:shutdown()
  local text = async.await(reader)
  assert.equal("a12.5b1,2,3,", text:sub(1, 12))
  assert.equal(",99,100,", text:sub(-8))
end)

case("both ways at once, unchanged", function(a, b)
  local size = helper.scaled(20000, 2000)
  local function text_of(seed)
    local list = {}
    for i = 1, size do list[i] = string.char((i * seed + i // 251) % 256) end
    return table.concat(list)
  end
  local to_b, to_a = text_of(7), text_of(11)
  local writers = { sends(a, to_b, "shutdown"), sends(b, to_a, "shutdown") }
  local got = async.gather { function() return a:read("a") end, function() return b:read("a") end }
  assert.is_true(got[1] == to_a and got[2] == to_b)
  for _, writer in ipairs(writers) do async.await(writer) end
end)

case("a writer waits for a slow reader, and goes on", function(a, b)
  local chunk, written = ("x"):rep(helper.scaled(4096, 512)), 0
  -- More than any buffer of a system holds would take a 1-byte stream too long: whoever waits at all is asked to.
  local rounds = 3
  local writer = started(function()
    for _ = 1, rounds do
      a:write(chunk)
      written = written + 1
    end
    a:shutdown()
  end)
  assert.equal(rounds * #chunk, #b:read("a"))
  async.await(writer)
  assert.equal(rounds, written)
end)

case("what a cancelled write has accepted still goes out, and nothing twice", function(a, b)
  local text = ("0123456789"):rep(helper.scaled(300, 30))
  local writer = started(a.write, a, text)
  local in_time = not writer:cancel()
  if not in_time then refuses("CancelledError", {}, async.await, writer) end
  local closer = started(function()
    a:shutdown()
    a:close()
  end)
  assert.equal(text, b:read("a"))
  async.await(closer)
end)

case("arguments are checked before anything is sent", function(a, b)
  refuses("TypeError", { "#2", "write", "string" }, function() a:write("a", nil) end)
  refuses("TypeError", { "#1", "write" }, function() a:write({}) end)
  refuses("ValueError", { "#1", "read" }, function() a:read("x") end)
  refuses("ValueError", { "#1", "read_some" }, function() a:read_some(0) end)
  refuses("ValueError", { "#1", "read_until" }, function() a:read_until("") end)
  a:shutdown()
  assert.equal("", b:read("a"))
end)

-- ---- who may use it, and cancelling ----

case("one reader and one writer at a time", function(a, b)
  local reader = started(a.read, a, "l")
  for _, name in ipairs { "read", "read_some" } do
    refuses("RuntimeError", { name, "another task is reading" }, a[name], a)
  end
  refuses("RuntimeError", "another task is reading", a.read_until, a, ";")
  local writer = started(function() a:write("ping\n") end)
  assert.equal("ping", b:read("l"))
  async.await(writer)
  writer = started(b.write, b, "pong\n")
  assert.equal("pong", async.await(reader))
  async.await(writer)
end)

case("a cancelled read loses no byte", function(a, b)
  for _, format in ipairs { "l", "L", "a", 100, "n" } do
    local reader = started(a.read, a, "l", format)
    local writer = started(b.write, b, "first\n12")
    helper.turns(helper.scaled(60, 30))
    reader:cancel()
    refuses("CancelledError", {}, async.await, reader)
    reader = started(a.read, a, "l", "l")
    async.await(started(function()
      async.await(writer)
      b:write("34\n")
    end))
    assert.same({ "first", "1234" }, { async.await(reader) })
  end
end)

case("a read in steps of a timeout gets every line once", function(a, b)
  local rounds = helper.scaled(30, 5)
  local writer = started(function()
    for i = 1, rounds do
      b:write(("%05d\n"):format(i))
      if i % 3 == 0 then async.sleep(0.0003) end
    end
    b:shutdown()
  end)
  local list = {}
  while true do
    local ok, line = pcall(async.wait_for, function() return a:read("l") end, 0.0002)
    if ok and not line then break end
    if ok then list[#list + 1] = math.tointeger(tonumber(line)) end
    if not ok then assert.equal("TimeoutError", line.name) end
  end
  async.await(writer)
  assert.equal(rounds, #list)
  for i, n in ipairs(list) do assert.equal(i, n) end
end)

case("nothing that may wait is to be had outside a task", function(a)
  local done = async.Future()
  async.get_running_loop():call_soon(function()
    done:set_result(select(2, pcall(a.read, a, "l")), select(2, pcall(a.write, a, "x")))
  end)
  for _, e in ipairs { async.await(done) } do assert.equal("RuntimeError", e.name) end
end)

-- ---- how it ends ----

case("half close ends one direction, after all that was written", function(a, b)
  local asker = started(function()
    a:write("question"):shutdown()
    a:shutdown()
    refuses("RuntimeError", { "write", "shut down" }, a.write, a, "more")
  end)
  assert.equal("question", b:read("a"))
  async.await(asker)
  local answer = sends(b, "answer", "close")
  assert.equal("answer", a:read("a"))
  async.await(answer)
end)

case("a cancelled shutdown still comes", function(a, b)
  local writer = started(a.write, a, ("x"):rep(5000))
  writer:cancel()
  async.wait { writer }
  local shut = started(a.shutdown, a)
  shut:cancel()
  async.wait { shut }
  assert.equal(5000, #b:read("a"))
  assert.is_nil(b:read("l"))
end)

case("close sends what was accepted", function(a, b)
  local writer = started(a.write, a, "bye")
  if writer:cancel() then async.wait { writer } end
  a:close()
  assert.equal("bye", b:read("a"))
end)

-- Writes until a write waits, which is then cancelled; how many bytes that were.
local function fill(stream)
  local size, chunk = 0, 1000
  repeat
    local writer = started(stream.write, stream, ("x"):rep(chunk))
    local full = not writer:done()
    writer:cancel()
    async.wait { writer }
    size, chunk = size + chunk, chunk * 2
  until full
  return size
end

-- #real: while TCP has bytes on their way a virtual clock stands still.
case("a closed end with output left takes what comes, so that a peer that writes first gets it all #real", function(a, b)
  local size = fill(a)
  fill(b)
  a:close()
  local last = started(function()
    pcall(b.write, b, "the last")
    async.sleep(0.01 * helper.slow) -- for all that was written here to be taken
    local got = 0
    while true do
      local ok, piece = pcall(b.read, b, 5000)
      if not ok or not piece then break end
      got = got + #piece
    end
    local rest, e = drain(b)
    return got + #rest, e
  end)
  async.wait({ last }, { timeout = 5 * helper.slow })
  assert.is_true(last:done(), "the peer hangs")
  local got, e = async.await(last)
  -- A system resets a connection that is closed too early for that, and drops what it had not sent.
  if e then assert.equal("ECONNRESET", e.code) else assert.equal(size, got) end
end)

case("close wakes who waits, and everything throws afterwards", function(a)
  local reader = started(a.read, a, "l")
  a:close()
  a:close()
  assert.equal("ECANCELED", refuses("OSError", "read", async.await, reader).code)
  for _, name in ipairs { "read", "read_some", "lines", "write", "shutdown", "peer", "sock" } do
    assert.equal("EBADF", refuses("OSError", { name, "closed" }, a[name], a).code)
  end
  assert.truthy(tostring(a):find("^<Stream closed "))
end)

case("the end of a block closes it", function(a, b)
  do local _ <close> = a end
  assert.is_nil(b:read("l"))
end)
cases[#cases + 1] = {
  name = "the collector closes a stream that nobody has",
  run = function(make)
    local function half() return select(2, make()) end
    local b <close> = helper.without_sites(half)
    for _ = 1, 2 do
      collectgarbage()
      helper.turns(2)
    end
    assert.is_nil(b:read("l"))
  end,
}

case("a peer that is gone is an OSError for the writer", function(a, b)
  b:close()
  local e = refuses("OSError", "write", function()
    for _ = 1, 1000 do
      a:write("x")
      async.sleep(0.001)
    end
  end)
  assert.is_true(e.code == "EPIPE" or e.code == "ECONNRESET")
  assert.equal(e.code, refuses("OSError", "write", a.write, a, "x").code)
end)

case("a reset comes behind all that had arrived", function(a, b)
  local unread = started(a.write, a, "unread")
  local writer = sends(b, "line\nrest", nil)
  assert.equal("line", a:read("l"))
  assert.equal("r", a:read(1))
  async.sleep(0.005) -- time for what the system carries
  b:close()
  local text, e = drain(a)
  assert.equal("est", text)
  assert.equal("ECONNRESET", e.code)
  assert.equal("ECONNRESET", refuses("OSError", "read", a.read, a, "l").code)
  async.wait { unread, writer }
  pcall(async.await, unread)
  pcall(async.await, writer)
end)

-- What a client makes of an answer that breaks off: how it ended, and all that it read before.
local ANSWER = "OK 9\nnine byteOK 0\n"
local function client(stream)
  local got = {}
  local function keep(bytes)
    got[#got + 1] = bytes
    return bytes
  end
  local ok, e = async.pcall(function()
    for head in stream:lines("L") do
      local n = tonumber(keep(head):match("^OK (%d)\n$"))
      if not n then return "cut" end
      if n > 0 and #keep(stream:read(n) or "") < n then return "cut" end
    end
    return "end"
  end)
  local rest = drain(stream)
  return ok and e or e.code, table.concat(got) .. rest
end

-- Where a break is no break for that client.
local WHOLE = { [0] = true, [14] = true, [19] = true }

for _, ending in ipairs { "shutdown", "close", "reset", "silence" } do
  local function run(make)
    for n in lengths(#ANSWER) do
      local a, b = make()
      local _ <close> = a
      local _ <close> = b
      local writers, reset = { sends(b, ANSWER:sub(1, n), ending) }, false
      if ending == "reset" then
        writers[2] = started(pcall, a.write, a, "unread")
        -- Closed with output left it goes on until that is out, and drops what comes meanwhile: then it may be none.
        reset = writers[1]:done()
        b:close()
      end
      local how, got
      if ending == "silence" then
        local reader = started(client, a)
        async.wait(writers)
        async.wait({ reader }, { timeout = 0.004 * helper.slow })
        assert.is_false(reader:done())
        b:close()
        how, got = async.await(reader)
      else
        how, got = client(a)
      end
      assert.equal(ANSWER:sub(1, n), got)
      local expected = WHOLE[n] and "end" or "cut"
      if reset or (ending == "reset" and how ~= expected) then expected = "ECONNRESET" end
      assert.equal(expected, how, "at byte " .. n)
      async.wait(writers)
      for _, writer in ipairs(writers) do pcall(async.await, writer) end
    end
  end
  cases[#cases + 1] = { name = "an answer that breaks off at any byte: " .. ending, run = run }
end

case("a silent peer costs a timeout and nothing else", function(a, b)
  refuses("TimeoutError", {}, async.wait_for, function() return a:read("l") end, 0.001)
  local writer = started(b.write, b, "at last\n")
  assert.equal("at last", a:read("l"))
  async.await(writer)
end)

-- #real: with a task that is always ready a virtual clock stands still, and so does a pair with a delay.
case("a reader of what is there lets others run #real", function(a, b)
  local n, ticks, over = helper.scaled(3000, 400), 0, false
  local writer = sends(b, ("\n"):rep(n), "shutdown")
  local ticker = started(function()
    while not over do
      ticks = ticks + 1
      async.sleep(0)
    end
  end)
  local got = 0
  for _ in a:lines() do got = got + 1 end
  over = true
  async.wait { writer, ticker }
  assert.equal(n, got)
  assert.is_true(ticks >= n // 200)
end)

case("addresses are tables with a family", function(a, b)
  for _, s in ipairs { a, b } do
    assert.is_string(s:peer().family)
    assert.is_string(s:sock().family)
    assert.truthy(tostring(s):find("^<Stream open "))
  end
  assert.same(a:sock(), b:peer())
  assert.same(a:peer(), b:sock())
end)

cases.lengths = lengths
return cases

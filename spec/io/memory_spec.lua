-- Streams in memory: what every stream does, over several kinds of pairs and over TCP; the options of a pair; every
-- fault at every byte of an exchange.
local async = require "lunation"
local memory = require "lunation.memory"
local conformance = require "spec.support.stream_conformance"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local refuses, started, lengths = helper.refuses, tasks.started, conformance.lengths

-- A maker of pairs with these options and those of the case.
local function maker(base)
  return function(options)
    local all = {}
    for k, v in pairs(base) do all[k] = v end
    for k, v in pairs(options or {}) do all[k] = v end
    return memory.pair(all)
  end
end

local KINDS = {
  { "a pair in memory", maker {} },
  { "a pair in lockstep", maker { lockstep = true } },
  { "a pair that passes one byte at a time", maker { max_read = 1, max_write = 1, capacity = 1000 } },
  { "a pair in lockstep that passes one byte at a time", maker { lockstep = true, max_read = 1, max_write = 1 } },
  { "a pair with room for 3 bytes", maker { capacity = 3 } },
  { "a pair with short reads and a delay", maker { max_read = 700, delay = 0.0001 } },
  { "a TCP connection", function(options) return sockets.pair(options) end },
}
for _, kind in ipairs(KINDS) do
  describe(kind[1], function()
    for _, case in ipairs(conformance) do
      it(case.name, function() case.run(kind[2]) end)
    end
  end)
end

describe("a task that never has to wait", function()
  it("gives way at least once in a MiB that it writes or reads", function()
    local a, b = memory.pair { capacity = 1 << 26 }
    local ticks, piece, pieces = 0, ("x"):rep(65536), 256
    local ticker = async.create_task(function()
      while true do
        async.sleep(0)
        ticks = ticks + 1
      end
    end)
    local _ <close> = async.defer(function()
      ticker:cancel()
      a:close()
      b:close()
    end)
    for _ = 1, pieces do a:write(piece) end
    assert.is_true(ticks >= pieces // 16, ticks)
    ticks = 0
    for _ = 1, pieces do assert.equal(#piece, #b:read(#piece)) end
    assert.is_true(ticks >= pieces // 16, ticks)
  end)
end)

-- The lengths of the pieces that read_some gives until the end.
local function pieces(stream)
  local list = {}
  for piece in function() return stream:read_some() end do list[#list + 1] = #piece end
  return list
end

local function sends(stream, text)
  return started(function()
    stream:write(text)
    stream:shutdown()
  end)
end

describe("the options of a pair", function()
  it("lockstep: a write returns when the other end has read all of it", function()
    local a, b = memory.pair { lockstep = true }
    local _ <close> = a
    local _ <close> = b
    local writer = started(a.write, a, "abcdef")
    helper.turns(50)
    assert.is_false(writer:done())
    assert.equal("abc", b:read(3)) -- what was handed to a reader counts as read
    async.await(writer)
    writer = started(a.write, a, "more")
    helper.turns(50)
    assert.equal("def", b:read(3))
    helper.turns(50)
    assert.is_false(writer:done())
    assert.equal("more", b:read(4))
    async.await(writer)
  end)

  it("max_read and max_write: so many bytes at a time", function()
    local a, b = memory.pair { b = { max_read = 2 } }
    local writer = sends(a, "abcde")
    assert.same({ 2, 2, 1 }, pieces(b))
    async.await(writer)
    writer = sends(b, "abcde")
    assert.same({ 5 }, pieces(a))
    async.await(writer)
    a:close()
    b:close()
    a, b = memory.pair { a = { max_write = 2 } }
    local reader = started(b.read_some, b)
    writer = started(a.write, a, "abcde")
    assert.equal("ab", async.await(reader))
    async.await(writer)
    assert.equal("cde", b:read(3))
    a:close()
    b:close()
  end)

  it("capacity: a writer waits while more is on the way", function()
    local a, b = memory.pair { capacity = 10 }
    local _ <close> = a
    local _ <close> = b
    a:write("12345"):write("67890")
    local writer = started(a.write, a, "x")
    helper.turns(20)
    assert.is_false(writer:done())
    assert.equal("1234567890", b:read_some())
    async.await(writer)
    assert.equal("x", b:read(1))
  end)

  it("64 KiB are the capacity without one", function()
    local a, b = memory.pair()
    local _ <close> = a
    local _ <close> = b
    a:write(("x"):rep(65536))
    local writer = started(a.write, a, "y")
    helper.turns(20)
    assert.is_false(writer:done())
    assert.equal(("x"):rep(65536) .. "y", b:read(65537))
    async.await(writer)
  end)

  it("fail_read and fail_write: behind that many bytes, each for one direction", function()
    for n = 0, 4 do
      local a, b = memory.pair { a = { fail_read = { at = n }, fail_write = { at = 4 - n, error = "ETIMEDOUT" } } }
      local _ <close> = a
      local _ <close> = b
      b:write("abcd")
      a:write(("x"):rep(4 - n))
      assert.equal("ETIMEDOUT", refuses("OSError", "write memory", a.write, a, "y").code)
      assert.equal(n > 0 and ("abcd"):sub(1, n) or nil, n > 0 and a:read(n) or nil)
      for _ = 1, 2 do
        assert.equal("ECONNRESET", refuses("OSError", "read memory", a.read, a, 1).code)
      end
      assert.equal(("x"):rep(4 - n), n < 4 and b:read(4 - n) or "")
    end
  end)

  it("fail_read with EOF: the stream just ends", function()
    local a, b = memory.pair { a = { fail_read = { at = 2, error = "EOF" } } }
    local _ <close> = a
    local _ <close> = b
    b:write("abcd")
    assert.equal("ab", a:read("a"))
    assert.is_nil(a:read(1))
  end)

  it("limit: of a line", function()
    local a <close>, b = memory.pair { limit = 3 }
    a:write("abcd\n")
    refuses("LimitOverrunError", { "read memory", "3" }, b.read, b, "l")
    b:close()
  end)

  it("bad ones are refused, by name", function()
    local function bad(class, parts, options) refuses(class, parts, memory.pair, options) end
    bad("ValueError", { "'lockstop'", "unknown" }, { lockstop = true })
    bad("ValueError", { "'a.b'", "unknown" }, { a = { b = {} } })
    bad("ValueError", { "'b.fail_read.after'", "unknown" }, { b = { fail_read = { after = 1 } } })
    bad("ValueError", "number", { 1 })
    bad("TypeError", { "'lockstep'", "boolean" }, { lockstep = 1 })
    bad("TypeError", { "'a'", "table" }, { a = true })
    bad("TypeError", { "'max_read'", "integer" }, { max_read = 1.5 })
    bad("ValueError", { "'max_write'", "range" }, { max_write = 0 })
    bad("ValueError", { "'capacity'", "range" }, { capacity = 0 })
    bad("ValueError", { "'a.capacity'", "lockstep" }, { capacity = 1, a = { lockstep = true } })
    bad("ValueError", "'delay'", { delay = -1 })
    bad("ValueError", "'delay'", { delay = 0 / 0 })
    bad("ValueError", "'fail_read.at'", { fail_read = { at = -1 } })
    bad("ValueError", "'fail_write.error'", { fail_write = { error = "EOF" } })
    bad("ValueError", "'b.fail_write.error'", { b = { fail_write = { error = "ENOTHING" } } })
    bad("TypeError", "table", 5)
  end)
end)

describe("a pair in memory", function()
  it("is two handles until it is closed or dropped", function()
    local loop = async.get_running_loop()
    local before = loop:stats().handles
    local a, b = helper.without_sites(memory.pair)
    assert.equal(before + 2, loop:stats().handles)
    assert.same({ family = "memory" }, a:peer())
    assert.same({ family = "memory" }, a:sock())
    assert.equal("<Stream open memory>", tostring(a))
    a:close()
    assert.equal("<Stream closed memory>", tostring(a))
    helper.turns(2)
    assert.equal(before + 1, loop:stats().handles)
    b = nil ---@diagnostic disable-line: unused-local
    collectgarbage()
    helper.turns(2)
    assert.equal(before, loop:stats().handles)
  end)

  it("keeps what a closed end has accepted until it is read or the other end goes, too", function()
    local loop = async.get_running_loop()
    local before = loop:stats().handles
    for _, read in ipairs { true, false } do
      local a, b = memory.pair { capacity = 1 }
      local writer = started(a.write, a, "abc")
      writer:cancel()
      async.wait { writer }
      a:close()
      helper.turns(3)
      assert.equal(before + 2, loop:stats().handles)
      if read then assert.equal("abc", b:read("a")) end
      b:close()
      helper.turns(3)
      assert.equal(before, loop:stats().handles)
    end
  end)

  it("ends with its loop, wherever it stands", function()
    local stdout = helper.plain [[
      local memory = require "lunation.memory"
      local kept = {}
      for _, options in ipairs { {}, { lockstep = true }, { capacity = 1 }, { delay = 1 }, { max_write = 1 } } do
        local runner = async.Runner()
        runner:run(function()
          for i = 1, 20 do
            local a, b = memory.pair(options)
            kept[#kept + 1] = { a, b }
            for _, s in ipairs { a, b } do
              async.create_task(pcall, s.write, s, "some text")
              if i % 2 == 0 then async.create_task(pcall, s.read, s, i) end
            end
            if i % 3 == 0 then async.sleep(0) end
            if i % 4 == 0 then a:close() end
          end
        end)
        runner:close()
      end
      for _, pair in ipairs(kept) do
        eq("<Stream closed memory>", tostring(pair[1]))
        refuses("OSError", "closed", pair[2].sock, pair[2])
      end
      print "ended"
    ]]
    assert.equal("ended\n", stdout)
  end)

  it("belongs to its loop", function()
    helper.plain [[
      local memory = require "lunation.memory"
      refuses("RuntimeError", "no running event loop", memory.pair)
      local a
      local runner = async.Runner()
      runner:run(function() a = memory.pair() end)
      async.run(function() refuses("RuntimeError", "another event loop", a.read, a, 1) end)
      runner:close()
    ]]
  end)
end)

describe("on a virtual clock", function()
  it("bytes take no time, a delay takes exactly its own", function()
    helper.plain [[
      local memory = require "lunation.memory"
      async.Runner { clock = "virtual" }:run(function()
        local loop = async.get_running_loop()
        local a, b = memory.pair { capacity = 10, max_read = 3 }
        local start = loop:time()
        local writer = async.create_task(function() a:write(("x"):rep(10000)):close() end)
        eq(10000, #b:read("a"))
        async.await(writer)
        eq(start, loop:time())
        b:close()

        a, b = memory.pair { b = { delay = 3600, max_read = 4 } }
        a:write("12345678"):close()
        local times = {}
        for piece in function() return b:read_some() end do times[#times + 1] = piece .. "@" .. loop:time() - start end
        eq("1234@3600.0 5678@7200.0", table.concat(times, " "))
        b:close()
      end)
    ]]
  end)

  it("a reader for whom nothing can come is found", function()
    helper.plain [[
      local memory = require "lunation.memory"
      local kept
      local e = refuses("RuntimeError", "nothing is left to wait for", function()
        async.Runner { clock = "virtual" }:run(function()
          kept = { memory.pair() }
          kept[1]:read("l")
        end)
      end)
    ]]
  end)

  it("the same seed moves the same bytes in the same order", function()
    local program = [[
      local memory = require "lunation.memory"
      async.Runner { clock = "virtual", seed = tonumber(os.getenv "SEED") }:run(function()
        local log = {}
        local tg <close> = async.TaskGroup()
        for i = 1, 6 do
          local a, b = memory.pair { max_read = i, max_write = 7 - i, capacity = 4 }
          tg:create_task(function() for k = 1, 5 do a:write(("x"):rep(k * i)) end a:close() end)
          tg:create_task(function()
            for piece in function() return b:read_some() end do log[#log + 1] = i .. ":" .. #piece end
            b:close()
            if i == 6 then print(table.concat(log, " ")) end
          end)
        end
      end)
    ]]
    local function run(seed) return (helper.plain(program, { env = { SEED = tostring(seed) } })) end
    local first = run(1)
    assert.truthy(first:find("6:1 ", 1, true))
    assert.equal(first, run(1))
    assert.not_equal(first, run(2))
  end)
end)

-- ---- every fault at every byte ----

local QUESTION, ANSWERS = "GET 4\nGET 0\nGET 11\n", "OK 4\nxxxxOK 0\nOK 11\nxxxxxxxxxxx"

-- One side: how it ended ("done", "cut" or the code of its first error), and every byte that it has got.
local function side(stream, fn)
  local got = {}
  local function keep(bytes)
    got[#got + 1] = bytes or ""
    return bytes
  end
  local ok, e = async.pcall(fn, stream, keep)
  -- A failed read has kept what it had.
  while not ok and e.syscall == "read" and async.pcall(function() keep(stream:read_some()) end) do end
  stream:close()
  if not ok and e.name ~= "OSError" then error(e, 0) end
  return ok and e or e.code, table.concat(got)
end

local function answers(stream, keep)
  while true do
    local head = keep(stream:read("L"))
    if not head then return "done" end
    local n = tonumber(head:match("^OK (%d+)\n$"))
    if not n or #(keep(stream:read(n)) or "") < n then return "cut" end
  end
end

-- Asks and reads at the same time, as whoever asks for much must. When asking fails nothing more is read; when there
-- is nothing more to read nothing more is asked.
local function client(stream, keep)
  local reader
  local asker = async.create_task(function()
    local ok, e = async.pcall(function() stream:write(QUESTION):shutdown() end)
    if not ok then reader:cancel() end
    return not ok and e
  end)
  reader = async.create_task(answers, stream, keep)
  async.wait { reader }
  if not asker:done() then asker:cancel() end
  async.wait { asker }
  local failed = not asker:cancelled() and asker:result()
  if reader:cancelled() then error(failed, 0) end
  return async.await(reader)
end

local function server(stream, keep)
  for line in stream:lines("L") do
    local n = tonumber(keep(line):match("^GET (%d+)\n$"))
    if not n then return "cut" end
    stream:write("OK ", n, "\n", ("x"):rep(n))
  end
  return "done"
end

-- One exchange over such a pair: how the client and the server ended and what they got.
local function exchange(options)
  local a, b = memory.pair(options)
  local both = async.wait_for(function()
    return async.gather {
      function() return { side(a, client) } end,
      function() return { side(b, server) } end,
    }
  end, 5 * helper.slow)
  return both[1][1], both[1][2], both[2][1], both[2][2]
end

describe("every fault at every byte of an exchange", function()
  local kinds = {
    {}, { lockstep = true }, { max_read = 1, max_write = 1 }, { capacity = 2 },
    { lockstep = true, max_read = 1, max_write = 1 },
  }
  local function options_with(kind, who, name, fault)
    local options = { [who] = { [name] = fault } }
    for k, v in pairs(kind) do options[k] = v end
    return options
  end

  it("none: all of it", function()
    for _, kind in ipairs(kinds) do
      assert.same({ "done", ANSWERS, "done", QUESTION }, { exchange(kind) })
    end
  end)

  it("the client's reading fails", function()
    for _, kind in ipairs(kinds) do
      for n in lengths(#ANSWERS) do
        local how, got = exchange(options_with(kind, "a", "fail_read", { at = n, error = "ETIMEDOUT" }))
        assert.same({ "ETIMEDOUT", ANSWERS:sub(1, n) }, { how, got })
      end
    end
  end)

  it("the client reads an end that is none", function()
    local whole = { [0] = true, [9] = true, [14] = true, [#ANSWERS] = true }
    for _, kind in ipairs(kinds) do
      for n in lengths(#ANSWERS) do
        local how, got = exchange(options_with(kind, "a", "fail_read", { at = n, error = "EOF" }))
        assert.same({ whole[n] and "done" or "cut", ANSWERS:sub(1, n) }, { how, got })
      end
    end
  end)

  it("the server's reading fails", function()
    for _, kind in ipairs(kinds) do
      for n in lengths(#QUESTION) do
        local how, got, server_how, server_got = exchange(options_with(kind, "b", "fail_read", { at = n }))
        assert.same({ "ECONNRESET", QUESTION:sub(1, n) }, { server_how, server_got })
        assert.equal(ANSWERS:sub(1, #got), got)
        assert.is_true(how == "done" or how == "ECONNRESET" or how == "EPIPE", how)
      end
    end
  end)

  it("the client's writing fails", function()
    for _, kind in ipairs(kinds) do
      for n in lengths(#QUESTION - 1) do
        local how, got, server_how, server_got = exchange(options_with(kind, "a", "fail_write", { at = n }))
        assert.equal("ECONNRESET", how)
        assert.equal(QUESTION:sub(1, #server_got), server_got)
        assert.is_true(#server_got <= n)
        assert.equal(ANSWERS:sub(1, #got), got)
        assert.is_true(server_how == "ECONNRESET" or server_how == "EPIPE", server_how)
      end
    end
  end)

  it("the server's writing fails", function()
    for _, kind in ipairs(kinds) do
      for n in lengths(#ANSWERS - 1) do
        local how, got, server_how = exchange(options_with(kind, "b", "fail_write", { at = n, error = "EPIPE" }))
        assert.equal("EPIPE", server_how)
        assert.equal(ANSWERS:sub(1, #got), got)
        assert.is_true(#got <= n)
        assert.is_true(how == "ECONNRESET" or how == "EPIPE" or how == "ENOTCONN", how)
      end
    end
  end)
end)

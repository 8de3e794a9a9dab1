-- File: reading with Lua's formats, writing, the position, what is refused, what a cancel leaves.
local async = require "lunation"
local fs = require "lunation.fs"
local folder = require "spec.support.folder"
local helper = require "spec.helper"

local refuses, turns = helper.refuses, helper.turns
local at = folder.at

folder.each(before_each, after_each)

local function with(text)
  fs.write_file(at "f", text, { sync = false })
  return at "f"
end

describe("reading a file", function()
  -- What io gives, too, for the same calls.
  local function same_as_io(text, ...)
    local path = with(text)
    local theirs <close> = assert(io.open(path, "rb"))
    local ours <close> = fs.open(path, "rb")
    for _ = 1, 4 do
      assert.same(table.pack(theirs:read(...)), table.pack(ours:read(...)))
    end
  end

  it("gives what io gives", function()
    local texts = {
      "", "\n", "a", "a\n", "a\n\nb\n", "1 2 3", " 0x1p4 -7 x", "12\nrest of it\nand more\n", ("x"):rep(70000) .. "\ny",
      "nan", "1e", "0x", "--1", "a\0b\nc\0\n", ("1"):rep(300),
    }
    for _, text in ipairs(texts) do
      same_as_io(text)
      same_as_io(text, "l")
      same_as_io(text, "L")
      same_as_io(text, "a")
      same_as_io(text, "n")
      same_as_io(text, 0)
      same_as_io(text, 1)
      same_as_io(text, 3, "l", 0)
      same_as_io(text, "n", "n", "l")
      same_as_io(text, 65536, "L", "a")
    end
  end)

  it("lines, with formats", function()
    local file <close> = fs.open(with "1 a\n2 b\n3")
    local seen = {}
    for n, rest in file:lines("n", "l") do seen[#seen + 1] = n .. "|" .. tostring(rest) end
    assert.same({ "1| a", "2| b", "3|nil" }, seen)
    file:seek("set")
    local count = 0
    for _ in file:lines() do count = count + 1 end
    assert.equal(3, count)
    refuses("ValueError", "unknown format", file.lines, file, "x")
  end)

  it("lines of any length, or up to a limit", function()
    local long = ("x"):rep(3000000)
    local file <close> = fs.open(with(long .. "\nshort\n"))
    assert.equal(long, file:read("l"))
    local strict <close> = fs.open(at "f", "r", { limit = 1000 })
    local e = refuses("LimitOverrunError", { "read", "1000 bytes" }, strict.read, strict, "l")
    assert.is_true(e.consumed > 1000)
    assert.equal(0, strict:seek())
    assert.equal("xx", strict:read(2))
  end)

  it("pieces as they come", function()
    local file <close> = fs.open(with(("x"):rep(200000)))
    assert.equal(5, #file:read_some(5))
    local n = 5
    for piece in function() return file:read_some() end do
      assert.is_true(#piece > 0 and #piece <= 65536)
      n = n + #piece
    end
    assert.equal(200000, n)
    assert.is_nil(file:read_some())
  end)

  it("finds what has been appended behind the end", function()
    local file <close> = fs.open(with "one\ntw")
    assert.equal("one", file:read())
    assert.equal("tw", file:read())
    assert.is_nil(file:read())
    assert.equal("", file:read("a"))
    fs.write_file(at "f", "o\n", { append = true })
    assert.equal("o", file:read())
    assert.is_nil(file:read())
  end)

  it("of devices, pipes and /proc", function()
    local zero <close> = fs.open("/dev/zero")
    assert.equal(("\0"):rep(100000), zero:read(100000))
    local null <close> = fs.open("/dev/null", "r+")
    assert.is_nil(null:read(1))
    null:write("x")
    local status <close> = fs.open("/proc/self/status")
    assert.is_truthy(status:read("a"):find("\nPid:"))
    os.execute("mkfifo " .. at "pipe")
    local pipe <close> = fs.open(at "pipe", "r+")
    pipe:write("a line\n12 more")
    assert.equal("a line", pipe:read())
    assert.equal("12", pipe:read(2))
    pipe:write("!")
    assert.equal(" more!", pipe:read(6))
    assert.equal("ESPIPE", refuses("OSError", "seek", pipe.seek, pipe).code)
  end)

  it("of a folder fails, and nothing is lost", function()
    local file <close> = fs.open(at())
    assert.equal("EISDIR", refuses("OSError", { "read " .. at(), "EISDIR" }, file.read, file).code)
    assert.equal("directory", file:stat().type)
  end)

  it("bad formats are refused", function()
    local file <close> = fs.open(with "abc")
    refuses("ValueError", "'x'", file.read, file, "x")
    refuses("TypeError", "format or number of bytes", file.read, file, {})
    refuses("ValueError", "-1", file.read, file, -1)
    refuses("ValueError", "0 is less than 1", file.read_some, file, 0)
    refuses("TypeError", "File expected", file.read, {})
    assert.equal("abc", file:read("a"))
  end)
end)

describe("writing a file", function()
  it("strings and numbers, in order, at once", function()
    local file <close> = fs.open(at "f", "w")
    assert.equal(file, file:write("a", 1, "", 2.5, "\n"):write("b"):write())
    assert.equal("a12.5\nb", fs.read_file(at "f"))
    assert.equal(file, file:flush())
    assert.equal(file, file:sync())
    assert.equal(file, file:sync(true))
    refuses("TypeError", { "#2 to 'write'", "string or number" }, function() file:write("x", {}) end)
    assert.equal(7, file:seek())
  end)

  it("modes are those of io.open", function()
    with "12345"
    local function written(mode)
      with "12345"
      local file <close> = fs.open(at "f", mode)
      file:write("ab")
      return fs.read_file(at "f")
    end
    assert.equal("ab345", written "r+")
    assert.equal("ab", written "w")
    assert.equal("ab", written "w+b")
    assert.equal("12345ab", written "a")
    assert.equal("12345ab", written "ab+")
    assert.equal("EBADF", refuses("OSError", "write", written, "rb").code)
    local file <close> = fs.open(at "f", "w")
    assert.equal("EBADF", refuses("OSError", "read", file.read, file).code)
    for _, mode in ipairs { "x", "wx", "x+", "w+x", "wbx" } do
      assert.equal("EEXIST", refuses("OSError", "open", fs.open, at "f", mode).code)
      fs.open(at("new" .. mode), mode):close()
    end
    for _, mode in ipairs { "", "b", "rr", "r++", "rx", "ax", "+r", "xx", "wxx", "r " } do
      refuses("ValueError", "invalid mode", fs.open, at "f", mode)
    end
  end)

  it("each begins where io.open's does", function()
    for _, mode in ipairs { "r", "r+", "a", "a+", "w" } do
      local theirs <close> = io.open(with "12345", mode)
      local at_first = theirs:seek()
      local ours <close> = fs.open(with "12345", mode)
      assert.equal(at_first, ours:seek(), mode)
    end
  end)

  it("reading and writing in turn, at one position", function()
    local file <close> = fs.open(with "0123456789", "r+")
    assert.equal("012", file:read(3))
    file:write("ab")
    assert.equal("56", file:read(2))
    assert.equal(7, file:seek())
    file:write("c")
    assert.equal("012ab56c89", fs.read_file(at "f"))
    local add <close> = fs.open(at "f", "a+")
    assert.equal("012", add:read(3))
    add:write("END")
    assert.equal(13, add:seek())
    assert.equal("", add:read("a"))
    add:seek("set", 8)
    assert.equal("89END", add:read("a"))
  end)

  it("much at once", function()
    local text = ("0123456789abcdef"):rep(300000)
    local file <close> = fs.open(at "f", "w+")
    file:write("<", text, text, ">")
    assert.equal(2 * #text + 2, file:seek("end"))
    file:seek("set")
    assert.equal("<" .. text, file:read(#text + 1))
    assert.equal(text .. ">", file:read("a"))
  end)

  it("a full disk is an error of the write, after which the file can be used", function()
    local file <close> = fs.open("/dev/full", "r+")
    local e = refuses("OSError", "write /dev/full: ENOSPC", file.write, file, "x")
    assert.equal("ENOSPC", e.code)
    assert.equal("write", e.syscall)
    assert.equal("/dev/full", e.path)
    refuses("OSError", "ENOSPC", file.write, file, ("x"):rep(3000000))
    assert.equal("\0\0", file:read(2))
  end)

  it("a part that fits is written, and the position is behind it", function()
    local out = helper.command(([[
      local file <close> = async.fs.open(%q, "w")
      local ok, e = pcall(file.write, file, ("x"):rep(300000))
      print(e.code, file:seek(), file:seek("end"))
      file:seek("set")
      file:write("ab")
      print(async.fs.read_file(%q):sub(1, 3))
    ]]):format(at "f", at "f"), { prefix = { "sh", "-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh" } })
    local size = out:match("^EFBIG\t(%d+)\t(%d+)\nabx\n$")
    assert.is_truthy(size, out)
    assert.equal(0, size % 512)
    assert.is_true(math.tointeger(size) > 0)
  end)

  it("truncate", function()
    local file <close> = fs.open(with "0123456789", "r+")
    assert.equal("01", file:read(2))
    assert.equal(file, file:truncate())
    assert.equal("01", fs.read_file(at "f"))
    file:truncate(4)
    assert.equal("\0\0", file:read("a"))
    refuses("ValueError", "-1", file.truncate, file, -1)
  end)

  it("behind the end leaves a hole", function()
    local file <close> = fs.open(at "f", "w+")
    assert.equal(1 << 32, file:seek("set", 1 << 32))
    file:write("x")
    local st = file:stat()
    assert.equal((1 << 32) + 1, st.size)
    assert.is_true(st.blocks * 512 < 1 << 20)
    file:seek("set", (1 << 32) - 2)
    assert.equal("\0\0x", file:read("a"))
  end)
end)

describe("seek", function()
  it("moves as Lua's does", function()
    local file <close> = fs.open(with "0123456789")
    assert.equal(0, file:seek())
    assert.equal("0123", file:read(4))
    assert.equal(4, file:seek("cur"))
    assert.equal(2, file:seek("cur", -2))
    assert.equal("2", file:read(1))
    assert.equal(9, file:seek("end", -1))
    assert.equal("9", file:read(5))
    assert.equal(10, file:seek("end"))
    assert.equal(3, file:seek("set", 3))
    assert.equal("3456789", file:read("a"))
    assert.equal(100, file:seek("set", 100))
    assert.is_nil(file:read(1))
    refuses("OSError", { "seek", "EINVAL" }, file.seek, file, "set", -1)
    refuses("OSError", "EINVAL", file.seek, file, "cur", math.mininteger)
    refuses("OSError", "EINVAL", file.seek, file, "cur", math.maxinteger)
    assert.equal(100, file:seek())
    refuses("ValueError", "'up'", file.seek, file, "up")
    refuses("TypeError", { "#2 to 'seek'", "integer" }, function() file:seek("set", "x") end)
    refuses("TypeError", "1.5", file.seek, file, "set", 1.5)
  end)
end)

describe("closing a file", function()
  it("ends it for all calls", function()
    local file = fs.open(with "abc")
    assert.equal("<File open " .. at "f" .. ">", tostring(file))
    assert.equal("integer", math.type(file:fileno()))
    file:close()
    file:close()
    assert.equal("<File closed " .. at "f" .. ">", tostring(file))
    for _, call in ipairs { "read", "read_some", "write", "seek", "sync", "flush", "truncate", "stat", "fileno" } do
      local e = refuses("OSError", { call .. " " .. at "f", "the file is closed" }, file[call], file)
      assert.equal("EBADF", e.code)
      assert.equal(at "f", e.path)
    end
    refuses("OSError", "closed", file:lines())
    assert.is_true(file:close())
  end)

  it("at the end of a block", function()
    local kept
    do
      local file <close> = fs.open(with "abc")
      kept = file
    end
    assert.is_truthy(tostring(kept):find("closed"))
  end)

  it("while a task waits gives that ECANCELED", function()
    os.execute("mkfifo " .. at "pipe")
    local file = fs.open(at "pipe", "r+")
    local task = async.create_task(file.read, file, "l")
    turns()
    file:close()
    async.wait { task }
    assert.equal("ECANCELED", task:exception().code)
    -- The descriptor is closed when the pool is done with it; it reads from the pipe until then.
    local other <close> = fs.open(at "pipe", "r+")
    other:write("x\n")
  end)

  it("is done by the collector", function()
    local n = helper.scaled(10000, 1000)
    local path = with "abc"
    local before = #fs.scandir("/proc/self/fd")
    helper.without_sites(function()
      for i = 1, n do
        fs.open(path)
        if i % 500 == 0 then collectgarbage() end
      end
    end)
    collectgarbage()
    collectgarbage()
    assert.equal(before, #fs.scandir("/proc/self/fd"))
  end)

  it("was forgotten: that is told where things remember their making", function()
    local path = with "abc"
    local reports = helper.reports(function()
      async.get_running_loop():set_debug(true)
      local _ <close> = async.defer(function() async.get_running_loop():set_debug(false) end)
      fs.open(path)
      turns()
      collectgarbage()
      turns()
    end)
    assert.equal(1, #reports)
    assert.equal("Handle was never closed", reports[1].message)
    assert.is_truthy(tostring(reports[1].object):find("<File"))
  end)
end)

describe("one file", function()
  it("is for one task at a time", function()
    os.execute("mkfifo " .. at "pipe")
    local file <close> = fs.open(at "pipe", "r+")
    local reader = async.create_task(file.read, file, "l")
    turns()
    for _, call in ipairs { "read", "read_some", "write", "seek", "sync", "flush", "truncate", "stat" } do
      refuses("RuntimeError", { call, "another task is using this file" }, file[call], file)
    end
    local other <close> = fs.open(at "pipe", "w")
    other:write("hello\n")
    assert.equal("hello", async.await(reader))
    file:write("again\n")
    assert.equal("again", file:read())
  end)

  it("of another loop, or outside of a task, is refused", function()
    local out = helper.plain([[
      local fs = async.fs
      local file
      async.run(function()
        file = fs.open("/dev/null")
        local e
        async.get_running_loop():call_soon(function() e = thrown(file.read, file) end)
        turns()
        print(e.name)
      end)
      print(tostring(file))
      async.run(function() print(thrown(file.read, file)) end)
      file:close()
      print(thrown(fs.open, "/dev/null"))
    ]])
    assert.equal("RuntimeError\n<File closed /dev/null>\nOSError: read /dev/null: the file is closed\n" ..
      "RuntimeError: no running event loop\n", out)
  end)
end)

describe("a pipe with a name", function()
  it("keeps no thread of the pool while there is nothing to read", function()
    os.execute("mkfifo " .. at "pipe")
    local files, readers = {}, {}
    for i = 1, 100 do
      files[i] = fs.open(at "pipe", "r+")
      readers[i] = async.create_task(files[i].read, files[i], 1)
    end
    turns()
    assert.equal("fifo", fs.stat(at "pipe").type)
    files[101] = fs.open(at "pipe", "w")
    files[101]:write(("x"):rep(100))
    for _, task in ipairs(readers) do
      -- One look takes all that is there; the others wait on.
      if task:done() then assert.equal("x", task:result()) end
    end
    assert.is_true(helper.eventually(function()
      for _, task in ipairs(readers) do
        if task:done() then return true end
      end
    end))
    for _, file in ipairs(files) do file:close() end
    async.gather(readers, { return_exceptions = true })
  end)

  it("keeps no thread while there is no room", function()
    local files, writers = {}, {}
    for i = 1, 30 do
      os.execute("mkfifo " .. at("pipe" .. i))
      files[i] = fs.open(at("pipe" .. i), "r+")
      writers[i] = async.create_task(files[i].write, files[i], ("x"):rep(200000))
    end
    turns(20)
    assert.equal("fifo", fs.stat(at "pipe1").type)
    for i, file in ipairs(files) do
      assert.is_false(writers[i]:done())
      file:close()
    end
    async.gather(writers, { return_exceptions = true })
  end)

  it("takes more than it has room for as it is read", function()
    os.execute("mkfifo " .. at "pipe")
    local reader <close> = fs.open(at "pipe", "r+")
    local writer <close> = fs.open(at "pipe", "w")
    local data = ("0123456789"):rep(100000)
    local task = async.create_task(writer.write, writer, data)
    turns(20)
    assert.is_false(task:done())
    assert.equal(data, reader:read(#data))
    assert.equal(writer, async.await(task))
  end)

  it("whose reader has gone is EPIPE, under the stock interpreter, too", function()
    os.execute("mkfifo " .. at "pipe")
    local out = helper.plain(([[
      async.run(function()
        local path = %q
        local reader = async.fs.open(path, "r+")
        local writer = async.fs.open(path, "w")
        reader:close()
        print(thrown(writer.write, writer, "x").code)
      end)
    ]]):format(at "pipe"))
    assert.equal("EPIPE\n", out)
  end)

  it("whose writer has gone ends, after all that was written", function()
    os.execute("mkfifo " .. at "pipe")
    local both <close> = fs.open(at "pipe", "r+")
    local reader <close> = fs.open(at "pipe")
    both:write("last words")
    both:close()
    assert.equal("last words", reader:read("a"))
    assert.is_nil(reader:read(1))
  end)
end)

describe("a cancelled operation", function()
  it("reading a pipe loses no byte", function()
    os.execute("mkfifo " .. at "pipe")
    local file <close> = fs.open(at "pipe", "r+")
    local writer <close> = fs.open(at "pipe", "w")
    for i = 1, 60 do
      local before = i % 2 == 0 -- there is something to read already: the pool is at it when the cancel comes
      if before then writer:write(i, "\n") end
      local task = async.create_task(file.read, file, "l")
      turns(i % 4)
      task:cancel()
      async.wait { task }
      if i % 3 == 0 then async.sleep(0.001) end -- what the pool read comes while nobody waits
      if not before and task:cancelled() then writer:write(i, "\n") end
      assert.equal(tostring(i), task:cancelled() and file:read() or task:result())
    end
  end)

  it("reading a pipe that somebody else empties keeps no later call waiting", function()
    os.execute("mkfifo " .. at "pipe")
    for _ = 1, 20 do
      local a <close> = fs.open(at "pipe", "r+")
      local b <close> = fs.open(at "pipe", "r+")
      a:write("x") -- one byte for two
      local tasks = { async.create_task(a.read, a, 1), async.create_task(b.read, b, 1) }
      turns()
      for _, task in ipairs(tasks) do task:cancel() end
      async.wait(tasks)
      async.wait_for(function() return a:stat(), b:stat() end, 5 * helper.slow)
    end
  end)

  it("reading a file leaves the position where it was", function()
    local file <close> = fs.open(with(("0123456789"):rep(100000)))
    file:read(7)
    local cut = 0
    for i = 1, 100 do
      local task = async.create_task(file.read, file, 700000 + i)
      turns(i % 8)
      task:cancel()
      async.wait { task }
      if task:cancelled() then
        cut = cut + 1
        assert.equal(7, file:seek())
      else
        file:seek("set", 7)
      end
    end
    assert.is_true(cut > 10)
    assert.equal("789", file:read(3))
  end)

  it("writing stops, and the position says how far it came", function()
    local file <close> = fs.open(at "f", "w+")
    local data = ("x"):rep(20000000)
    local cut = 0
    for i = 1, 20 do
      file:seek("set")
      file:truncate(0)
      local task = async.create_task(file.write, file, data)
      turns(i % 5)
      task:cancel()
      async.wait { task }
      if task:cancelled() then
        cut = cut + 1
        local pos = file:seek()
        assert.equal(pos, file:stat().size)
        assert.is_true(pos < #data)
      end
    end
    assert.is_true(cut > 0)
  end)

  it("of any kind leaves the file fit for use", function()
    local file <close> = fs.open(with "0123456789", "r+")
    local calls = {
      function() file:read("a") end, function() file:write("0") end, function() file:seek("end") end,
      function() file:sync() end, function() file:stat() end, function() file:truncate(10) end,
    }
    for i = 1, 120 do
      local task = async.create_task(calls[i % #calls + 1])
      turns(i // #calls % 3)
      task:cancel()
      async.wait { task }
      file:seek("set")
      if i % 7 == 0 then assert.equal(10, #file:read("a")) end
      file:seek("set")
    end
  end)
end)

describe("a big file", function()
  it("is copied and read in bounded memory", function()
    local size = helper.scaled(50, 5) * 1000000
    local file <close> = fs.open(at "big", "w")
    local block = ("0123456789abcdef"):rep(1000000 // 16)
    for _ = 1, size // 1000000 do file:write(block) end
    local function resident()
      local status <close> = fs.open("/proc/self/statm")
      return select(2, status:read("n", "n")) * 4096
    end
    collectgarbage()
    local before, most, n = resident(), 0, 0
    fs.copy(at "big", at "copy")
    most = math.max(most, resident())
    local copy <close> = fs.open(at "copy")
    for piece in function() return copy:read_some() end do
      n = n + #piece
      if n % 1048576 < 65536 then most = math.max(most, resident()) end
    end
    assert.equal(size, n)
    if helper.slow == 1 then assert.is_true(most - before < 10000000, most - before) end
  end)
end)

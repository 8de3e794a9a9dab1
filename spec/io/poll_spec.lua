-- add_reader, add_writer: callbacks for descriptors that are not the runtime's own.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"

local refuses, turns = helper.refuses, helper.turns

local function loop() return async.get_running_loop() end

describe("add_reader", function()
  it("calls with its arguments for as long as there is something to read", function()
    local pipe <close> = sockets.fifo()
    local calls, done = {}, async.Event()
    loop():add_reader(pipe.fd, function(...)
      calls[#calls + 1] = { pipe.file:read(1), ... }
      if #calls == 3 then done:set() end
    end, "a", nil, "b")
    pipe.file:write("xyz")
    done:wait()
    assert.is_true(loop():remove_reader(pipe.fd))
    assert.same({ { "x", "a", nil, "b" }, { "y", "a", nil, "b" }, { "z", "a", nil, "b" } }, calls)
  end)

  it("is quiet while there is nothing, and after it was removed", function()
    local pipe <close> = sockets.fifo()
    local n = 0
    loop():add_reader(pipe.fd, function() n = n + 1 end)
    async.sleep(0.005)
    assert.equal(0, n)
    assert.is_true(loop():remove_reader(pipe.fd))
    pipe.file:write("x")
    async.sleep(0.005)
    assert.equal(0, n)
    assert.is_false(loop():remove_reader(pipe.fd))
  end)

  it("replaces the reader that was there, whose due calls are dropped", function()
    local pipe <close> = sockets.fifo()
    local log, done = {}, async.Event()
    pipe.file:write("x")
    loop():add_reader(pipe.fd, function() log[#log + 1] = "first" end)
    loop():add_reader(pipe.fd, function()
      log[#log + 1] = "second"
      loop():remove_reader(pipe.fd)
      done:set()
    end)
    done:wait()
    turns()
    assert.same({ "second" }, log)
  end)

  it("goes on after an error of the callback, which is reported", function()
    local pipe <close> = sockets.fifo()
    local n, done = 0, async.Event()
    local reports = helper.reports(function()
      loop():add_reader(pipe.fd, function()
        n = n + 1
        pipe.file:read(1)
        if n == 2 then
          loop():remove_reader(pipe.fd)
          done:set()
        end
        error(async.ValueError("bad reader " .. n))
      end)
      pipe.file:write("xy")
      done:wait()
    end)
    assert.equal(2, #reports)
    assert.is_truthy(reports[1].message:find("^Exception in callback <.*poll_spec"))
    assert.equal("callback", reports[1].kind)
    assert.equal("bad reader 1", reports[1].exception.message)
    assert.is_truthy(tostring(reports[1].handle):find("^<Handle"))
  end)

  it("does not await, and has no current task", function()
    local pipe <close> = sockets.fifo()
    local got = async.Future()
    loop():add_reader(pipe.fd, function()
      loop():remove_reader(pipe.fd)
      got:set_result(async.current_task(), select(2, pcall(async.sleep, 0)))
    end)
    pipe.file:write("x")
    local task, e = async.await(got)
    assert.is_nil(task)
    assert.equal("RuntimeError", e.name)
  end)

  it("takes a callable table, and many arguments", function()
    local pipe <close> = sockets.fifo()
    local got, list = async.Future(), {}
    for i = 1, 200 do list[i] = i end
    pipe.file:write("x")
    loop():add_reader(pipe.fd, setmetatable({}, {
      __call = function(_, ...)
        loop():remove_reader(pipe.fd)
        got:set_result(select("#", ...), (select(200, ...)))
      end,
    }), table.unpack(list))
    assert.same({ 200, 200 }, { async.await(got) })
  end)

  it("leaves the descriptor blocking if it was", function()
    local pipe <close> = sockets.fifo()
    local function flags()
      local info <close> = assert(io.open("/proc/self/fdinfo/" .. pipe.fd))
      return info:read("a"):match("flags:%s*(%d+)")
    end
    local before = flags()
    loop():add_reader(pipe.fd, print)
    assert.equal(before, flags())
    loop():remove_reader(pipe.fd)
  end)

  it("throws for what cannot be watched", function()
    local file <close> = sockets.regular_file()
    local e = refuses("OSError", { "add_reader " .. file.fd, "EPERM" }, loop().add_reader, loop(), file.fd, print)
    assert.equal("EPERM", e.code)
    refuses("OSError", { "add_reader 1000", "EBADF" }, loop().add_reader, loop(), 1000, print)
    refuses("OSError", { "add_reader 1073741824", "EBADF" }, loop().add_reader, loop(), 1 << 30, print)
    refuses("OSError", { "add_writer 1000", "EBADF" }, loop().add_writer, loop(), 1000, print)
  end)

  it("checks its arguments", function()
    refuses("TypeError", { "#1", "add_reader" }, function() loop():add_reader("0", print) end)
    refuses("ValueError", { "#1", "add_reader" }, function() loop():add_reader(-1, print) end)
    refuses("TypeError", { "#2", "add_reader", "function" }, function() loop():add_reader(0, nil) end)
    refuses("TypeError", { "#1", "add_writer" }, function() loop():add_writer(0.5, print) end)
    refuses("ValueError", { "#1", "add_writer" }, function() loop():add_writer(1 << 40, print) end)
    refuses("TypeError", { "#2", "add_writer", "function" }, function() loop():add_writer(0, {}) end)
    refuses("TypeError", { "#1", "remove_reader" }, function() loop():remove_reader() end)
    refuses("TypeError", { "#1", "remove_writer" }, function() loop():remove_writer("1") end)
    refuses("TypeError", { "Loop" }, loop().add_reader, 1, 0, print)
    assert.is_false(loop():remove_reader(0))
    assert.is_false(loop():remove_writer(1 << 30))
    local closed = async.new_event_loop()
    closed:close()
    refuses("RuntimeError", "closed", closed.add_reader, closed, 0, print)
    refuses("RuntimeError", "closed", closed.remove_writer, closed, 0)
  end)
end)

describe("add_writer", function()
  it("calls while there is room, beside a reader", function()
    local pipe <close> = sockets.fifo()
    local log, done = {}, async.Event()
    loop():add_reader(pipe.fd, function()
      log[#log + 1] = "read " .. pipe.file:read(1)
      assert(loop():remove_reader(pipe.fd))
      done:set()
    end)
    loop():add_writer(pipe.fd, function()
      log[#log + 1] = "write"
      pipe.file:write("x")
      assert(loop():remove_writer(pipe.fd))
    end)
    done:wait()
    assert.same({ "write", "read x" }, log)
    assert.is_false(loop():remove_writer(pipe.fd))
  end)

  it("removed by the other callback of the same turn, is not called", function()
    local pipe <close> = sockets.fifo()
    pipe.file:write("x")
    local log, done = {}, async.Event()
    loop():add_reader(pipe.fd, function()
      log[#log + 1] = "reader"
      loop():remove_reader(pipe.fd)
      loop():remove_writer(pipe.fd)
      done:set()
    end)
    loop():add_writer(pipe.fd, function() log[#log + 1] = "writer" end)
    done:wait()
    turns()
    assert.same({ "reader" }, log)
  end)
end)

describe("a descriptor that was closed under its watch", function()
  it("may come back as another file", function()
    local fd
    do
      local pipe <close> = sockets.fifo()
      fd = pipe.fd
      loop():add_reader(fd, function() error("a stale watch") end)
    end
    local done = async.Event()
    local again <close> = sockets.fifo()
    if again.fd == fd then
      loop():add_reader(fd, function()
        again.file:read(1)
        loop():remove_reader(fd)
        done:set()
      end)
      again.file:write("x")
      done:wait()
    else
      loop():remove_reader(fd)
    end
  end)

  it("may come back as a stream of ours, which works", function()
    local fds = {}
    for i = 1, 4 do
      local pipe <close> = sockets.fifo()
      fds[i] = pipe.fd
      loop():add_reader(pipe.fd, function() error("a stale watch") end)
    end
    sockets.with_pair(function(client, peer)
      client:write("ping\n")
      assert.equal("ping", peer:read("l"))
      peer:write("pong\n")
      assert.equal("pong", client:read("l"))
    end)
    for _, fd in ipairs(fds) do loop():remove_reader(fd) end
    async.sleep(0)
  end)
end)

-- libuv aborts the process over each of these; so each has one of its own.
describe("a descriptor that was closed before libuv has heard of its watch", function()
  local begin = [[
    local sockets = require "spec.support.sockets"
    local loop, calls = nil, 0
    local function count() calls = calls + 1 end
    local function closed_watch()
      local pipe <close> = sockets.fifo()
      loop:add_reader(pipe.fd, count)
      return pipe.fd
    end
    async.run(function()
      loop = async.get_running_loop()
  ]]

  it("calls back once, and costs nothing more", function()
    helper.plain(begin .. [[
      local fd = closed_watch()
      async.sleep(0.02)
      eq(1, calls)
      eq(true, loop:remove_reader(fd))
      eq(false, loop:remove_reader(fd))
    end)]])
  end)

  it("calls a reader and a writer, and forgets them at the end", function()
    helper.plain(begin .. [[
      do
        local pipe <close> = sockets.fifo()
        loop:add_reader(pipe.fd, count)
        loop:add_writer(pipe.fd, count)
      end
      async.sleep(0.02)
      eq(2, calls)
    end)]])
  end)

  it("may be a file by then, which cannot be watched", function()
    helper.plain(begin .. [[
      local fd = closed_watch()
      local file <close> = sockets.regular_file()
      eq(fd, file.fd)
      async.sleep(0.02)
      eq(1, calls)
      refuses("OSError", "EPERM", loop.add_reader, loop, fd, print)
      eq(false, loop:remove_reader(fd))
    end)]])
  end)

  it("is refused when it is added again, and taken when it is another one", function()
    helper.plain(begin .. [[
      local fd = closed_watch()
      async.sleep(0.02)
      refuses("OSError", "add_writer " .. fd .. ": EBADF", loop.add_writer, loop, fd, print)
      eq(false, loop:remove_reader(fd))
      closed_watch()
      local pipe <close> = sockets.fifo()
      eq(fd, pipe.fd)
      loop:add_writer(fd, function()
        count()
        loop:remove_writer(fd)
      end)
      async.sleep(0.02)
      eq(2, calls)
    end)]])
  end)

  it("may be changed from a reader to a writer in between", function()
    helper.plain(begin .. [[
      local fd
      do
        local pipe <close> = sockets.fifo()
        fd = pipe.fd
        loop:add_reader(fd, error)
        async.sleep(0.02)
        loop:add_writer(fd, count)
        loop:remove_reader(fd)
      end
      async.sleep(0.02)
      eq(1, calls)
      eq(true, loop:remove_writer(fd))
    end)]])
  end)

  it("may be gone when the loop closes before it polls", function()
    helper.plain(begin .. [[
      closed_watch()
    end)]])
  end)
end)

describe("a descriptor in trouble", function()
  it("calls, and goes on calling, so that the write meets the error", function()
    local out = helper.plain [[
      local command, sockets = require "spec.support.command", require "spec.support.sockets"
      async.run(function()
        local loop, dir = async.get_running_loop(), command.temp_dir()
        local path = dir .. "/pipe"
        os.execute("mkfifo " .. path)
        local reader = io.open(path, "r+")
        local writer = io.open(path, "w")
        writer:setvbuf("no")
        local fd, calls, done = sockets.descriptor(path), 0, async.Future()
        reader:close() -- the only reader: from now on the other end is in trouble
        fd = sockets.descriptor(path)
        loop:add_reader(fd, function()
          calls = calls + 1
          if calls == 3 then done:set_result(writer:write("x")) end
        end)
        local _, text, number = async.await(done)
        print(calls >= 3, text, number)
        loop:remove_reader(fd)
        command.remove_dir(dir)
      end)
    ]]
    assert.equal("true\tBroken pipe\t32\n", out)
  end)
end)

describe("a descriptor of a stream", function()
  it("is refused", function()
    sockets.with_pair(function(client, peer)
      local reader = async.create_task(client.read, client, "l")
      turns()
      local refused = 0
      for fd = 3, 40 do
        local ok, e = pcall(loop().add_reader, loop(), fd, print)
        if ok then loop():remove_reader(fd) end
        if not ok and e.name == "RuntimeError" then refused = refused + 1 end
      end
      assert.is_true(refused >= 1)
      peer:write("still works\n")
      assert.equal("still works", async.await(reader))
    end)
  end)
end)

describe("a loop that closes", function()
  it("closes the watches that are left", function()
    local out = helper.plain [[
      local path = os.tmpname()
      os.remove(path)
      os.execute("mkfifo " .. path)
      local file = io.open(path, "r+")
      file:setvbuf("no")
      local pipe = io.popen("for f in /proc/$PPID/fd/*; do echo $f $(readlink $f); done")
      local fd
      for line in pipe:lines() do
        if line:sub(-#path) == path then fd = tonumber(line:match("/fd/(%d+)")) end
      end
      pipe:close()
      os.remove(path)
      local loop = async.new_event_loop()
      loop:add_reader(fd, print)
      loop:add_writer(fd, print)
      loop:close()
      print("closed", loop:is_closed())
    ]]
    assert.equal("closed\ttrue\n", out)
  end)
end)

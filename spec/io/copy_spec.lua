-- copy_to: from a stream to another one, or to an object with a method write; what it leaves behind when it is cut off,
-- and how much it holds on to. And peek.
local async = require "lunation"
local memory = require "lunation.memory"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"

local refuses, turns = helper.refuses, helper.turns
local with_pair = sockets.with_pair

local function started(fn, ...)
  local task = async.create_task(fn, ...)
  turns()
  return task
end

-- Closes all of them at the end of a block.
local function all(...)
  local list = { ... }
  return async.defer(function()
    for _, stream in ipairs(list) do stream:close() end
  end)
end

-- fn(front, back, far, near): what is written to `front` is read from `back`, and what to `far` from `near`. Each kind
-- of stream once.
local function both(name, fn)
  it(name .. " (memory)", function()
    local front, back = memory.pair()
    local far, near = memory.pair()
    local _ <close> = all(front, back, far, near)
    fn(front, back, far, near)
  end)
  it(name .. " (sockets) #real", function()
    with_pair(function(front, back)
      with_pair(function(far, near) fn(front, back, far, near) end)
    end)
  end)
end

-- The text of `n` bytes of which no two blocks are alike.
local function text_of(n)
  local list = {}
  for i = 1, n // 8 + 1 do list[i] = ("%07d "):format(i) end
  return table.concat(list):sub(1, n)
end

describe("copy_to", function()
  both("passes all bytes on and says how many", function(front, back, far, near)
    local text = text_of(helper.scaled(1000000, 200000))
    local writer = async.create_task(function()
      front:write(text)
      front:shutdown()
    end)
    local reader = async.create_task(near.read, near, "a")
    assert.equal(#text, back:copy_to(far, { shutdown = true }))
    assert.is_true(text == async.await(reader))
    async.await(writer)
    refuses("RuntimeError", "shut down", far.write, far, "x")
  end)

  both("stops behind so many bytes", function(front, back, far, near)
    front:write("abcdefghij")
    assert.equal(0, back:copy_to(far, { max = 0 }))
    assert.equal(3, back:copy_to(far, { max = 3, shutdown = true }))
    assert.equal(1, back:copy_to(far, { max = 1 }))
    assert.equal("abcd", near:read(4))
    assert.equal("efghij", back:read(6))
    far:write("still open")
    assert.equal("still open", near:read(10))
  end)

  both("gives fewer when the stream ends, and none behind its end", function(front, back, far, near)
    front:write("abc")
    front:shutdown()
    assert.equal(3, back:copy_to(far, { max = 100 }))
    assert.equal(0, back:copy_to(far, { max = 100 }))
    assert.equal(0, back:copy_to(far, { shutdown = true }))
    assert.equal("abc", near:read("a"))
  end)

  it("copies a stream to itself", function()
    with_pair(function(client, peer)
      local echo = started(peer.copy_to, peer, peer, { shutdown = true })
      client:write("one\ntwo\n")
      assert.same({ "one", "two" }, { client:read("l", "l") })
      client:shutdown()
      assert.equal("", client:read("a"))
      assert.equal(8, async.await(echo))
    end)
  end)

  both("loses no byte when it is cancelled, wherever it is #nosweep", function(front, back, far, near)
    local text = text_of(helper.scaled(1000000, 200000))
    local writer = async.create_task(function()
      front:write(text)
      front:shutdown()
    end)
    local got = {}
    local reader = async.create_task(function()
      for i = 1, 1000000 do
        local piece = near:read_some(10007)
        if not piece then return end
        got[#got + 1] = piece
        if i % 8 == 0 then async.sleep(0) end
      end
    end)
    local cancelled = 0
    while true do
      local copy = async.create_task(back.copy_to, back, far, { shutdown = true })
      turns(1 + cancelled % 5)
      if not copy:cancel("enough") then break end
      async.wait { copy }
      if not copy:cancelled() then break end
      cancelled = cancelled + 1
    end
    async.gather { writer, reader }
    assert.is_true(cancelled > 0)
    assert.is_true(text == table.concat(got))
  end)

  it("tells whose error it was, and leaves what was not accepted", function()
    for _, code in ipairs { "ECONNRESET", "EPIPE" } do
      local front, back = memory.pair { b = { fail_read = { at = 4, error = code } } }
      local far, near = memory.pair()
      local _ <close> = all(front, back, far, near)
      front:write("abcdefgh")
      local e = refuses("OSError", { "read memory", code }, back.copy_to, back, far)
      assert.equal(code, e.code)
      assert.equal("read", e.syscall)
      assert.equal("abcd", near:read(4))
    end
    local front, back = memory.pair()
    local far, near = memory.pair { a = { fail_write = { at = 3, error = "EPIPE" } } }
    local _ <close> = all(front, back, far, near)
    front:write("abc")
    assert.equal(3, back:copy_to(far, { max = 3 }))
    front:write("defgh")
    local e = refuses("OSError", { "write memory", "EPIPE" }, back.copy_to, back, far)
    assert.equal("write", e.syscall)
    assert.equal("defgh", back:read(5))
    assert.equal("abc", near:read(3))
  end)

  it("names the addresses of sockets", function()
    with_pair(function(_, back)
      with_pair(function(far)
        local copy = started(back.copy_to, back, far)
        back:close()
        refuses("OSError", { "read 127.0.0.1:", "ECANCELED" }, async.await, copy)
        refuses("OSError", { "copy_to 127.0.0.1:", "closed" }, back.copy_to, back, far)
      end)
    end)
    with_pair(function(front, back)
      with_pair(function(far)
        local copy = started(back.copy_to, back, far)
        far:close()
        front:write("x") -- noticed with the next bytes
        refuses("OSError", { "write 127.0.0.1:", "ECANCELED" }, async.await, copy)
        assert.equal("x", back:read(1))
        refuses("OSError", { "copy_to 127.0.0.1:", "closed" }, back.copy_to, back, far)
      end)
    end)
  end)

  both("keeps others from reading and writing there", function(front, back, far, near)
    local copy = started(back.copy_to, back, far)
    refuses("RuntimeError", "another task is reading", back.read, back)
    refuses("RuntimeError", "another task is reading", back.copy_to, back, front)
    refuses("RuntimeError", "another task is writing", far.write, far, "x")
    refuses("RuntimeError", "another task is writing", near.copy_to, near, far)
    copy:cancel()
    async.wait { copy }
    far:write("free")
    front:write("again")
    assert.equal("free", near:read(4))
    assert.equal("again", back:read(5))
  end)

  it("lets others run while there is always something to copy", function()
    local front, back = memory.pair { capacity = 1000000 }
    local far, near = memory.pair { capacity = 1000000 }
    local _ <close> = all(front, back, far, near)
    local moving = true
    local tasks = {
      async.create_task(function() while moving do front:write(("x"):rep(5000)) end end),
      async.create_task(function() while near:read_some() do end end),
      async.create_task(function() back:copy_to(far, { shutdown = true }) end),
    }
    turns(50)
    moving = false
    async.await(tasks[1])
    front:shutdown()
    async.gather(tasks)
  end)

  it("checks its arguments", function()
    with_pair(function(_, back)
      for _, bad in ipairs { 1, "x", true, {}, { write = 1 } } do
        refuses("TypeError", { "#1", "copy_to", "method write" }, function() back:copy_to(bad) end)
      end
      refuses("TypeError", { "#1", "copy_to" }, function() back:copy_to() end)
      refuses("TypeError", { "#2", "max" }, function() back:copy_to(back, { max = "x" }) end)
      refuses("TypeError", { "#2", "max" }, function() back:copy_to(back, { max = -1 }) end)
      refuses("TypeError", { "#2", "shutdown" }, function() back:copy_to(back, { shutdown = 1 }) end)
      refuses("ValueError", { "#2", "shutdown" },
        function() back:copy_to({ write = print }, { shutdown = true }) end)
    end)
  end)
end)

describe("copy_to an object", function()
  -- Collects what is written; `each` is called before a piece is taken.
  local function sink(each)
    local s = { pieces = {} }
    function s:write(piece)
      if each then each(#self.pieces + 1) end
      self.pieces[#self.pieces + 1] = piece
    end

    function s:text() return table.concat(self.pieces) end

    return s
  end

  it("calls its write, which may wait", function()
    with_pair(function(client, peer)
      local text = text_of(300000)
      local writer = async.create_task(function()
        client:write(text)
        client:shutdown()
      end)
      local got = sink(function() async.sleep(0) end)
      assert.equal(#text, peer:copy_to(got))
      assert.is_true(text == got:text())
      async.await(writer)
    end)
  end)

  it("leaves the string whose write has thrown, or was cancelled", function()
    local front, back = memory.pair()
    local _ <close> = all(front, back)
    front:write("abc")
    local got = sink(function() error(async.ValueError("no room")) end)
    refuses("ValueError", "no room", back.copy_to, back, got)
    assert.equal("", got:text())
    local slow = sink(function() async.sleep(10) end)
    local copy = started(back.copy_to, back, slow)
    refuses("RuntimeError", "another task is reading", back.read, back)
    copy:cancel()
    async.wait { copy }
    assert.is_true(copy:cancelled())
    assert.equal("", slow:text())
    assert.equal("abc", back:read(3))
  end)

  it("hears of a stream that its write has closed", function()
    local front, back = memory.pair()
    local _ <close> = all(front, back)
    front:write("abc")
    local got = sink(function() back:close() end)
    refuses("OSError", { "read memory", "ECANCELED" }, back.copy_to, back, got)
  end)
end)

describe("peek", function()
  both("gives what is there and leaves it", function(front, back)
    front:write("abc")
    assert.equal("a", back:peek(1))
    assert.equal("abc", back:peek())
    assert.equal("abc", back:peek(100))
    assert.equal("abc", back:read_some())
    local task = started(back.peek, back)
    assert.is_false(task:done())
    front:write("d")
    assert.equal("d", async.await(task))
    front:shutdown()
    assert.equal("d", back:read("a"))
    assert.is_nil(back:peek())
  end)

  it("throws as read_some does", function()
    with_pair(function(_, s)
      refuses("ValueError", { "#1", "peek" }, function() s:peek(0) end)
      refuses("TypeError", { "#1", "peek" }, function() s:peek("1") end)
      s:close()
      refuses("OSError", { "peek 127.0.0.1:", "closed" }, s.peek, s)
    end)
  end)
end)

-- Streams: writing to a peer that is quick, slow or gone, and the half close.
local async = require "lunation"
local helper = require "spec.helper"
local sockets = require "spec.support.sockets"

local refuses = helper.refuses
local with_pair = sockets.with_pair

-- A task that has run until it waits.
local function started(fn, ...)
  local task = async.create_task(fn, ...)
  helper.turns()
  return task
end

-- #real: while bytes are on their way to a peer that does not read, a virtual clock stands still.

describe("write", function()
  it("sends strings and numbers in order and returns the stream", function()
    with_pair(function(client, peer)
      assert.equal(client, client:write("a", 1, "", 2.5):write("b"):write())
      client:shutdown()
      assert.equal("a12.5b", peer:read("a"))
    end)
  end)

  it("sends many pieces at once", function()
    with_pair(function(client, peer)
      local pieces = {}
      for i = 1, 200 do pieces[i] = i .. "," end
      client:write(table.unpack(pieces)):shutdown()
      assert.equal(table.concat(pieces), peer:read("a"))
    end)
  end)

  it("waits while the peer is slow and goes on when it reads #real", function()
    with_pair(function(client, peer)
      local written = 0
      local chunk = ("x"):rep(65536)
      local writer = started(function()
        for _ = 1, 400 do
          client:write(chunk)
          written = written + 1
        end
        client:shutdown()
      end)
      local before
      repeat
        before = written
        async.sleep(0.02)
      until written == before
      assert.is_true(before > 0 and before < 400, before)
      assert.equal(400 * 65536, #peer:read("a"))
      async.await(writer)
    end)
  end)

  it("still sends what a cancelled write has accepted", function()
    with_pair(function(client, peer)
      local text = ("0123456789"):rep(helper.scaled(2000000, 1000000))
      local writer = started(client.write, client, text)
      assert.is_false(writer:done())
      writer:cancel()
      refuses("CancelledError", {}, async.await, writer)
      client:close()
      assert.is_true(peer:read("a") == text)
    end)
  end)

  it("does not take more while the queue is full #real", function()
    with_pair(function(client, peer)
      local text = ("x"):rep(10000000)
      for _ = 1, 3 do
        refuses("TimeoutError", {}, async.wait_for, function() client:write(text) end, 0.005)
      end
      client:close()
      assert.equal(#text, #peer:read("a"))
    end)
  end)

  it("throws an OSError when the peer is gone, and no signal ends the process", function()
    with_pair(function(client, peer)
      client:write("unread")
      async.sleep(0.005)
      peer:close() -- with unread bytes: a reset
      local e = refuses("OSError", { "write 127.0.0.1:", ": E" }, function()
        for _ = 1, 1000 do
          client:write("x")
          async.sleep(0.001)
        end
      end)
      assert.is_true(e.code == "EPIPE" or e.code == "ECONNRESET")
      assert.equal("write", e.syscall)
      assert.is_number(e.errno)
      assert.is_truthy(e.address:find("^127%.0%.0%.1:%d+$"))
    end)
  end)

  it("checks its arguments before it sends any", function()
    with_pair(function(client, peer)
      refuses("TypeError", { "#2", "write", "string" }, function() client:write("a", nil) end)
      refuses("TypeError", { "#1", "write" }, function() client:write({}) end)
      refuses("TypeError", "write", client.write, "x")
      client:shutdown()
      assert.equal("", peer:read("a"))
    end)
  end)
end)

describe("half close", function()
  it("ends reading at the other end, and nothing else", function()
    with_pair(function(client, peer)
      client:write("question"):shutdown()
      client:shutdown()
      assert.equal("question", peer:read("a"))
      peer:write("answer"):close()
      assert.equal("answer", client:read("a"))
      refuses("RuntimeError", { "write", "shut down" }, client.write, client, "more")
    end)
  end)

  it("comes after everything that was written, also if the caller is cancelled", function()
    with_pair(function(client, peer)
      local text = ("x"):rep(10000000)
      local task = started(client.write, client, text)
      task:cancel()
      async.wait { task }
      task = started(client.shutdown, client)
      assert.is_false(task:done())
      task:cancel()
      refuses("CancelledError", {}, async.await, task)
      assert.equal(#text, #peer:read("a"))
    end)
  end)
end)

-- Sockets that bring and take a few bytes at a time: the specs of streams once more, with reads and writes of one byte,
-- or of a few where they move much.
local async = require "lunation"
local probe = require "lunation.probe"
local sockets = require "spec.support.sockets"

-- Tests that move megabytes, or many strings that are sent at once: in larger pieces.
local much = {
  ["passes megabytes unchanged"] = true,
  ["may not both write"] = true,
  ["is an OSError for whoever waits when it is closed here"] = true,
  ["still sends what was written"] = true,
}
-- Tests that ask for what comes in one go; that look how far a writer gets in some time; or that fill the system's queue
-- of new connections: it answers with a cookie then, and takes the first segment that it sees for the first one.
local whole = {
  ["gives what is there, at most so much, and nil at the end"] = true,
  ["waits while the peer is slow and goes on when it reads #real"] = true,
  ["takes many connections that come at once"] = true,
}

-- The tests of a spec, with short I/O.
local function once_more(file, most)
  local function test(name, fn)
    if whole[name] then return end
    it(name, function()
      probe.short_io(much[name] and 5000 or most)
      fn()
    end)
  end
  describe(("in pieces of %d bytes:"):format(most), function()
    after_each(function() probe.short_io() end)
    assert(loadfile(file, "t", setmetatable({ it = test }, { __index = _ENV })))()
  end)
end

describe("short I/O", function()
  after_each(function() probe.short_io() end)

  it("reads and writes so many bytes in one go", function()
    sockets.with_pair(function(client, peer)
      probe.short_io(3)
      client:write("abc", "defg")
      assert.equal("abc", peer:read_some())
      assert.equal("d", peer:read(1))
      assert.equal("efg", peer:read(3))
      probe.short_io(nil, 2)
      client:write("abcdef")
      assert.equal("abcdef", peer:read(6))
      probe.short_io(1)
      client:write("ab")
      assert.equal("a", peer:read_some())
      probe.short_io()
      assert.equal("b", peer:read_some())
    end)
  end)

  it("keeps the order of many short pieces", function()
    sockets.with_pair(function(client, peer)
      probe.short_io(1)
      local text = ("0123456789"):rep(1000)
      local writer = async.create_task(function()
        for i = 1, #text, 7 do client:write(text:sub(i, i + 6)) end
        client:shutdown()
      end)
      assert.equal(text, peer:read("a"))
      async.await(writer)
    end)
  end)

  it("checks its arguments", function()
    for _, bad in ipairs { 0, -1, 1.5, "x", true } do
      assert.is_false(pcall(probe.short_io, bad))
      assert.is_false(pcall(probe.short_io, 1, bad))
    end
  end)
end)

once_more("spec/io/stream_spec.lua", 1)
once_more("spec/io/net_spec.lua", 1)
once_more("spec/io/write_spec.lua", 1000)

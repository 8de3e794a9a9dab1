-- Streams over descriptors: socket pairs, which do what every stream does, and pipes, which go one way.
local async = require "lunation"
local process = require "lunation.process"
local core = require "lunation.process.core"
local children = require "spec.support.children"
local conformance = require "spec.support.stream_conformance"
local helper = require "spec.helper"
local tasks = require "spec.support.tasks"

local refuses, started = helper.refuses, tasks.started

describe("a socket pair", function()
  for _, case in ipairs(conformance) do
    it(case.name, function() case.run(function(options) return core.socketpair(options and options.limit) end) end)
  end
end)

-- Two pipes as one stream that goes both ways.
local Both = {}
Both.__index = Both
for _, name in ipairs { "read", "read_some", "read_until", "lines" } do
  Both[name] = function(self, ...) return self.reader[name](self.reader, ...) end
end
function Both:write(...)
  self.writer:write(...)
  return self
end
function Both:shutdown() self.writer:shutdown() end
function Both:close()
  self.reader:close()
  self.writer:close()
end
function Both:peer() return self.writer:peer() end
function Both:sock() return self.reader:sock() end
function Both:__tostring() return tostring(self.reader) end
Both.__close = Both.close

local function two_pipes(options)
  local limit = options and options.limit
  local ra, wb = core.pipe("rw", limit)
  local rb, wa = core.pipe("rw", limit)
  return setmetatable({ reader = ra, writer = wa }, Both), setmetatable({ reader = rb, writer = wb }, Both)
end

-- A pipe is not reset and takes nothing from its reader; what is two streams wakes who waits on each, and has other
-- argument numbers.
local NOT = { "reset", "a closed end with output left", "close wakes who waits", "arguments are checked" }
local function applies(name)
  for _, part in ipairs(NOT) do
    if name:find(part, 1, true) then return false end
  end
  return true
end

describe("a pair of pipes", function()
  for _, case in ipairs(conformance) do
    if applies(case.name) then
      it(case.name, function() case.run(two_pipes) end)
    end
  end
end)

describe("a pipe", function()
  local reader, writer
  before_each(function() reader, writer = process.pipe() end)
  after_each(function()
    reader:close()
    writer:close()
  end)

  it("says what it is", function()
    assert.equal("<Stream open pipe>", tostring(reader))
    assert.same({ family = "pipe" }, reader:peer())
    assert.same({ family = "pipe" }, writer:sock())
    writer:close()
    assert.equal("<Stream closed pipe>", tostring(writer))
  end)

  it("refuses to go the other way, and goes on", function()
    for _, name in ipairs { "read", "read_some" } do
      assert.equal("EBADF", refuses("OSError", name .. " pipe: the stream is write-only", writer[name], writer).code)
    end
    assert.equal("EBADF", refuses("OSError", "write pipe: the stream is read-only", reader.write, reader, "x").code)
    writer:write("on\n")
    assert.equal("on", reader:read("l"))
    assert.equal("EBADF", refuses("OSError", "write pipe: the stream is read-only", reader.write, reader, "x").code)
  end)

  it("refuses the half close of what only reads", function()
    assert.equal("EBADF", refuses("OSError", "shutdown pipe: the stream is read-only", reader.shutdown, reader).code)
  end)

  it("ends for its reader with shutdown, also behind a queue", function()
    local writing = started(function()
      writer:write(("x"):rep(200000))
      writer:shutdown()
    end)
    assert.is_false(writing:done())
    assert.equal(200000, #reader:read("a"))
    async.await(writing)
    writer:shutdown()
    refuses("RuntimeError", "shut down", writer.write, writer, "more")
    assert.equal("<Stream open pipe>", tostring(writer))
  end)

  it("tells a writer whose reader has gone, waiting or not", function()
    local writing = started(writer.write, writer, ("x"):rep(500000))
    assert.is_false(writing:done())
    reader:close()
    assert.equal("EPIPE", refuses("OSError", "write pipe", async.await, writing).code)
    assert.equal("EPIPE", refuses("OSError", "write pipe", writer.write, writer, "x").code)
  end)

  it("holds back a writer whose reader sleeps", function()
    local written = 0
    local writing = started(function()
      for _ = 1, 1000 do
        writer:write(("x"):rep(10000))
        written = written + 10000
      end
    end)
    helper.turns(50)
    assert.is_true(written <= 65536 + 65536 + 10000, "written: " .. written)
    writing:cancel()
    async.wait { writing }
  end)

  it("can be opened and ended often without a descriptor left", function()
    local before = children.descriptors()
    for _ = 1, helper.scaled(500, 20) do
      local r, w = process.pipe()
      local _ <close> = r
      local _ <close> = w
      w:write("x")
      w:shutdown()
      assert.equal("x", r:read("a"))
    end
    assert.equal(before, children.descriptors())
  end)

  it("is refused outside of a loop and with bad arguments", function()
    local stdout, stderr = helper.plain [[
      local core = require "lunation.process.core"
      for _, f in ipairs { core.pipe, core.socketpair, core.spawn } do refuses("RuntimeError", "no running event loop", f, "") end
      print "ok"
    ]]
    assert.equal("ok\n", stdout, stderr)
    refuses("TypeError", "#1", core.pipe, 1)
    refuses("ValueError", "#2", core.pipe, "r", 0)
    refuses("ValueError", "#1", core.socketpair, 0)
  end)
end)

-- The library of the plain suite used by programs that wait: what it calls back may await, as may its iterators.
local async = require "lunation"
local Emitter = require "words.emitter"
local Lru = require "words.lru"
local ini = require "words.ini"
local tokenizer = require "words.tokenizer"

describe("tokenizer", function()
  it("hands out tokens to tasks in turn", function()
    local words = {}
    local function reader(name, text)
      return function()
        for token in tokenizer.each(text) do
          words[#words + 1] = name .. token.value
          async.sleep(0)
        end
      end
    end
    async.gather { reader("a", "x y z"), reader("b", "1 2 3") }
    table.sort(words)
    assert.same({ "a" .. "x", "a" .. "y", "a" .. "z", "b1", "b2", "b3" }, words)
  end)

  it("throws where it is awaited", function()
    local task = async.create_task(tokenizer.list, "a ?")
    assert.error_matches(function() async.await(task) end, "unexpected character")
  end)
end)

describe("lru", function()
  local cache, load, loads

  before_each(function()
    async.sleep(0.0005)
    loads = 0
    cache = Lru.new(2, function() async.sleep(0.0002) end)
    load = function(key)
      local value = cache:get(key)
      if value then return value end
      loads = loads + 1
      async.sleep(0.001)
      cache:set(key, key:upper())
      return key:upper()
    end
  end)

  after_each(function()
    async.sleep(0)
    cache = nil
  end)

  it("is filled by tasks", function()
    local got = async.map({ "a", "b", "c" }, load)
    assert.same({ "A", "B", "C", n = 3 }, got)
    assert.equal(3, loads)
    assert.equal(2, #cache:keys())
  end)

  it("is hit afterwards", function()
    load "a"
    assert.equal("A", async.await(async.create_task(load, "a")))
    assert.equal(1, loads)
  end)
end)

describe("emitter", function()
  it("waits for its listeners", function()
    local emitter, seen = Emitter.new(), {}
    for i = 1, 3 do
      emitter:on("x", function()
        async.sleep(0.0005 * i)
        seen[i] = true
      end)
    end
    assert.equal(3, emitter:emit "x")
    assert.same({ true, true, true }, seen)
  end)

  it("goes on when one fails", function()
    local emitter = Emitter.new()
    local last = spy.new(function() async.sleep(0) end)
    emitter:on("x", function()
      async.sleep(0)
      error(async.ValueError "bad")
    end)
    emitter:on("x", function() last() end)
    local ok, e = pcall(emitter.emit, emitter, "x")
    assert.is_false(ok)
    assert.is_true(async.isinstance(e, async.ValueError))
    assert.spy(last).was.called(1)
  end)
end)

describe("ini", function()
  local text

  setup(function() text = async.sleep(0.0005, "[a]\nx = 1\n") end)
  teardown(function() async.sleep(0) end)

  it("is read from a file that is slow", function()
    local function open()
      return { read = function() return async.sleep(0.0005, text) end, close = function() async.sleep(0) end }
    end
    assert.same({ [""] = {}, a = { x = 1 } }, ini.load("p", open))
  end)
end)

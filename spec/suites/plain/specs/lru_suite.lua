-- The cache: state made in before_each, nested hooks, spies as callbacks, a randomized block, finally.
local Lru = require "words.lru"

describe("lru", function()
  local cache, evicted

  before_each(function()
    evicted = spy.new(function() end)
    cache = Lru.new(3, evicted)
    for i, key in ipairs { "a", "b", "c" } do cache:set(key, i) end
  end)

  after_each(function()
    assert.is_true(cache.size <= cache.capacity)
    cache, evicted = nil, nil
  end)

  it("refuses a bad capacity", function()
    for _, bad in ipairs { 0, -1, 1.5, "3" } do
      assert.has_error(function() Lru.new(bad) end, "capacity: a positive integer expected, got " .. tostring(bad))
    end
  end)

  it("gives what was set", function()
    assert.are.equal(1, cache:get "a")
    assert.is_nil(cache:get "z")
  end)

  it("orders by use #fast", function()
    cache:get "a"
    assert.are.same({ "a", "c", "b" }, cache:keys())
    assert.are_not.same({ "c", "b", "a" }, cache:keys())
  end)

  describe("when full", function()
    before_each(function() cache:set("d", 4) end)
    after_each(function() cache:delete "d" end)

    it("drops the oldest", function()
      assert.is_nil(cache:get "a")
      assert.spy(evicted).was_called(1)
      assert.spy(evicted).was.called_with("a", 1)
    end)

    describe("and again", function()
      before_each(function() cache:set("e", 5) end)

      it("drops the next", function()
        assert.spy(evicted).was.called(2)
        assert.spy(evicted).was_called_with("b", match.is_number())
        assert.same({ "e", "d", "c" }, cache:keys())
      end)
    end)
  end)

  describe("in any order", function()
    randomize(4711)
    local order = {}

    for i = 1, 6 do
      it("test " .. i, function() order[#order + 1] = i end)
    end

    lazy_teardown(function() print("# order " .. table.concat(order, " ")) end)
  end)

  it("finishes #slow", function()
    local list = {}
    finally(function() assert.equal(1000, #list) end)
    for i = 1, 1000 do
      cache:set(i, i)
      list[i] = cache:get(i)
    end
    assert.equal(3, cache.size)
  end)
end)

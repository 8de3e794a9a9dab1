-- Errors and failures in hooks: each kind in a describe of its own, with tests that run or do not because of it.
local kinds = {
  "setup", "teardown", "strict_setup", "strict_teardown", "lazy_setup", "lazy_teardown", "before_each", "after_each",
}

for _, kind in ipairs(kinds) do
  describe(kind, function()
    describe("throws", function()
      _ENV[kind](function() error(kind .. " thrown") end)
      it("has a test", function() print("# in the test of " .. kind) end)
      it("has another", function() assert.is_true(false) end)
    end)

    describe("fails", function()
      _ENV[kind](function() assert.equal(kind, "fails") end)
      it("has a test", function() print("# in the test of " .. kind) end)
    end)

    describe("throws a table, the second of two", function()
      _ENV[kind](function() print("# first " .. kind) end)
      _ENV[kind](function() error { kind = kind } end)
      it("has a test", function() print("# in the test of " .. kind) end)
      describe("and nested", function()
        it("has a nested test", function() print("# in the nested test of " .. kind) end)
      end)
    end)

    describe("is pending", function()
      _ENV[kind](function() pending("not in " .. kind) end)
      it("has a test", function() print("# in the test of " .. kind) end)
    end)
  end)
end

describe("after all that", function()
  it("passes", function() assert.is_true(true) end)
end)

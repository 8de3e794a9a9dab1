-- A suite that runs itself: `lua alone.lua [busted's arguments]`.
require "busted.runner"()

describe("alone", function()
  local made
  before_each(function() made = { 1 } end)

  it("passes", function() assert.same({ 1 }, made) end)
  it("fails #failing", function() assert.equal(2, made[1]) end)
  it("throws #failing", function() error "thrown alone" end)
  pending("waits")
  it("says what it is called with", function() print("# arguments " .. table.concat(arg, " ")) end)
end)

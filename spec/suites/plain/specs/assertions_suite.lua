-- Assertions, custom ones too, their modifiers, formatters and messages; busted's API for tests.
local busted = require "busted"

describe("assertions", function()
  it("of truth and types", function()
    assert.is_true(true)
    assert.is.False(false)
    assert.truthy(0)
    assert.falsy(nil)
    assert.is_not_nil(1)
    assert.is_nil(nil)
    assert.is_boolean(false)
    assert.is_number(1)
    assert.is_string ""
    assert.is_table {}
    assert.is_function(print)
    assert.is_userdata(io.stdout)
    assert.is_thread(coroutine.create(print))
    assert.is_not.number "1"
    assert(1 == 1, "works as the plain one")
  end)

  it("of equality", function()
    local t = {}
    assert.are.equal(t, t)
    assert.are_not.equal(t, {})
    assert.same({ 1, { 2, x = { 3 } } }, { 1, { 2, x = { 3 } } })
    assert.is_not.same({ 1 }, { 1, 2 })
    assert.unique { 1, 2, { 3 }, { 4 } }
    assert.is_not.unique({ 1, { 2 }, { 2 } }, true)
    assert.near(1, 1.04, 0.05)
    assert.is_not.near(1, 1.06, 0.05)
  end)

  it("of text and arguments", function()
    assert.matches("w(or)ld", "hello world")
    assert.has_no.match("^w", "hello world")
    assert.returned_arguments(2, (function() return 1, 2 end)())
    assert.array { 1, 2, 3 }.has.no.holes()
    assert.array { 1, nil, 3 }.has.holes(3)
  end)

  it("of errors", function()
    local object = { code = 1 }
    assert.has_error(function() error("text", 0) end, "text")
    assert.has_error(function() error { code = 1 } end, { code = 1 })
    assert.has_error(function() error(object) end, object)
    assert.has_no.errors(function() end)
    assert.matches_error(function() error "with a place" end, "^with a place$")
    assert.error_matches(function() error "x.y" end, "x.y", 1, true)
    assert.has_no_error(function() return "error" end)
  end)

  it("can be added", function()
    local say = require "say"
    say:set("assertion.between.positive", "Expected %s to be between the others")
    assert:register("assertion", "between", function(_, a) return a[1] <= a[2] and a[2] <= a[3] end,
      "assertion.between.positive", "assertion.between.negative")
    assert.is_between(1, 2, 3)
    assert.is_not.between(1, 4, 3)
    local ok, e = pcall(assert.is_between, 1, 4, 3)
    assert.is_false(ok)
    assert.matches("Expected .* to be between the others", tostring(e))
    assert:unregister("assertion", "between")
    assert.has_error(function() return assert.is_between(1, 2, 3) end)
  end)

  it("of the helper, if there is one", function()
    if HELPED then
      assert.is_even(2)
      assert.is_not_even(3)
      print("# helped: " .. HELPED)
    else
      print "# without a helper"
    end
  end)

  it("format values", function()
    local function formatter(value)
      if type(value) == "table" and value.point then return "<point>" end
    end
    assert:add_formatter(formatter)
    local ok, e = pcall(assert.equal, { point = 1 }, "no point")
    assert:remove_formatter(formatter)
    assert.is_false(ok)
    assert.matches("<point>", tostring(e))
  end)
end)

describe("busted's API", function()
  local suites

  it("knows where it is", function()
    assert.is_string(busted.version)
    assert.is_number(busted.gettime())
    assert.is_number(busted.monotime())
    busted.sleep(0.001)
  end)

  it("publishes and subscribes", function()
    local got = {}
    local one = busted.subscribe({ "mine", "said" }, function(...) got[#got + 1] = table.concat({ ... }, ",") end)
    busted.publish({ "mine", "said" }, "a", "b")
    busted.unsubscribe(one.id, { "mine", "said" })
    busted.publish({ "mine", "said" }, "c")
    assert.same({ "a,b" }, got)
  end)

  it("fails on demand", function()
    local ok, e = pcall(busted.fail, "on demand")
    assert.is_false(ok)
    assert.matches("on demand$", tostring(e))
  end)

  it("has the old done object", function()
    local ended = spy.new(function() end)
    local done = require "busted.done".new(function() ended() end)
    done:wait("a", "b")
    done "a"
    assert.has_error(function() done "c" end)
    assert.spy(ended).was_not_called()
    done "b"
    assert.spy(ended).was_called(1)
  end)

  it("sees -e and the loaders", function()
    suites = rawget(_G, "FROM_COMMAND_LINE")
    print("# -e: " .. tostring(suites))
  end)
end)

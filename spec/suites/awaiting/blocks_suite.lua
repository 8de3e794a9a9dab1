-- Every kind of block awaits, and the order of all blocks is the one that it is without.
local async = require "lunation"

local log = {}

local function note(text)
  return function()
    async.sleep(0.0005)
    log[#log + 1] = async.await(async.create_task(function()
      async.sleep(0)
      return text
    end))
  end
end

note "file body"()
before_each(note "file before_each")
after_each(note "file after_each")
lazy_setup(note "file lazy_setup")
strict_setup(note "file strict_setup")

it("a test of the file", note "test 1")

describe("outer", function()
  note "outer body"()
  setup(note "outer setup")
  lazy_setup(note "outer lazy_setup")
  teardown(note "outer teardown")
  lazy_teardown(note "outer lazy_teardown")
  before_each(note "outer before_each")
  after_each(note "outer after_each")

  it("runs", note "test 2")

  context("inner", function()
    note "inner body"()
    setup(note "inner setup")
    before_each(note "inner before_each")
    after_each(note "inner after_each")
    teardown(note "inner teardown")
    spec("finishes", function()
      finally(note "finally")
      note "test 3"()
    end)
    test("is pending half way", function()
      note "test 4"()
      pending "later"
    end)
  end)
end)

insulate("insulated", function()
  async.sleep(0)
  _G.INSULATED = async.await(function()
    async.sleep(0.0005)
    return "inside"
  end)

  it("keeps its globals over awaits", function()
    async.sleep(0.0005)
    assert.equal("inside", INSULATED)
    LOCAL = "of the test"
    async.sleep(0)
    assert.equal("of the test", LOCAL)
    assert.is_nil(rawget(_G, "LOCAL"))
  end)
end)

expose("exposed", function()
  EXPOSED = async.await(async.create_task(function() return "value" end))
  it("sees it", function() assert.equal("value", EXPOSED) end)
end)

describe("randomized", function()
  randomize(7)
  async.sleep(0)
  local order = {}
  for i = 1, 5 do
    it("test " .. i, function()
      async.sleep(0.0001 * i)
      order[#order + 1] = i
    end)
  end
  teardown(function()
    async.sleep(0)
    assert.equal(5, #order)
  end)
end)

describe("afterwards", function()
  it("the names of before are there and gone", function()
    async.sleep(0)
    assert.is_nil(rawget(_G, "INSULATED"))
    assert.equal("value", EXPOSED)
  end)

  it("every block has run, in order", function()
    local all = table.concat(log, "\n")
    assert.equal([[
file body
file strict_setup
file lazy_setup
file before_each
test 1
file after_each
outer body
outer setup
outer lazy_setup
file before_each
outer before_each
test 2
outer after_each
file after_each
inner body
inner setup
file before_each
outer before_each
inner before_each
test 3
finally
inner after_each
outer after_each
file after_each
file before_each
outer before_each
inner before_each
test 4
inner after_each
outer after_each
file after_each
inner teardown
outer lazy_teardown
outer teardown]], (all:match "^(.-outer teardown)"))
  end)
end)

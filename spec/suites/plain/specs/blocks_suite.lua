-- The order of all kinds of blocks, in one log that a test compares; tests outside of a describe; all forms of pending.
local log = {}
local function note(text) return function() log[#log + 1] = text end end

before_each(note "file before_each")
after_each(note "file after_each")
lazy_setup(note "file lazy_setup")
strict_setup(note "file strict_setup")

it("a test of the file", note "test 1")

describe("outer", function()
  note "outer body"()
  setup(note "outer setup")
  strict_setup(note "outer strict_setup")
  lazy_setup(note "outer lazy_setup")
  teardown(note "outer teardown")
  strict_teardown(note "outer strict_teardown")
  lazy_teardown(note "outer lazy_teardown")
  before_each(note "outer before_each 1")
  before_each(note "outer before_each 2")
  after_each(note "outer after_each 1")
  after_each(note "outer after_each 2")

  it("runs", note "test 2")
  spec("speaks", note "test 3")

  describe("inner", function()
    note "inner body"()
    lazy_setup(note "inner lazy_setup")
    setup(note "inner setup")
    before_each(note "inner before_each")
    after_each(note "inner after_each")
    teardown(note "inner teardown")
    test("tests", note "test 4")
    it "curries" (note "test 5")
    it("finishes", function()
      finally(note "finally")
      note "test 6"()
    end)
  end)

  describe("without tests", function()
    setup(note "empty setup")
    lazy_setup(note "NEVER: lazy_setup")
    lazy_teardown(note "NEVER: lazy_teardown")
    teardown(note "empty teardown")
  end)
end)

describe("the log", function()
  setup(function()
    print("# blocks")
    for _, line in ipairs(log) do print("#   " .. line) end
  end)

  it("has every block #more", function() assert.is_true(#log > 40) end)
end)

describe("pending", function()
  pending("as a block")
  pending("as a block with a body", function() error "never called" end)
  it("inside", function() pending "not yet" end)
  it("after some work", function()
    assert.is_true(true)
    pending("half way")
    error "never reached"
  end)
  describe("tagged #skipme", function() pending("too") end)
end)

describe("what may not stand in a test", function()
  for _, name in ipairs { "describe", "it", "before_each", "setup", "insulate", "randomize" } do
    it(name, function()
      assert.error_matches(function() _ENV[name]("x", function() end) end,
        "'" .. name .. "' not supported inside current context block")
    end)
  end
end)

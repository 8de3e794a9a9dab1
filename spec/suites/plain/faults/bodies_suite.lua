-- Errors in the bodies of describe and of the file itself; what stands before them is registered and never run.
describe("a body that throws", function()
  it("is not run", function() print "# NEVER" end)
  describe("a nested one", function() error "in the nested body" end)
  error "in the body"
end)

describe("a body that fails", function() assert.is_true(false, "in a body") end)
describe("a body that throws nil", function() error() end)
describe("a body that throws a table", function() error { in_a = "body" } end)
describe("a body that is pending", function() pending "not yet" end)

describe("a nested body that throws", function()
  describe("here", function()
    local t
    return t.x
  end)
  it("does not keep this from running", function() assert.is_true(true) end)
end)

describe("no function", "text")

describe("never reached", function()
  it("is not run", function() print "# NEVER" end)
end)

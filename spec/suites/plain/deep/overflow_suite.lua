-- Stacks that overflow, which costs too much time to be done in every run.
describe("a stack", function()
  local function forever() return 1 + forever() end

  it("overflows", function()
    local ok, e = pcall(forever)
    assert.is_false(ok)
    assert.matches("stack overflow", e)
  end)

  it("overflows in a coroutine", function()
    local ok, e = coroutine.resume(coroutine.create(forever))
    assert.is_false(ok)
    assert.matches("stack overflow", e)
  end)

  it("is there again afterwards", function()
    local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
    assert.equal(10000, deep(10000))
  end)

  it("overflows out of the test", function()
    local ok, e = pcall(forever)
    error(ok or tostring(e):match "stack overflow", 0)
  end)
end)

-- The file after the others' faults, which none of them may touch.
describe("the last file", function()
  it("passes", function() assert.is_true(true) end)
  it("fails", function() assert.is_true(false) end)
end)

-- A file that does not compile.
describe("never", function()
  it("runs", function() x x end)
end)

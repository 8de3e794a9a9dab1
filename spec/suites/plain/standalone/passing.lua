-- A suite that runs itself and passes, with code behind it that must run, too.
require "busted.runner" { output = "TAP" }

describe("passing", function()
  it("passes", function() assert.is_true(true) end)
end)

print "# the end of the file"

-- A file whose own code throws, after a test was registered.
it("is not run", function() print "# NEVER" end)
require "words.tokenizer".list "what ?"

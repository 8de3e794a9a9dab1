-- A busted helper as projects have it: reads its -Xhelper options, adds an assertion and a global, listens to events.
local say = require "say"
local luassert = require "luassert"
local busted = require "busted"

local options = table.concat(arg or {}, "|")
_G.HELPED = options ~= "" and options or "no options"

local function is_even(_, arguments)
  return math.type(arguments[1]) == "integer" and arguments[1] % 2 == 0
end

say:set("assertion.even.positive", "Expected %s to be even")
say:set("assertion.even.negative", "Expected %s to be odd")
luassert:register("assertion", "even", is_even, "assertion.even.positive", "assertion.even.negative")

local count = 0
busted.subscribe({ "test", "start" }, function()
  count = count + 1
  return nil, true
end)
busted.subscribe({ "suite", "end" }, function()
  io.write(("# helper: %d tests, options %s\n"):format(count, options))
  return nil, true
end)

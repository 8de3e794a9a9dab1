-- The module and its probe, as tables of our own: a test may stub any function of the real ones, and what runs it goes
-- on working.
local function copy(from)
  local to = {}
  for name, value in pairs(from) do to[name] = value end
  return to
end

return { async = copy(require "lunation"), probe = copy(require "lunation.probe") }

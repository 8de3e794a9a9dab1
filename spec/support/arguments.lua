-- The arguments of a proof: --NAME for a flag, --NAME N for an integer, --NAME TEXT for a text.
--
-- kinds: name -> "flag", "integer" or "text"; options: what holds without arguments. Reads `arg` into `options` and
-- returns it; anything else is an error that says where the manual is.
return function(kinds, options)
  local i = 1
  while arg[i] do
    local name = arg[i]:match("^%-%-(%l+)$")
    local kind = kinds[name]
    if not kind then error("unknown argument " .. arg[i] .. " (see the head of " .. arg[0] .. ")", 0) end
    local value = true
    if kind ~= "flag" then
      i = i + 1
      value = arg[i]
      if kind == "integer" then value = math.tointeger(tonumber(value)) end
      if value == nil then
        error(("--%s: %s expected, got %s"):format(name, kind == "text" and "name" or kind, arg[i] or "nothing"), 0)
      end
    end
    options[name] = value
    i = i + 1
  end
  return options
end

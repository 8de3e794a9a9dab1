-- What library functions written in Lua demand of their arguments; the words are those of the C side (check.c).
local async = require "lunation"

local check = {}

-- Throws an error of that class about an argument of the function `name`.
function check.bad(class, arg, name, text, ...)
  error(class(("bad argument #%d to '%s' (%s)"):format(arg, name, text:format(...))), 0)
end
local bad = check.bad

local function kind_of(value)
  local meta = getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  return type(name) == "string" and name or type(value)
end

-- A function or something with __call.
function check.callable(value, arg, name)
  local meta = debug.getmetatable(value)
  if type(value) == "function" or (meta and meta.__call) then return end
  bad(async.TypeError, arg, name, "function expected, got %s", kind_of(value))
end

-- Seconds that can be waited for: finite, 0 or more.
function check.seconds(value, arg, name)
  if type(value) ~= "number" then bad(async.TypeError, arg, name, "number expected, got %s", kind_of(value)) end
  if value ~= value then bad(async.TypeError, arg, name, "number expected, got NaN") end
  if value < 0 or value == math.huge then
    bad(async.ValueError, arg, name, "a finite number of 0 or more expected, got %g", value)
  end
end

function check.boolean(value, arg, name)
  if type(value) ~= "boolean" then bad(async.TypeError, arg, name, "boolean expected, got %s", kind_of(value)) end
end

-- A table of options or nil; a table.
function check.options(value, arg, name)
  if value == nil then return {} end
  if type(value) ~= "table" then bad(async.TypeError, arg, name, "table expected, got %s", kind_of(value)) end
  return value
end

-- opts[field], which is nil or of Lua type `expected`.
function check.option(opts, field, expected, arg, name)
  local value = opts[field]
  if value == nil or type(value) == expected then return value end
  bad(async.TypeError, arg, name, "%s: %s expected, got %s", field, expected, kind_of(value))
end

-- opts[field], which is nil or an integer from `least` to `most` (nil: any).
function check.integer_option(opts, field, least, arg, name, most)
  local value = check.option(opts, field, "number", arg, name)
  if value == nil then return nil end
  local n = math.tointeger(value)
  if not n then bad(async.TypeError, arg, name, "%s: integer expected, got %g", field, value) end
  if n < least then bad(async.ValueError, arg, name, "%s: %d is less than %d", field, n, least) end
  if most and n > most then bad(async.ValueError, arg, name, "%s: %d is more than %d", field, n, most) end
  return n
end

-- opts[field], which is nil or one of two words.
function check.word_option(opts, field, one, other, arg, name)
  local value = check.option(opts, field, "string", arg, name)
  if value == nil or value == one or value == other then return value end
  bad(async.ValueError, arg, name, '%s: "%s" or "%s" expected, got "%s"', field, one, other, value)
end

-- What a path stands for whose metatable has __fspath, a function of it; any other value as it is.
function check.fspath(value)
  local meta = type(value) == "table" and getmetatable(value)
  if type(meta) == "table" and meta.__fspath then return meta.__fspath(value) end
  return value
end

-- A value whose metatable is `class`, as argument, and as the self of a method.
function check.is(value, class, arg, name)
  if getmetatable(value) == class then return end
  bad(async.TypeError, arg, name, "%s expected, got %s", class.__name, kind_of(value))
end

function check.self(value, class, name)
  if getmetatable(value) == class then return end
  error(async.TypeError(("calling '%s' on bad self (%s expected, got %s)"):format(name, class.__name, kind_of(value))), 0)
end

return check

-- What the functions of lunation.fs that are written in Lua demand of their arguments, in the words of those in C.
local async = require "lunation"

local check = {}

local shared = require "lunation.check"
local bad = shared.bad

-- A path: a string without NUL, or a value whose metatable has __fspath, a function of it that gives one. The string.
function check.path(fn, arg, value)
  value = shared.fspath(value)
  if type(value) ~= "string" then
    bad(async.TypeError, arg, fn, "string expected, got %s", value == nil and "nil" or type(value))
  end
  if value:find("\0", 1, true) then bad(async.ValueError, arg, fn, "path contains a NUL byte") end
  return value
end

-- The options: a table or nil, of these fields and types; a copy of them. "permissions": an integer of their bits.
function check.options(fn, arg, opts, types)
  local copy = {}
  if opts == nil then return copy end
  if type(opts) ~= "table" then bad(async.TypeError, arg, fn, "table expected, got %s", type(opts)) end
  for name, expected in pairs(types) do
    local value = opts[name]
    local got, wanted = math.type(value) == "integer" and "integer" or type(value), expected
    if expected == "permissions" then wanted = "integer" end
    if value ~= nil and got ~= wanted then
      bad(async.TypeError, arg, fn, "%s: %s expected, got %s", name, wanted, got)
    end
    if value and expected == "permissions" and (value < 0 or value > 0xfff) then
      bad(async.ValueError, arg, fn, "%s: permissions of 0 to 4095 expected, got %d", name, value)
    end
    copy[name] = value
  end
  return copy
end

-- The parts of a path: the folder that it is in, and its last name.
function check.split(path)
  local trimmed = path:match("^(.-)/+$") or path
  if trimmed == "" and path ~= "" then return "/", "" end
  local folder, name = trimmed:match("^(.*)/([^/]*)$")
  if not folder then return ".", trimmed end
  return folder == "" and "/" or folder, name
end

-- A name in a folder.
function check.join(folder, name)
  return folder:sub(-1) == "/" and folder .. name or folder .. "/" .. name
end

-- Throws the OSError that the system would: "call path: CODE".
function check.fail(call, path, code, errno)
  local fields = { code = code, errno = errno, syscall = call, path = path }
  error(async.OSError(("%s %s: %s"):format(call, path, code), fields), 0)
end

-- The error `e`; an OSError as one of this call (nil: of the one that it is of), about this path.
function check.about(call, path, e)
  if async.isinstance(e, async.OSError) then
    call = call or e.syscall
    e.syscall, e.path, e.dest, e.message = call, path, nil, ("%s %s: %s"):format(call, path, e.code)
  end
  return e
end

-- fn(...), but an OSError of one of these codes is no error: true and the results, or false and the code.
function check.unless(codes, fn, ...)
  local results = table.pack(pcall(fn, ...))
  if results[1] then return table.unpack(results, 1, results.n) end
  local e = results[2]
  if async.isinstance(e, async.OSError) and codes[e.code] then return false, e.code end
  error(e, 0)
end

return check

-- What a child is started with: the arguments of spawn and run as lunation.process.core wants them.
--
-- Law: everything is checked here, before anything is opened, and errors name argument and field.
local async = require "lunation"
local check = require "lunation.check"
local core = require "lunation.process.core"

local options = {}

local bad = check.bad
local MOST = 0x7fffffff -- of numbers that C has to hold

-- A string for the system, also of a path; `what` is how errors call it, nil for the argument itself.
local function text(value, arg, name, what)
  local prefix = what and what .. ": " or ""
  value = check.fspath(value)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then bad(async.TypeError, arg, name, "%sstring expected, got %s", prefix, type(value)) end
  if value:find("\0", 1, true) then bad(async.ValueError, arg, name, "%sthe string contains a NUL byte", prefix) end
  return value
end

-- The program's name: a string that is not empty.
function options.file(value, arg, name)
  if type(value) ~= "string" then bad(async.TypeError, arg, name, "string expected, got %s", type(value)) end
  if value == "" then bad(async.ValueError, arg, name, "the name of a program expected, got an empty string") end
  return text(value, arg, name)
end

-- The strings `first` and args[from], args[from + 1], ... each ended by a NUL. A field (table.pack's n aside) is an
-- option that is in the wrong place.
function options.argv(first, args, from, arg, name)
  if args ~= nil and type(args) ~= "table" then
    bad(async.TypeError, arg, name, "list of strings expected, got %s", type(args))
  end
  for key in pairs(args or {}) do
    if math.type(key) ~= "integer" and key ~= "n" then
      bad(async.TypeError, arg, name, "list of strings expected, got a field '%s'", tostring(key))
    end
  end
  local list = { first }
  for i = from, args and #args or 0 do list[#list + 1] = text(args[i], arg, name, "element " .. i) end
  list[#list + 1] = ""
  return table.concat(list, "\0")
end

-- opts.env, which replaces our environment, and opts.extend_env, which changes it; nil: as ours.
local function environment(opts, arg, name)
  local env, more = check.option(opts, "env", "table", arg, name), check.option(opts, "extend_env", "table", arg, name)
  if not env and not more then return nil end
  local all = {}
  for key, value in pairs(env or core.environ()) do all[key] = value end
  for key, value in pairs(more or {}) do all[key] = value end
  local list = {}
  for key, value in pairs(all) do
    local field = (more and more[key] ~= nil and "extend_env." or "env.") .. tostring(key)
    if type(key) ~= "string" or key == "" or key:find("[=%z]") then
      bad(async.ValueError, arg, name, "%s: not the name of a variable", field)
    end
    if value ~= false then list[#list + 1] = key .. "=" .. text(value, arg, name, field) end
  end
  table.sort(list)
  list[#list + 1] = ""
  return table.concat(list, "\0")
end

local NUMBER = { stdin = 0, stdout = 1, stderr = 2 }

-- opts[field], a word, a descriptor's number, a stream or a file: what it is to be.
local function stdio(opts, field, none, arg, name)
  local value = opts[field]
  if value == nil then value = none end
  if value == "inherit" then return NUMBER[field] end
  if value == "pipe" or value == "null" or (value == "stdout" and field == "stderr") then return value end
  local kind = math.type(value) or type(value)
  if kind == "integer" then return value end
  if kind == "userdata" then
    local ok, fileno = pcall(function() return value.fileno end)
    return ok and fileno and fileno(value) or value
  end
  local also = field == "stderr" and ', "stdout"' or ""
  bad(type(value) == "string" and async.ValueError or async.TypeError, arg, name,
    '%s: "pipe", "inherit", "null"%s, a stream, a file or a descriptor expected, got %s', field, also,
    type(value) == "string" and '"' .. value .. '"' or kind)
end

--- options.common(opts, arg, name, defaults) -> what to start a child with, but for its program and arguments
-- `defaults`: what stdin, stdout and stderr are without an option.
function options.common(opts, arg, name, defaults)
  local o = {
    cwd = check.option({ cwd = check.fspath(opts.cwd) }, "cwd", "string", arg, name),
    env = environment(opts, arg, name),
    detached = check.option(opts, "detached", "boolean", arg, name),
    group = check.option(opts, "group", "boolean", arg, name),
    uid = check.integer_option(opts, "uid", 0, arg, name, MOST),
    gid = check.integer_option(opts, "gid", 0, arg, name, MOST),
    limit = check.integer_option(opts, "limit", 1, arg, name, MOST),
  }
  if o.cwd then text(o.cwd, arg, name, "cwd") end
  for field, none in pairs(defaults) do o[field] = stdio(opts, field, none, arg, name) end
  return o
end

-- opts[field] in seconds, finite and not negative.
function options.seconds(opts, field, arg, name)
  local value = check.option(opts, field, "number", arg, name)
  if value and not (value >= 0 and value < math.huge) then
    bad(async.ValueError, arg, name, "%s: a finite number of 0 or more expected, got %g", field, value)
  end
  return value
end

return options

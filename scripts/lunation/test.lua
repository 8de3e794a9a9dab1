-- `lunation test`: busted, run inside Lunation.
--
-- The module is a function, which the command calls in its main task with what its own options said. Our options are
-- taken out of `arg`; with the rest busted's runner starts as it does in busted's own script, from a chunk of that
-- name, so that messages, exit status and the name of the program are busted's.
local options = require "lunation.busted.options"

local function fail(text)
  io.stderr:write("lunation: ", text, "\n")
  os.exit(1)
end

-- Where busted's script is, for the places that messages name.
local function script()
  for dir in (os.getenv("PATH") or ""):gmatch("[^:]+") do
    local path = dir .. "/busted"
    local file = io.open(path)
    if file then
      file:close()
      return path
    end
  end
  return "busted"
end

-- A `lua = ...` in .busted has been followed already: it must not start another process. Said behind the back of `arg`,
-- which is for the specs to see.
local function ignore_lua()
  local make = require "busted.modules.cli"
  package.loaded["busted.modules.cli"] = function(...)
    local cli = make(...)
    local parse = cli.parse
    cli.parse = function(self, list) return parse(self, { "--ignore-lua", table.unpack(list) }) end
    return cli
  end
end

local function show_help()
  local _, text = require "busted.modules.cli" { standalone = false, output = "plainTerminal" }:parse { "--help" }
  text = tostring(text):gsub("^.-Usage: ", "Usage: "):gsub("; re%-run with %-%-help for usage%.$", "")
  io.write(options.help, "\n", text, "\n")
end

local function wants_help(list)
  for _, word in ipairs(list) do
    if word == "--help" or word == "-h" then return true end
  end
  return false
end

-- test(given): given.virtual_time and given.seed are the command's. Ends as busted's script does: returns if all is
-- well, else calls os.exit.
return function(given)
  local own = options.new()
  own.virtual_time = given.virtual_time
  own.seed = given.seed
  local taken, rest = options.take(own, arg)
  if not taken then return fail(rest .. " (see lunation test --help)") end
  if not package.searchpath("busted.runner", package.path) then
    return fail("busted is not installed: package lua-busted, or luarocks install busted")
  end
  if wants_help(rest) then return show_help() end
  if given.seed then table.insert(rest, 1, "--seed=" .. own.seed) end
  own.replayed = options.kept(rest)
  local path = script()
  local at = -1
  while arg[at] do
    rest[at] = arg[at]
    at = at - 1
  end
  rest[0] = path
  arg = rest
  ignore_lua()
  local session = require "lunation.busted.session"
  session.before_runner(own, path)
  assert(load("\n\nrequire 'busted.runner'({ standalone = false })\n", "@" .. path))()
  session.finish()
end

-- The specs' helper, in two parts.
--
-- As busted's --helper it puts `lunation.busted` under the specs, with a time limit for them, so that plain `busted` and
-- `lunation test` do the same.
--
-- As a module (require "spec.helper") it has what many specs need: `thrown`, `refuses`, `reports`, and `plain`, which
-- runs a program under the stock interpreter, where loops of its own, a virtual clock and an order without a seed are
-- to be had.
local async = require "lunation"

local helper = {}

-- How many times slower than the release build this one is expected to be.
helper.slow = math.tointeger(tonumber(os.getenv("LUNATION_SLOW"))) or 1

-- A number that shrinks with a slow build, but not below `least`.
function helper.scaled(n, least) return math.max(least or 1, math.tointeger(n // helper.slow) or 1) end

-- Gives every ready task `n` turns.
function helper.turns(n)
  for _ = 1, n or 4 do async.sleep(0) end
end

-- The error that fn(...) throws; it must throw one.
function helper.thrown(fn, ...)
  local ok, e = pcall(fn, ...)
  if ok then error("no error was thrown", 2) end
  return e
end

-- fn(...) must throw an error object of the class named `class` whose message contains each of `parts`. The error.
function helper.refuses(class, parts, fn, ...)
  local ok, e = pcall(fn, ...)
  if ok then error("no error was thrown, expected " .. class, 2) end
  if type(e) ~= "table" or e.name ~= class then error("expected " .. class .. ", got " .. tostring(e), 2) end
  for _, part in ipairs(type(parts) == "table" and parts or { parts }) do
    if not tostring(e.message):find(part, 1, true) then
      error(("the message lacks %q: %s"):format(part, tostring(e.message)), 2)
    end
  end
  return e
end

-- Runs fn(...), collects what it dropped, and gives the list of contexts that were reported meanwhile, then its
-- results.
function helper.reports(fn, ...)
  local loop, list = async.get_running_loop(), {}
  local before = loop:get_exception_handler()
  loop:set_exception_handler(function(_, context) list[#list + 1] = context end)
  local _ <close> = async.defer(function() loop:set_exception_handler(before) end)
  local results = table.pack(pcall(fn, ...))
  for _ = 1, 2 do
    helper.turns(2)
    collectgarbage()
    async.sleep(0.001)
  end
  if not results[1] then error(results[2], 0) end
  return list, table.unpack(results, 2, results.n)
end

-- Waits until condition() holds, for at most `seconds`; whether it came true.
function helper.eventually(condition, seconds)
  local loop = async.get_running_loop()
  local deadline = loop:time() + (seconds or 5) * helper.slow
  while not condition() do
    if loop:time() > deadline then return false end
    async.sleep(0.001)
  end
  return true
end

-- Calls fn() while things do not remember where they were made, as outside of `lunation test`, where nobody hears of a
-- stream or server that is dropped unclosed.
function helper.without_sites(fn)
  local probe = require "lunation.probe"
  local before = probe.sites(false)
  local _ <close> = async.defer(function() probe.sites(before) end)
  return fn()
end

-- ---- programs in a process of their own ----

local prelude = [[
local async, h = require "lunation", require "spec.helper"
local eq, thrown, refuses, turns = h.eq, h.thrown, h.refuses, h.turns
]]

-- For programs, which have no luassert: equal, or an error.
function helper.eq(expected, got, what)
  if not rawequal(expected, got) and expected ~= got then
    error(("%sexpected %s, got %s"):format(what and what .. ": " or "", tostring(expected), tostring(got)), 2)
  end
end

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

local function execute(program, text, options)
  local command = require "spec.support.command"
  local path = os.tmpname()
  command.write_file(path, prelude:gsub("\n", " ") .. text)
  for _, word in ipairs(options or {}) do program[#program + 1] = word end
  program[#program + 1] = path
  program.env = {
    LUA_CPATH = (os.getenv("LUNATION_MODULE") or command.libdir .. "/lua") .. "/?.so;;",
    LUA_PATH = "./?.lua;;",
  }
  for name, value in pairs(options and options.env or {}) do program.env[name] = value end
  program.limit = options and options.limit or 20 * math.max(1, helper.slow // 2)
  local stdout, stderr, code = command.run(program)
  os.remove(path)
  return stdout, stderr, code
end

-- Runs the text of a program under the stock interpreter -> stdout, stderr, exit code. `async`, and `h`, this module,
-- are locals of it; its line numbers are off by none. options: env, limit, prefix (words before the interpreter).
function helper.execute(text, options)
  local program = {}
  for _, word in ipairs(options and options.prefix or {}) do program[#program + 1] = word end
  for _, word in ipairs(words(os.getenv("LUNATION_LUA") or "lua5.4")) do program[#program + 1] = word end
  return execute(program, text, options)
end

-- The same as a script of the command.
function helper.command(text, options)
  local program = {}
  for _, word in ipairs(options and options.prefix or {}) do program[#program + 1] = word end
  program[#program + 1] = require("spec.support.command").lunation
  return execute(program, text, options)
end

local function expect(stdout, stderr, code, wanted)
  if code ~= 0 or stderr ~= (wanted or "") then
    error(("the program ended with status %d\n%s%s"):format(code, stdout:sub(1, 4000), stderr:sub(1, 4000)), 3)
  end
  return stdout
end

-- Runs a program that must end well and print nothing to stderr; what it printed.
function helper.plain(text, options)
  local stdout, stderr, code = helper.execute(text, options)
  return expect(stdout, stderr, code)
end

-- As busted's --helper: the product guards our own specs. Many of them run whole programs, which takes longer than a
-- test of one's own may.
if package.loaded["busted.core"] and async.current_task() then
  arg = { [0] = arg[0], "timeout=" .. 60 * helper.slow, table.unpack(arg) }
  require "lunation.busted"
end

package.loaded["spec.helper"] = helper
return helper

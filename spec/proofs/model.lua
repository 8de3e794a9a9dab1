-- The proof by model fuzz: random programs on the virtual clock, run over the engine and over the reference model of
-- the contract (spec/model/), and compared event by event. Failing programs are made small and printed.
--
--   lunation spec/proofs/model.lua [--seed N] [--ops N] [--size N] [--verbose]      (or lua5.4 with LUA_CPATH)
--
-- Each program has a seed of its own: N, N + 1, ... from --seed (1), until all have done --ops operations (a million;
-- with LUNATION_LONG=1 twenty million, from a seed of the hour). An operation counts if it came to its end on the
-- engine. --size: about how many operations a program has; by default its seed says. --verbose names each seed before
-- it runs, which tells where a crash is. --plant NAME plants a fault in the model, to see it found: spec/model_spec.lua
-- has the names.
--
-- It needs loops of its own, so under the command, where one runs already, it starts itself again under the stock
-- interpreter: LUNATION_LUA (lua5.4) with the module in LUNATION_MODULE, or in lua/ beside the command.
local root = arg[0]:match("^(.*)spec/proofs/[^/]*$") or ""
package.path = root .. "?.lua;" .. package.path

local ok, async = pcall(require, "lunation")

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

if not ok or async.current_task() then
  if os.getenv "LUNATION_MODEL_AGAIN" then error(ok and "no interpreter without a loop" or async, 0) end
  local first = 0
  while arg[first - 1] do first = first - 1 end
  local beside = (os.getenv "LUNATION" or arg[first]):match("^(.*)/[^/]*$") or "."
  local words = { "LUNATION_MODEL_AGAIN=1",
    "LUA_CPATH=" .. quote((os.getenv "LUNATION_MODULE" or beside .. "/lua") .. "/?.so;;"),
    os.getenv "LUNATION_LUA" or "lua5.4", quote(arg[0]) }
  for _, word in ipairs(arg) do words[#words + 1] = quote(word) end
  local _, _, code = os.execute(table.concat(words, " "))
  os.exit(code)
end

local fuzz = require "spec.model.fuzz"

local MOST_FAILURES = 20

local long = os.getenv "LUNATION_LONG" == "1"
local options = { seed = long and os.time() // 3600 or 1, ops = long and 20000000 or 1000000 }
do
  local i = 1
  while arg[i] do
    local name = arg[i]:match("^%-%-(%l+)$")
    if name == "verbose" then
      options.verbose = true
    elseif name == "plant" then
      i = i + 1
      options.plant = arg[i] or error("--plant: name expected, got nothing", 0)
      fuzz.plant[options.plant] = true
    elseif name == "seed" or name == "ops" or name == "size" then
      i = i + 1
      options[name] = math.tointeger(arg[i]) or error("--" .. name .. ": integer expected, got " .. tostring(arg[i]), 0)
    else
      error("unknown argument " .. arg[i] .. " (see the head of " .. arg[0] .. ")", 0)
    end
    i = i + 1
  end
end

local runner = async.Runner() -- for its clock
local clock = runner:get_loop()
local began, told, failures, replays = clock:time(), 0, 0, {}
local STEP = 1000000

local function out(text) io.stdout:write(text) end

function options.failed(seed, prog, d)
  failures = failures + 1
  out(("\nseed %d: the sides differ (%s); the program, made small:\n"):format(seed, d.what))
  fuzz.shrink(prog, d)
  fuzz.show(prog, out)
  io.stdout:flush()
  replays[failures] = ("replay: lunation spec/proofs/model.lua --seed %d --ops 1%s%s"):format(seed,
    options.size and " --size " .. options.size or "", options.plant and " --plant " .. options.plant or "")
  return failures < MOST_FAILURES
end

function options.progress(ops, n)
  if ops // STEP == told then return end
  told = ops // STEP
  if options.ops <= STEP then return end
  local seconds = clock:time() - began
  out(("model fuzz: %d operations in %d programs, %d failures, %.0f s\n"):format(ops, n, failures, seconds))
  io.stdout:flush()
end

local ops, n = fuzz.campaign(options)
for _, line in ipairs(replays) do print(line) end
print(("model fuzz: %d operations in %d programs"):format(ops, n))
print(("model: %d points, %d failures, seed %d, %.1f s"):format(ops, failures, options.seed, clock:time() - began))
runner:close()
os.exit(failures == 0 and ops > 0 and 0 or 1, true)

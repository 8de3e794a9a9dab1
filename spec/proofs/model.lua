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
-- It needs loops of its own: under the command it starts itself again, see spec/support/stock.lua.
local root = arg[0]:match("^(.*)spec/proofs/[^/]*$") or ""
package.path = root .. "?.lua;" .. package.path

require "spec.support.stock"()

local async = require "lunation"
local fuzz = require "spec.model.fuzz"

local MOST_FAILURES = 20

local long = os.getenv "LUNATION_LONG" == "1"
local options = require "spec.support.arguments"(
  { verbose = "flag", plant = "text", seed = "integer", ops = "integer", size = "integer" },
  { seed = long and os.time() // 3600 or 1, ops = long and 20000000 or 1000000 })
if options.plant then fuzz.plant[options.plant] = true end

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

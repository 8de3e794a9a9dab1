-- The proof by simulation: a server and clients (spec/simulation/) on streams in memory and the virtual clock, once for
-- each seed, with short reads and writes, resets, timeouts and cancels. Each seed is run twice: the same events at the
-- same times; and every question has one outcome, no byte is lost or doubled, nothing is left behind.
--
--   lunation spec/proofs/simulation.lua [--seed N] [--runs N] [--trace]      (or lua5.4 with LUA_CPATH)
--
-- Seeds N, N + 1, ... from --seed (1); --runs of them (1000; with LUNATION_LONG=1 20,000). --trace prints the events and
-- a digest of each seed. `digest: HEX` is that of all events of all seeds: the same for every compiler and build.
-- --plant NAME plants a fault in the program that is simulated (lost, double, flip, leak, clock), to see it found.
--
-- It needs loops of its own: under the command it starts itself again, see spec/support/stock.lua.
local root = arg[0]:match("^(.*)spec/proofs/[^/]*$") or ""
package.path = root .. "?.lua;" .. package.path

require "spec.support.stock"()

local world = require "spec.simulation.world"

local MOST_REPLAYS = 20

local long = os.getenv "LUNATION_LONG" == "1"
local options = require "spec.support.arguments"(
  { trace = "flag", plant = "text", seed = "integer", runs = "integer" },
  { seed = 1, runs = long and 20000 or 1000 })

-- 64 bits of `text`, going on from `h`.
local function digest(h, text)
  local padded = text .. ("\0"):rep(-#text % 8)
  for at = 1, #padded, 8 do
    h = (h ~ string.unpack("<i8", padded, at)) * 0x9E3779B97F4A7C15
    h = h ~ h >> 29
  end
  return (h ~ #text) * 0x2545F4914F6CDD1D
end

-- The first event in which two traces differ.
local function difference(a, b)
  local i = 1
  while a[i] == b[i] and a[i] do i = i + 1 end
  return ("event %d of %d and %d: %s -- %s"):format(i, #a, #b, a[i] or "(none)", b[i] or "(none)")
end

local began, failures, events, replays, all = os.clock(), 0, 0, {}, 0

for seed = options.seed, options.seed + options.runs - 1 do
  local first, again = world.run(seed, options.plant), world.run(seed, options.plant)
  local text = table.concat(first.trace, "\n")
  all = digest(all, text)
  events = events + #first.trace
  if text ~= table.concat(again.trace, "\n") then
    first.problem("two runs differ at %s", difference(first.trace, again.trace))
  end
  if options.trace then print(("%s\nseed %d: %d events, digest %016x"):format(text, seed, #first.trace, digest(0, text))) end
  if #first.problems > 0 then
    failures = failures + 1
    print(("seed %d:\n  %s"):format(seed, table.concat(first.problems, "\n  ")))
    if #replays < MOST_REPLAYS then
      replays[#replays + 1] = ("replay: lunation spec/proofs/simulation.lua --seed %d --runs 1 --trace%s"):format(seed,
        options.plant and " --plant " .. options.plant or "")
    end
  end
  if options.runs > 2000 and (seed - options.seed) % 2000 == 1999 then
    print(("simulation: %d seeds, %d failures, %.1f s"):format(seed - options.seed + 1, failures, os.clock() - began))
    io.stdout:flush()
  end
end

print(("%d events"):format(events))
for _, line in ipairs(replays) do print(line) end
print(("digest: %016x"):format(all))
print(("simulation: %d points, %d failures, seed %d, %.1f s"):format(options.runs, failures, options.seed,
  os.clock() - began))
os.exit(failures == 0 and options.runs > 0, true)

-- The model fuzz: programs of a range of seeds on both sides, and what becomes of one on which they differ.
--
-- The driver for ctest and by hand is spec/proofs/model.lua; spec/model_spec.lua sees that planted faults are found.
local inner = require "spec.model.core"
require "spec.model.callback"
require "spec.model.runner"
require "spec.model.join"
require "spec.model.scope"
require "spec.model.sync"
require "spec.model.queue"
local generate = require "spec.model.generate"
local program = require "spec.model.program"
local run = require "spec.model.run"
local shrink = require "spec.model.shrink"
local async = require "lunation"

local fuzz = { plant = inner.plant, program = generate.program, text = program.text }

--[[ Runs a program on both sides -> the first difference or nil, the number of operations that came to their end,
the engine's run, the model's run. ]]
function fuzz.both(prog)
  local chunk = assert(load(program.text(prog), "=program", "t"))
  local engine = run.side(async, chunk, prog.retrieve)
  local model = run.side(inner.model, chunk, prog.retrieve)
  return run.difference(engine, model), engine.count, engine, model
end

-- The same for a program that may break the model, too: what an error says is then the difference.
function fuzz.try(prog)
  local ok, d, count, engine, model = pcall(fuzz.both, prog)
  if ok then return d, count, engine, model end
  return { what = "error of a side: " .. tostring(d) }, 0
end

-- Makes a failing program small: it keeps differing in the same kind of thing. -> how many operations are left.
function fuzz.shrink(prog, d, most)
  local kind = d.what
  local _, n = shrink.program(prog, function(smaller)
    local other = fuzz.try(smaller)
    return other and other.what == kind
  end, most)
  return n
end

--[[ The programs of the seeds from `seed` on, until they have done `ops` operations; failed(seed, prog, difference) is
called for each on which the sides differ, and returns true to go on. progress(ops), if given, is called between
programs. -> operations, programs. ]]
function fuzz.campaign(options)
  local ops, n = 0, 0
  while ops < options.ops do
    local seed = options.seed + n
    if options.verbose then io.stderr:write("seed ", seed, "\n") end
    local prog = fuzz.program(seed, options.size)
    local d, count = fuzz.try(prog)
    ops, n = ops + count, n + 1
    if d and not options.failed(seed, prog, d) then break end
    if options.progress then options.progress(ops, n) end
  end
  return ops, n
end

local AROUND = 12 -- lines of the logs before and behind the first difference

-- The two logs side by side around the first difference.
local function show_logs(d, engine, model, out)
  local at = d.what == "event" and d.at or math.max(#engine.events, #model.events)
  out("  both up to here, then engine | model:\n")
  for i = math.max(1, at - AROUND), at + AROUND do
    local a, b = engine.events[i], model.events[i]
    if a and a == b then
      out("    " .. a .. "\n")
    elseif a or b then
      out("  ! " .. (a or "(nothing)") .. "  |  " .. (b or "(nothing)") .. "\n")
    end
  end
end

-- Writes a failing program, its logs and the difference with out(text).
function fuzz.show(prog, out)
  out(program.text(prog))
  local d, _, engine, model = fuzz.try(prog)
  if not d then return out "  (it does not fail when it runs again)\n" end
  if engine then show_logs(d, engine, model, out) end
  out(("  %s%s\n    engine: %s\n    model:  %s\n"):format(d.what, d.at and " " .. d.at or "", tostring(d.engine),
    tostring(d.model)))
end

return fuzz

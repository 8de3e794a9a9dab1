-- Running a test again: under other orders of ready tasks, and in sweeps, once for each point where it suspended.
--
-- Law: only the first run is told to the output handlers; the others are silent, and what they find becomes one
-- failure of the test. Under an injected cancel or error a test may fail as it likes, its work was cut; but it has to
-- end, to leave nothing behind, and to let the cancel pass.
local copies = require "lunation.busted.own"
local options = require "lunation.busted.options"
local replay = require "lunation.busted.replay"
local watch = require "lunation.busted.watch"
local monotime = require "system".monotime
local async, probe = copies.async, copies.probe

local repeats = {}

local SHOWN = 5 -- failing points that are told of in full
local MOST_FAILURES = 50 -- a test that fails so often is swept no further
local LEAST_LIMIT = 1 -- seconds for one run of a sweep, whose first run took a moment

-- repeats.begin(run): reads what is to be repeated.
function repeats.begin(run)
  local own = run.own
  run.seed = own.seed
  if own.shuffle_tasks and not own.seed then run.seed = require("busted.utils").urandom() or os.time() end
  run.base = run.seed
  repeats.seed(run, run.base)
  run.sweeps = {}
  for i, mode in ipairs(own.sweep) do
    run.sweeps[i] = { mode = mode, points = 0, tests = 0, failures = 0, passed_over = 0, left_out = 0 }
  end
  run.shuffles = { runs = 0, tests = 0, failures = 0 }
end

-- repeats.seed(run, seed): the order of ready tasks, and math.random, begin anew, so that a test does not depend on
-- those before it.
function repeats.seed(run, seed)
  if not seed then return end
  probe.order(seed)
  math.randomseed(seed)
  run.seed = seed
end

local function is_swept(run, element)
  while element do
    if type(element.name) == "string" and element.name:find("#nosweep", 1, true) then return false end
    element = run.core.context.parent(element)
  end
  return true
end

-- repeats.wanted(run) -> boolean: tests are to be run again if they pass.
function repeats.wanted(run)
  return run.own.shuffle_tasks ~= nil or #run.sweeps > 0
end

-- repeats.prepare(run, test): before the first run, which is the one that counts points.
function repeats.prepare(run, test)
  if #run.sweeps == 0 or not is_swept(run, test.element) then return end
  test.probed = { mode = run.sweeps[1].mode }
  test.events = probe.events()
  test.began = monotime()
end

-- repeats.note(test, kind, element, message): a block failed in a silent run.
function repeats.note(test, kind, element, message)
  test.faults[#test.faults + 1] = {
    kind = kind, descriptor = test.block or element.descriptor, message = message, error = test.raised,
  }
end

-- Runs the test once more, silently. What was left behind, as text, or nil.
local function again(run, test, probed, accept)
  repeats.seed(run, run.seed)
  test.muted, test.faults, test.hung, test.raised, test.found = true, {}, nil, nil, nil
  test.probed = probed
  watch.again(test.scope)
  local before = probe.events()
  test.execute()
  local text = watch.close(test.scope, accept)
  test.muted = nil
  return text, before, probe.events()
end

-- ---- shuffled orders ----

local function shuffle(run, test)
  local base, count = run.seed, run.own.shuffle_tasks
  local stats = run.shuffles
  stats.tests, stats.runs = stats.tests + 1, stats.runs + 1
  for i = 1, count - 1 do
    if run.interrupt then break end
    run.seed = base + i
    local text = again(run, test)
    stats.runs = stats.runs + 1
    text = test.faults[1] and test.faults[1].message or text
    if text then
      stats.failures = stats.failures + 1
      local found = ("%s\nseed: %d (run %d of %d)\nreplay: %s"):format(text, run.seed, i + 1, count,
        replay.command(run, test.element, run.seed))
      run.seed = base
      return found
    end
  end
  run.seed = base
end

-- ---- sweeps ----

-- Does the error come of what was injected, in this run or in one before? Through groups, causes and what it took the
-- place of.
local function injected(e, depth)
  if async.isinstance(e, async.CancelledError) then return true end
  depth = depth or 0
  if depth > 20 or not async.isinstance(e, async.BaseError) then return false end
  if e.injected then return true end
  for _, inner in ipairs(type(e.errors) == "table" and e.errors or {}) do
    if injected(inner, depth + 1) then return true end
  end
  return e.cause ~= nil and injected(e.cause, depth + 1) or e.context ~= nil and injected(e.context, depth + 1)
end

watch.is_expected = function(context) return context.kind == "unretrieved" and injected(context.exception) end

-- Reports of a cut run that the scope "run" forgives: what runs on without the rest of the test fails, and what was left
-- open may be collected before it can be asked to close.
local FORGIVEN = { callback = true, connection = true, leak = true, swallowed = true }

-- What a run with an injection may leave or report all the same: what was injected, and errors that the test, which was
-- cut, has not come to look at; with the scope "code" what the text of the test itself has made; with "run" whatever ends
-- when it is asked to, as it is at the end of async.run. Whether the test's own task swallowed the cancel is a matter of
-- judge_swallowed.
local function forgiving(run, test)
  local scope, info = run.own.sweep_scope, debug.getinfo(test.element.run, "S")
  return function(entry, context)
    if context then
      local kind = context.kind
      return kind == "unretrieved" or injected(context.exception) or scope == "run" and FORGIVEN[kind]
        or kind == "swallowed" and context.task == test.body
    end
    if scope == "run" then return true end
    if scope ~= "code" or not entry.where then return false end
    local file, line = entry.where:match("^(.*):(%d+)$")
    line = tonumber(line)
    return file == info.short_src and line >= info.linedefined and line <= info.lastlinedefined
  end
end

local function imbalance(before, after, taken, given)
  return (after[taken] - before[taken]) - (after[given] - before[given])
end

-- What was wrong with how a block ended in a run that was cut: text, or nil.
local function judge_fault(run, test, fault)
  local e, found = fault.error, test.found
  if fault.descriptor ~= "it" then return ("%s failed: %s"):format(fault.descriptor, fault.message) end
  if test.hung then return not test.left and fault.message or nil end
  if async.isinstance(e, async.Error) and not e.injected and e.context ~= nil and injected(e.context)
    and not async.isinstance(e, async.ExceptionGroup) and not async.isinstance(e, async.TimeoutError) then
    return "cleanup failed: " .. fault.message
  end
  if not run.own.sweep_scope and test.mode == "cancel" and found.task == test.number and fault.kind == "error"
    and not async.isinstance(e, async.CancelledError) then
    return "the cancel became another error: " .. fault.message
  end
end

-- Who swallowed the cancel: text, or nil. The task of the block itself always ends well, since busted catches what
-- leaves the body.
local function judge_swallowed(run, test)
  local found, failed = test.found, false
  if not found.swallowed or run.own.sweep_scope == "run" then return end
  if found.task ~= test.number then return ("the cancel was swallowed by Task-%d"):format(found.task) end
  for _, fault in ipairs(test.faults) do failed = failed or fault.descriptor == "it" end
  if not failed and not run.own.sweep_scope then return "the cancel was swallowed by the test" end
end

-- What was wrong with a run that was cut: text, or nil. `left` is what it left behind.
local function judge(run, test, left, before, after)
  local lines, base = { left }, test.balance
  test.left = left
  for _, fault in ipairs(test.faults) do lines[#lines + 1] = judge_fault(run, test, fault) end
  if test.hung and #lines == 0 then lines[1] = "the time limit is over" end
  lines[#lines + 1] = judge_swallowed(run, test)
  if run.own.sweep_scope ~= "run" and base.locks == 0 and imbalance(before, after, "acquired", "released") > 0 then
    lines[#lines + 1] = "a lock or permit was not given back"
  end
  if base.scopes == 0 and imbalance(before, after, "opened", "closed") > 0 then
    lines[#lines + 1] = "a closable was not closed"
  end
  return #lines > 0 and table.concat(lines, "\n") or nil
end

-- Where a point was. A task whose function is one of C has no line of its own.
local function place(test, found)
  if found.where and found.where ~= "" then return "at " .. found.where end
  if found.task == test.number then return "in the test" end
  return ("in Task-%d"):format(found.task or 0)
end

local function sweep_point(run, test, stats, point, failures)
  local what = async.Error("injected at point " .. point, { injected = true })
  local probed = { at = point, mode = stats.mode, error = what }
  test.mode = stats.mode
  local text, before, after = again(run, test, probed, forgiving(run, test))
  local found = test.found or {}
  test.found = found
  stats.points = stats.points + 1
  local wrong = found.delivered and judge(run, test, text, before, after)
  if not wrong then return end
  stats.failures = stats.failures + 1
  failures.n = failures.n + 1
  if failures.n > SHOWN then return end
  failures[#failures + 1] = ("  point %d %s, %s: %s\n  replay: %s"):format(point, place(test, found),
    stats.mode == "cancel" and "cancelled" or "an error thrown", wrong:gsub("\n", "\n    "),
    replay.command(run, test.element, run.own.seed, stats.mode, point))
end

local function sweep(run, test, stats)
  stats.tests = stats.tests + 1
  local first, last = 1, test.points
  if run.own.sweep_point then
    first, last = run.own.sweep_point, math.min(run.own.sweep_point, last)
  end
  local failures, step = { n = 0 }, 1
  local most = run.own.sweep_max
  if most and last - first + 1 > most then
    step = (last - first + 1) / most
    stats.left_out = stats.left_out + last - first + 1 - most
  end
  for at = first, last, step do
    local point = math.floor(at)
    if run.interrupt or failures.n >= MOST_FAILURES then break end
    sweep_point(run, test, stats, point, failures)
  end
  watch.forget(test.scope)
  if failures.n == 0 then return end
  local text = ("sweep (%s): %d of %d points failed\n"):format(stats.mode, failures.n, test.points)
  if failures.n > SHOWN then failures[#failures + 1] = ("  ... and %d more"):format(failures.n - SHOWN) end
  return text .. table.concat(failures, "\n")
end

-- The points of another mode than the first are counted in a silent run of their own.
local function count(run, test, mode)
  local text = again(run, test, { mode = mode })
  if text or test.faults[1] then return nil, test.faults[1] and test.faults[1].message or text end
  test.points = test.found and test.found.points or 0
  return test.points
end

local function sweep_all(run, test)
  local own_limit = run.own.timeout or options.LIMIT
  local texts = {}
  for i, stats in ipairs(run.sweeps) do
    local points, wrong = test.points, nil
    if i > 1 then points, wrong = count(run, test, stats.mode) end
    if points then
      if own_limit > 0 then run.limit = math.min(own_limit, math.max(LEAST_LIMIT, 20 * test.took)) end
      texts[#texts + 1] = sweep(run, test, stats)
      run.limit = nil
    else
      texts[#texts + 1] = "the second run of the test failed: " .. wrong
      stats.failures = stats.failures + 1
    end
  end
  return #texts > 0 and table.concat(texts, "\n") or nil
end

-- repeats.run(run, test, passed) -> text or nil: after the first run; what the others found.
function repeats.run(run, test, passed)
  local text = nil
  if passed and run.own.shuffle_tasks then text = shuffle(run, test) end
  if #run.sweeps == 0 then return text end
  if text or not passed or not test.found then
    for _, stats in ipairs(run.sweeps) do stats.passed_over = stats.passed_over + 1 end
    return text
  end
  local now = probe.events()
  test.points = test.found.points
  test.took = monotime() - test.began
  test.balance = {
    locks = imbalance(test.events, now, "acquired", "released"),
    scopes = imbalance(test.events, now, "opened", "closed"),
  }
  return sweep_all(run, test)
end

-- repeats.summary(run): the last lines of the run.
function repeats.summary(run)
  local seed = run.own.seed and tostring(run.own.seed) or "none"
  local shuffles = run.shuffles
  if run.own.shuffle_tasks then
    io.write(("shuffle: %d runs of %d tests, %d failures, seed %d\n"):format(shuffles.runs, shuffles.tests,
      shuffles.failures, run.seed))
  end
  for _, s in ipairs(run.sweeps) do
    io.write(("sweep (%s): %d points in %d tests, %d failures, %d tests passed over, seed %s%s\n"):format(s.mode,
      s.points, s.tests, s.failures, s.passed_over, seed,
      s.left_out > 0 and ("; %d points left out"):format(s.left_out) or ""))
  end
  io.flush()
end

return repeats

-- Puts Lunation under busted: what busted runs as a block runs in a task, what a test leaves behind fails it, tests
-- are run again under other seeds and in sweeps.
--
-- Everything goes through two functions of busted's core. `safe` runs a block, and also the executor around it (for a
-- test: before_each, body, after_each): the two are told apart by what they run. `publish` tells the output handlers:
-- the end of a test is held back while its verdict may still change, with all that comes after it, in order.
--
-- Law: a suite that does nothing of ours sees the same events in the same order at the same time as without us.
local copies = require "lunation.busted.own"
local blocks = require "lunation.busted.blocks"
local options = require "lunation.busted.options"
local repeats = require "lunation.busted.repeats"
local replay = require "lunation.busted.replay"
local watch = require "lunation.busted.watch"
local async, probe = copies.async, copies.probe

local session = {}

-- One run of busted: what was asked for, busted's core, and the test whose executor runs now.
local run = {}

-- ---- events ----

-- What busted tells by itself; tests may tell something, too, and that is nothing of ours.
local BUSTEDS = { suite = true, file = true, describe = true, test = true, error = true, failure = true, pending = true,
  exit = true }

-- Called for what busted tells its output handlers.
local function publish(channel, ...)
  local test = run.test
  if not BUSTEDS[channel[1]] then return run.publish(channel, ...) end
  if test and test.muted then
    local element, _, message = ...
    local kind = channel[1]
    if kind == "failure" or kind == "error" then repeats.note(test, kind, element, message) end
    return {}
  end
  if test and test.holding then
    test.held[#test.held + 1] = table.pack(channel, ...)
    return {}
  end
  if channel[1] == "failure" or channel[1] == "error" then
    local element, parent, message, trace = ...
    if test and channel[2] == "it" then test.failed = true end
    local results = run.publish(channel, element, parent, replay.added(run, element, message), trace)
    if run.interrupt then run.core.skipAll = true end -- busted sets it anew at every failure
    return results
  end
  if test and channel[1] == "test" and channel[2] == "end" then
    test.ended = true
    if test.repeated or watch.anything(test.scope) then
      test.holding = true
      test.held = { table.pack(channel, ...) }
      return {}
    end
  end
  local results = table.pack(run.publish(channel, ...))
  if channel[1] == "exit" then repeats.summary(run) end
  return table.unpack(results, 1, results.n)
end

-- The failure of `element`, found from outside of it.
local function fail(kind, element, text)
  local trace = element.trace or { short_src = element.name or element.descriptor, currentline = 1, traceback = "" }
  local message = ("%s:%d: %s"):format(trace.short_src, trace.currentline, text)
  publish({ kind, element.descriptor }, element, run.core.context.parent(element), message, trace)
end

-- Tells what was held back, with the verdict that the test has got meanwhile.
local function flush(test)
  local held = test.held or {}
  test.holding, test.held = false, nil
  for _, event in ipairs(held) do
    local channel, element = event[1], event[2]
    if channel[1] == "test" then
      if test.verdict then event[4] = test.verdict end
      run.safe("test", function() run.publish(table.unpack(event, 1, event.n)) end, element)
    else
      publish(table.unpack(event, 1, event.n))
    end
  end
end

-- ---- blocks ----

-- busted's task is being cancelled: by Ctrl-C, by os.exit in a script, or by a test that cancels all it can find. The
-- first two end the run; true for them.
local function on_interrupt(e)
  if not run.exiting and probe.noticed().interrupts == 0 then
    async.current_task():uncancel()
    return false
  end
  run.core.skipAll = true
  if run.interrupt then return true end
  run.interrupt = { error = e }
  async.current_task():uncancel() -- dealt with, should it not have been thrown yet
  -- busted ends with os.exit if anything has failed; after Ctrl-C the command decides how to end.
  os.exit = function() error(run.interrupt.error, 0) end
  -- After os.exit in a script nothing more is told.
  if run.exiting then run.publish = function() return {} end end
  return true
end

local function title(descriptor, element)
  return element.name and ("%s '%s'"):format(descriptor, tostring(element.name)) or descriptor
end

-- The status of a block that did not come to its end, and told nothing of it by failing.
local function unfinished(element, text)
  if not run.exiting then fail("error", element, text) end
  return run.core.status("error")
end

-- These still run when the run has been interrupted.
local CLEANUP = { after_each = true, teardown = true, strict_teardown = true, lazy_teardown = true, finally = true }

-- busted's message handler gives nothing back, so that a `<close>` of the block would not see the error that it is
-- closed for. So the block runs in a protected call of its own, whose handler gives busted's the place and the text that
-- it would have found. The search for that place passes over what is in busted's folder, so this is named like that.
local GUARD = [[
local run, pack, unpack, xpcall, error = ...
return function(fn, element)
  local function handler(e)
    local trace = run.place(element, run.get_trace(element, 3, e), e)
    run.caught = { error = e, trace = trace, message = run.core.rewriteMessage(element, e, trace) }
    return e
  end
  return function(...)
    local results = pack(xpcall(fn, handler, ...))
    if results[1] then return unpack(results, 2, results.n) end
    error(run.translated(results[2]), 0)
  end
end
]]

-- What busted makes of a failed assertion has this metatable.
local function failure_meta(core)
  local _, e = pcall(core.fail, "")
  return debug.getmetatable(e)
end

-- Lists the errors in a group: those that are no group themselves.
local function members(e, list)
  for _, inner in ipairs(e.errors) do
    if async.isinstance(inner, async.ExceptionGroup) then members(inner, list) else list[#list + 1] = inner end
  end
  return list
end

-- A group of failed assertions is a failed assertion.
function run.translated(e)
  if not async.isinstance(e, async.ExceptionGroup) then return e end
  for _, inner in ipairs(members(e, {})) do
    if debug.getmetatable(inner) ~= run.failure_meta then return e end
  end
  local failure = setmetatable({ message = tostring(e) }, run.failure_meta)
  if run.caught and rawequal(run.caught.error, e) then run.caught.error = failure end
  return failure
end

-- An error that a closer has thrown when the body had gone already has no line of the body: then that of the block.
function run.place(element, trace, e)
  local script = trace.short_src == run.script and async.isinstance(e, async.BaseError)
  return script and element.trace or trace
end

-- The text of a failure, with the errors of a group one by one.
local function with_members(text, e)
  local lines = { text }
  for _, inner in ipairs(members(e, {})) do
    local trace = async.isinstance(inner, async.BaseError) and async.traceback(inner)
    local place = trace and trace:match("([^%s:]+:%d+): in ")
    lines[#lines + 1] = ("  %s%s"):format(place and place .. ": " or "", (tostring(inner):gsub("\n", "\n  ")))
  end
  return table.concat(lines, "\n")
end

local function make_guard(core)
  local source = debug.getinfo(core.getTrace, "S").source
  return assert(load(GUARD, source))(run, table.pack, table.unpack, xpcall, error)
end

local function run_block(descriptor, fn, element)
  local test = run.test
  if run.exiting or probe.noticed().interrupts > 0 then on_interrupt(async.CancelledError()) end
  if run.interrupt and (run.exiting or not CLEANUP[descriptor]) then return unfinished(element, "interrupted") end
  local swept = test and descriptor == "it" and test.probed
  if swept then probe.start(swept) end
  if test then test.block = descriptor end
  local note = blocks.run(title(descriptor, element), run.limit or run.own.timeout or options.LIMIT, on_interrupt, run.safe, descriptor,
    run.guarded(fn, element), element)
  run.caught = nil
  if swept then test.probed, test.found, test.number, test.body = nil, probe.stop(), note.number, note.task end
  -- With that scope it is enough that a hang can be ended.
  if test then test.hung = test.hung or note.killed or note.expired and run.own.sweep_scope ~= "run" end
  if run.exiting and not note.results then on_interrupt(async.CancelledError()) end
  -- It runs inside the first test that needs it, and belongs to what is around that.
  if test and descriptor == "lazy_setup" then watch.accept(test.scope) end
  local results = note.results
  if note.entered and not results then run.core.context.pop() end
  if not results or (note.expired and results[1]:success()) then
    local e = note.task:done() and not note.task:cancelled() and note.task:exception()
    return unfinished(element, note.expired or e and tostring(e) or "the block was ended")
  end
  return table.unpack(results, 1, results.n)
end

-- The place of an error that was found when it left its block, else busted's.
local function get_trace(element, level, message)
  local caught = run.caught
  if caught and rawequal(caught.error, message) then return caught.trace end
  return run.get_trace(element, level, message)
end

-- A block that failed because its limit had come says so instead of "cancelled".
local function rewrite(element, message, trace)
  local caught = run.caught
  if caught and rawequal(caught.error, message) and rawequal(caught.trace, trace) then return caught.message end
  if run.test then run.test.raised = message end
  local note = blocks.current
  if not (note and note.expired) then
    if run.interrupt and async.isinstance(message, async.CancelledError) then message = "interrupted" end
    if async.isinstance(message, async.ExceptionGroup) then
      return with_members(run.rewrite(element, message, trace), message)
    end
    return run.rewrite(element, message, trace) -- a frame of ours in between would show in busted's own errors
  end
  local text = note.expired
  if trace then text = ("%s:%d: %s"):format(trace.short_src, trace.currentline, text) end
  if not async.isinstance(message, async.CancelledError) then
    text = text .. "\nthen: " .. run.rewrite(element, message, trace)
  end
  return text
end

-- ---- tests, and what has tests in it ----

local function after_each_of(element)
  local parent = run.core.context.parent(element)
  while parent do
    if parent.after_each and parent.after_each[1] then return parent.after_each[1] end
    parent = run.core.context.parent(parent)
  end
end

-- What was found behind a test whose end has been told already belongs to what came after it.
local function blame(test, text)
  local element = test.element
  if test.ended and not test.holding then
    fail("error", after_each_of(element) or element, text)
  elseif test.ended and not test.failed then
    local held = test.held
    test.verdict, test.holding = "failure", false
    fail("failure", element, text)
    test.holding, test.held = true, held
  end
end

local function run_test(executor, element)
  local test = { element = element, execute = executor, repeated = repeats.wanted(run) }
  run.test = test
  local _ <close> = setmetatable({}, { __close = function() run.test = nil end })
  repeats.seed(run, run.base)
  test.scope = watch.open()
  repeats.prepare(run, test)
  executor()
  local text = watch.close(test.scope)
  if text then blame(test, text) end
  if test.repeated then
    local verdict = repeats.run(run, test, not test.failed and test.ended)
    if verdict then blame(test, verdict) end
  end
  flush(test)
end

-- A describe or a file: what its own body, its setup and its teardown left behind.
local function run_group(executor, element)
  local scope = watch.open()
  executor()
  local text = watch.close(scope)
  if text and not run.interrupt then fail("error", element, text) end
end

local EXECUTORS = { it = run_test, describe = run_group, file = run_group }

local function safe(descriptor, fn, element)
  if run.publishing then
    run.publishing = false
    return run.safe(descriptor, fn, element)
  end
  if not async.current_task() then return session.runner():run(safe, descriptor, fn, element) end
  if fn == element.run or descriptor == "finally" then return run_block(descriptor, fn, element) end
  local around = EXECUTORS[descriptor]
  if not around then return run.safe(descriptor, fn, element) end
  return run.safe(descriptor, function() around(fn, element) end, element)
end

-- ---- installing ----

-- session.runner() -> Runner: for blocks where no loop runs, under an interpreter that is not our command.
function session.runner()
  run.runner = run.runner or async.Runner()
  return run.runner
end

local function in_loop(fn)
  if async.current_task() then return fn() end
  return session.runner():run(fn)
end

-- os.exit that is heard of, unless its argument is such that it throws.
local function watch_exit()
  local exit = os.exit
  os.exit = function(...)
    local code = ...
    if code == nil or type(code) == "boolean" or math.tointeger(tonumber(code)) then run.exiting = true end
    exit(...)
  end
end

-- session.install(core, own): puts us under busted's core. Once a process; a second call changes nothing.
function session.install(core, own)
  if run.core then return end
  run.core, run.own, run.safe, run.publish = core, own, core.safe, core.publish
  run.failure_meta, run.script = failure_meta(core), blocks.script
  run.get_trace, run.rewrite, run.guarded = core.getTrace, core.rewriteMessage, make_guard(core)
  local safe_publish = core.safe_publish
  core.safe, core.publish, core.getTrace, core.rewriteMessage = safe, publish, get_trace, rewrite
  core.safe_publish = function(...)
    run.publishing = true
    return safe_publish(...)
  end
  if core.api.publish then core.api.publish = publish end
  watch.on_interrupt = on_interrupt
  watch_exit()
  in_loop(function()
    probe.sites(true)
    if own.virtual_time then probe.clock("virtual") end
    repeats.begin(run)
  end)
end

-- session.before_runner(own, script): for the run of busted that follows; `script` is where busted's script is.
function session.before_runner(own, script)
  blocks.set_script(script)
  local make = require "busted.core"
  package.loaded["busted.core"] = function()
    local core = make()
    session.install(core, own)
    return core
  end
end

-- session.finish(): busted has come to its end without an os.exit; Ctrl-C that came too late to fail a test still counts.
function session.finish()
  if run.interrupt then error(run.interrupt.error, 0) end
end

-- The core of the busted that runs: what its public table reads from.
local function running_core()
  local meta = getmetatable(require "busted")
  local index = meta and meta.__index
  if type(index) ~= "function" then return end
  for i = 1, 10 do
    local name, value = debug.getupvalue(index, i)
    if not name then return end
    if type(value) == "table" and rawget(value, "safe") and rawget(value, "safe_publish") then return value end
  end
end

-- What the helper's options say and the command line does not.
local function add_options(list)
  local own, text = options.take_helper(options.new(), list)
  if not own then error("lunation.busted: " .. text, 0) end
  run.own.timeout = run.own.timeout or own.timeout
  if own.virtual_time and not run.own.virtual_time then
    run.own.virtual_time = true
    probe.clock("virtual")
  end
end

-- session.as_helper(list): busted has loaded us as its helper; `list` are the options for it.
function session.as_helper(list)
  if run.core then return add_options(list) end
  local core = running_core()
  if not core then error("lunation.busted is a helper of busted's: --helper=lunation.busted", 0) end
  local own, text = options.take_helper(options.new(), list)
  if not own then error("lunation.busted: " .. text, 0) end
  own.replayed = {}
  blocks.set_script(arg and arg[0] or "busted")
  session.install(core, own)
end

return session

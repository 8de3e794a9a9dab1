-- What a block, or several, leave behind: tasks, timers, callbacks, handles, requests, errors that nobody looked at.
--
-- A scope begins with a picture of everything that is alive and ends with a comparison. What is new then and does not
-- go away by itself is told with the place where it was made, and then ended, so that nobody meets it afterwards.
-- Scopes nest; what goes to the exception handler belongs to the innermost.
local own = require "lunation.busted.own"
local monotime = require "system".monotime
local async, probe = own.async, own.probe

local watch = {}

local TURNS = 8
local MOMENT = 2 -- real seconds for what libuv has to say
local BLINK = 0.1 -- for a task at the other end of a connection to see that this one is closed
local ASKED, PATIENCE = 3, 1 -- how often what is left is asked to end, and real seconds for it to do so after that
local scopes = {}

-- Ends a pause of busted's main task early if it is being cancelled; who waits for blocks deals with that.
watch.on_interrupt = function() end

-- Reports that nobody needs to hear of.
watch.is_expected = function() return false end

local function pause(seconds)
  local ok, e = pcall(async.sleep, seconds)
  if not ok then watch.on_interrupt(e) end
end

local function turns(n)
  for _ = 1, n do pause(0) end
end

-- Errors that nobody can look at any more are found and told now; what a finaliser kept alive, by the second time.
local function find_lost()
  probe.collect()
  probe.collect()
  turns(2)
end

-- How many there are of each; requests are one entry that says how many.
local function tally(list)
  local set = {}
  for _, entry in ipairs(list) do
    local key = entry.object or entry.id or entry.kind
    entry.key = key
    set[key] = (set[key] or 0) + (entry.kind == "request" and tonumber(entry.text:match("%d+")) or 1)
  end
  return set
end

-- Only busted's own task is alive: so it is in synchronous suites, where nothing may take time.
local function alone(noticed) return noticed.alive == 1 end

local function picture()
  if alone(probe.noticed()) then return {} end
  return tally(probe.live())
end

-- What is alive now and was not then: the entries; and for how long to wait for them to go: long if all of them do so
-- by themselves, when libuv says so; not at all for what has nothing to do with libuv.
local function news(scope)
  local all, list, late, connected = probe.live(), {}, true, false
  local set, main = tally(all), async.current_task()
  for _, entry in ipairs(all) do
    if set[entry.key] > (scope.picture[entry.key] or 0) and entry.object ~= main then
      list[#list + 1] = entry
      late = late and (entry.kind == "request" or entry.lingers)
      connected = connected or entry.kind == "handle"
    end
  end
  return list, late and MOMENT or connected and BLINK or 0
end

local function is_shuffled() return probe.order() ~= false end

local function unretrieved() return probe.noticed().unretrieved end

local function handler(_, context)
  if watch.is_expected(context) then return end
  local scope = scopes[#scopes]
  if scope then
    scope.reports[#scope.reports + 1] = context
  else
    async.get_running_loop():default_exception_handler(context)
  end
end

-- watch.open() -> scope
function watch.open()
  local loop = async.get_running_loop()
  if not loop:get_exception_handler() then loop:set_exception_handler(handler) end
  local scope = {
    picture = picture(), handler = loop:get_exception_handler(), reports = {}, owed = unretrieved(),
    clock = probe.clock(), shuffled = is_shuffled(),
  }
  scopes[#scopes + 1] = scope
  return scope
end

-- watch.again(scope): opens a scope that was closed once more, with the picture that it had.
function watch.again(scope)
  scope.reports, scope.clock, scope.shuffled = {}, probe.clock(), is_shuffled()
  scopes[#scopes + 1] = scope
end

-- watch.accept(scope): what there is now was there before, as far as the scope is concerned.
function watch.accept(scope)
  scope.picture, scope.owed = picture(), unretrieved()
end

-- watch.forget(scope): errors that nobody has looked at are found now, and told to nobody.
function watch.forget(scope)
  if unretrieved() <= scope.owed then return end
  local expected = watch.is_expected
  watch.is_expected = function(context) return context.kind == "unretrieved" end
  find_lost()
  watch.is_expected = expected
end

-- watch.anything(scope) -> boolean: something is new at this moment.
function watch.anything(scope)
  local noticed = probe.noticed()
  return #scope.reports > 0 or noticed.reports or noticed.unretrieved > scope.owed
    or not alone(noticed) and #news(scope) > 0 or probe.clock() ~= scope.clock
    or is_shuffled() and not scope.shuffled
end

-- All of it need not be told, so there is nothing to wait for.
local function accepted(list, accept)
  for _, entry in ipairs(list) do
    if not (accept and accept(entry)) then return false end
  end
  return true
end

-- Gives what is about to end the time for it; what is left then.
local function settle(scope, accept)
  turns(TURNS)
  if unretrieved() > scope.owed then
    find_lost()
  end
  local list, patience = news(scope)
  if patience == 0 or accepted(list, accept) then return list end
  local clock = probe.clock("real")
  local began = monotime()
  while #list > 0 and monotime() - began < patience do
    pause(0.002)
    list, patience = news(scope)
  end
  probe.clock(clock)
  return list
end

local function indented(text) return (text:gsub("\n%s*", "\n      ")) end

local function describe_left(entry)
  local text = ("  %s %s"):format(entry.kind, entry.text)
  if entry.where then text = text .. ", made at " .. entry.where end
  if entry.kind == "task" and entry.object then
    local stack = entry.object:get_stack():gsub("^\n", "")
    if stack ~= "" then text = text .. "\n      " .. indented((stack:gsub("^%s+", ""))) end
  end
  return text
end

local function describe_report(context)
  local subject = context.future or context.handle or context.object
  local where = type(context.source_traceback) == "string" and context.source_traceback:match("([^%s:]+:%d+)")
  local text = tostring(context.message)
  if context.exception ~= nil then
    text = text .. ": " .. tostring(context.exception)
  end
  if subject then text = ("%s\n      %s%s"):format(text, tostring(subject), where and ", made at " .. where or "") end
  if context.traceback then text = text .. "\n      " .. indented((context.traceback:gsub("^%s+", ""))) end
  return "  " .. text
end

-- Asks each to end, the newest first.
local function ask(list)
  for i = #list, 1, -1 do
    local entry = list[i]
    local object = entry.object
    if entry.kind == "task" then
      object:cancel()
    elseif object and (entry.kind == "timer" or entry.kind == "callback") then
      pcall(object.cancel, object)
    elseif entry.id then
      probe.close(entry.id)
    end
  end
end

-- Ends what is left: asks, more than once, since a task may go on after a cancel that it was prepared for, and closes by
-- force the tasks that refuse, which it gives.
local function clear(scope, list)
  local left = list
  for _ = 1, ASKED do
    ask(left)
    turns(TURNS)
    left = news(scope)
    for _ = 1, 25 do -- its cleanup may wait
      if #left == 0 then break end
      pause(0.002)
      left = news(scope)
    end
  end
  local clock = probe.clock("real")
  local began = monotime()
  while #left > 0 and monotime() - began < PATIENCE do
    pause(0.002)
    left = news(scope)
  end
  probe.clock(clock)
  local refused = {}
  for i = #left, 1, -1 do
    if left[i].kind == "task" then
      refused[#refused + 1] = describe_left(left[i])
      probe.destroy(left[i].object)
    end
  end
  turns(2)
  if unretrieved() > scope.owed then
    probe.collect()
    turns(2)
  end
  -- What cannot be ended is told once, not by every scope around this one.
  for _, entry in ipairs((news(scope))) do
    for _, outer in ipairs(scopes) do outer.picture[entry.key] = (outer.picture[entry.key] or 0) + 1 end
  end
  return refused
end

local function put_handler_back(scope)
  local loop = async.get_running_loop()
  if loop:get_exception_handler() ~= scope.handler then loop:set_exception_handler(scope.handler) end
end

-- A clock or an order that the test has changed and left so; what it was is put back. (An order that had a seed gets a
-- new one with each test.)
local function put_time_back(scope)
  local left, clock = {}, probe.clock()
  if clock ~= scope.clock then
    left[1] = ("  a %s clock, which was %s before"):format(clock, scope.clock)
    probe.clock(scope.clock)
  end
  if is_shuffled() and not scope.shuffled then
    left[#left + 1] = "  a shuffled order of ready tasks"
    probe.order(false)
  end
  return left
end

-- Adds the texts of a list to the lines, with a title above them.
local function add(lines, title, list)
  if #list == 0 then return end
  lines[#lines + 1] = title
  table.move(list, 1, #list, #lines + 1, lines)
end

-- watch.close(scope, accept) -> text or nil: ends the scope; what was left behind and what was reported.
-- accept(entry or nil, context or nil): true if it need not be told, as long as it ends when it is asked to.
function watch.close(scope, accept)
  local left, reported, refused = put_time_back(scope), {}, {}
  local list = watch.anything(scope) and settle(scope, accept) or {}
  for _, entry in ipairs(list) do
    if not (accept and accept(entry)) then left[#left + 1] = describe_left(entry) end
  end
  for _, context in ipairs(scope.reports) do
    if not (accept and accept(nil, context)) then reported[#reported + 1] = describe_report(context) end
  end
  if #list > 0 then refused = clear(scope, list) end
  put_handler_back(scope)
  for i = #scopes, 1, -1 do
    if scopes[i] == scope then table.remove(scopes, i) break end
  end
  local lines = {}
  add(lines, "left behind:", left)
  add(lines, "reported:", reported)
  if accept and #left == 0 then add(lines, "not ended by a cancel:", refused) end
  return #lines > 0 and table.concat(lines, "\n") or nil
end

return watch

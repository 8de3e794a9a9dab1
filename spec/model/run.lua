-- Running a program of the model fuzz on one side, engine or model, and holding the two against each other.
--
-- The log of a run has one line for each operation that came to its end, in the order of their ends: its number, the
-- time, what it gave. Errors of the program's own making are told apart by identity; of those that the runtime makes,
-- the class is compared, for a CancelledError the message, too, for a TimeoutError its cause.
--
-- Reports of errors that nobody has retrieved are compared without their order and time: when an object is found to be
-- out of reach depends on the collector.
local run = {}

local MOST_EVENTS = 10000 -- beyond that something runs for ever

-- ---- what a log says about a value ----

local names -- of the objects and errors of the present run

local describe

local function describe_error(e)
  local text = e.name
  if text == "CancelledError" or (text == "Error" and e.message == "nil") then
    return text .. "(" .. tostring(rawget(e, "message")) .. ")"
  elseif text == "TimeoutError" then
    local cause = rawget(e, "cause")
    return cause and text .. "<-" .. describe(cause) or text
  elseif text == "ExceptionGroup" then
    local list = {}
    for i, inner in ipairs(e.errors) do list[i] = describe(inner) end
    return text .. "{" .. table.concat(list, ", ") .. "}"
  end
  return text
end

function describe(v)
  local kind = type(v)
  if kind == "string" then return v end
  if kind ~= "table" and kind ~= "userdata" then return tostring(v) end
  local name = names[v]
  if kind == "userdata" then return name or "object" end
  if getmetatable(v) then
    if type(v.name) ~= "string" then return name or "object" end
    local context = rawget(v, "context")
    return (name or describe_error(v)) ..
      (context ~= nil and "~" .. (type(context) == "table" and context.name or type(context)) or "")
  end
  if name then return name end
  local list, last = {}, v.n or 0
  -- The second result of gather has holes and no n.
  for k in pairs(v) do last = math.type(k) == "integer" and k > last and k or last end
  for i = 1, last do list[i] = describe(v[i]) end
  return "{" .. table.concat(list, ", ") .. "}"
end

-- ---- what a program is given ----

local forgets = { __newindex = function() end }

-- The order of a PriorityQueue.
local function rank_of(v) return type(v) == "table" and v.rank or v end
local function less(a, b) return rank_of(a) < rank_of(b) end

-- The helpers of one run over `async`; `state` collects.
local function helpers(async, state)
  local events, time = state.events, state.loop
  local function log(n, ...)
    local count = state.count + 1
    state.count = count
    if count > MOST_EVENTS then error("the program does not end", 0) end
    local values = select("#", ...)
    if values == 0 then
      events[count] = n .. " @" .. time:time()
    elseif values == 1 then
      events[count] = n .. " @" .. time:time() .. " " .. describe((...))
    else
      local list = { ... }
      for i = 1, values do list[i] = describe(list[i]) end
      events[count] = n .. " @" .. time:time() .. " " .. table.concat(list, ", ")
    end
  end
  local function named(name, object)
    if not names[object] then names[object] = name end
    return object
  end
  local errors = {
    string = function(n) return "e" .. n end,
    number = function(n) return n end,
    ["false"] = function() return false end,
    ["nil"] = function() return nil end,
    table = function(n) return named("e" .. n .. "{}", { n = n }) end,
    cancelled = function(n) return async.CancelledError("e" .. n) end,
    object = function(n) return named("e" .. n .. "!", async.ValueError("e" .. n)) end,
  }
  local function err(n, kind) return errors[kind](n) end
  -- Closed by force, a closer does nothing and says nothing: below Lua 5.4.8 it may be told another error than there
  -- was, and its own error calls whatever lies where a message handler was.
  local function forced() return not time:is_running() end
  local end_of = {}
  function end_of.__close(mark, e)
    if not forced() then log(mark[1], "ends", e) end
  end
  local function ended(n) return setmetatable({ n }, end_of) end
  local call = { __close = function(c, e) c.fn(e) end }
  local function closer(fn) return setmetatable({ fn = fn }, call) end
  local await = { __await = function(a) return a.fn() end }
  local function awaitable(fn) return setmetatable({ fn = fn }, await) end
  local function item(rank, n) return named("item " .. n, { rank = rank }) end
  return log, err, ended, named, closer, awaitable, forced, item, less
end

local function by_text(a, b) return a < b end

-- How a task or future stands at the end; with `retrieve`, what it ended with.
local function final_state(name, f, retrieve)
  local text = name .. " done " .. tostring(f:done()) .. " cancelled " .. tostring(f:cancelled())
  if f.cancelling then text = text .. " requests " .. f:cancelling() end
  if not retrieve then return text end
  local results = table.pack(pcall(f.result, f))
  for i = 1, results.n do results[i] = describe(results[i]) end
  return text .. " " .. table.concat(results, ", ", 1, results.n)
end

local function sweep(slots_of, retrieve)
  local list = {}
  for letter, objects in pairs(slots_of) do
    for n, f in pairs(objects) do list[#list + 1] = final_state(letter .. "[" .. n .. "]", f, retrieve) end
  end
  table.sort(list, by_text)
  return table.concat(list, "\n")
end

local COUNTS = { "tasks", "sleepers", "timers", "callbacks", "handles", "requests", "held" }

-- What a closed loop of the engine still counts, or nil.
local function leftovers(loop)
  local stats, list = loop:stats(), {}
  for _, name in ipairs(COUNTS) do
    if stats[name] ~= 0 then list[#list + 1] = stats[name] .. " " .. name end
  end
  return list[1] and table.concat(list, ", ")
end

--[[ Runs the chunk over `async` -> { events, count, reports, tail, outcome, final, left }.
`retrieve`: whether the results are looked at when all is over, or left to be reported. ]]
function run.side(async, chunk, retrieve)
  names = setmetatable({}, { __mode = "k" })
  local state = { events = {}, count = 0, lost = {}, told = {} }
  local function handler(_, context)
    local kind = context.kind
    local text = (kind or "said") .. " " .. describe(context.exception) ..
      (context.future and " of " .. describe(context.future) or "") .. (kind and "" or " " .. context.message)
    if kind == "unretrieved" then
      state.lost[#state.lost + 1] = text
    elseif kind == "destroyed" or kind == "shutdown" then
      state.told[#state.told + 1] = text
    else
      state.count = state.count + 1
      state.events[state.count] = "report " .. text
    end
  end
  local runner = async.Runner { clock = "virtual", exception_handler = handler }
  local loop = runner:get_loop()
  state.loop = loop
  local T, F = {}, {}
  local helps = table.pack(helpers(async, state))
  local arguments = { loop, T, F }
  for i = 1, 10 do arguments[3 + i] = {} end -- the other slots
  table.move(arguments, 1, #arguments, helps.n + 1, helps)
  local results = table.pack(pcall(runner.run, runner, function()
    return chunk(async, table.unpack(helps))()
  end))
  for i = 1, results.n do results[i] = describe(results[i]) end
  state.outcome = table.concat(results, ", ", 1, results.n)
  state.final = sweep({ T = T, F = F }, retrieve)
  -- From here on nobody can ask any more, so what was not retrieved is reported when the loop closes.
  for _, list in ipairs { T, F } do
    for k in pairs(list) do list[k] = nil end
    setmetatable(list, forgets)
  end
  runner:close()
  state.left = loop.stats and leftovers(loop)
  table.sort(state.lost, by_text)
  state.loop = nil
  return state
end

-- ---- holding the two against each other ----

local function compare_lists(what, a, b)
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return { what = what, at = i, engine = a[i], model = b[i] } end
  end
end

-- The first difference of two runs, or nil: what, at, engine, model.
function run.difference(engine, model)
  local d = compare_lists("event", engine.events, model.events)
  if d then return d end
  if engine.outcome ~= model.outcome then
    return { what = "outcome of main", engine = engine.outcome, model = model.outcome }
  end
  d = compare_lists("report at the end", engine.told, model.told) or
    compare_lists("report of what nobody retrieved (in no order)", engine.lost, model.lost)
  if d then return d end
  if engine.final ~= model.final then
    return { what = "final states", engine = engine.final, model = model.final }
  end
  if engine.left then return { what = "left on the closed loop", engine = engine.left, model = "nothing" } end
end

return run

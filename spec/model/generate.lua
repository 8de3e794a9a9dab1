-- Random programs for the model fuzz, as trees for spec/model/program.lua.
--
-- Law: everything is drawn from one source that the seed sets, in one order; so a seed and a size say it all.
local generate = {}

local random = math.random

local DELAYS = { "0", "0", "0.001", "0.001", "0.002", "0.003", "0.005", "0.01" }
local LIMITS = { "0", "0.001", "0.001", "0.002", "0.003", "0.005", "0.02", "nil" }
local ERRORS = { "string", "object", "object", "object", "table", "nil", "cancelled", "number", "false" }
local RESULTS = { ", 1", ", nil", ", 1, nil, 3", "" }
local RETURNS = { "N", "N", "N, nil, \"x\"", "nil", "nil, N", "async.ValueError(\"returned\"), N" }

local function one_of(list) return list[random(#list)] end

-- An item of a queue: a number, or what can be told from others of the same rank.
local function item(op) op.arg = random(3) == 1 and tostring(random(3)) or "item(" .. random(2) .. ", N)" end

local function gather_options()
  local list = {}
  if random(3) == 1 then list[1] = "return_exceptions = true" end
  if random(3) == 1 then list[#list + 1] = "cancel_on_error = true" end
  return list[1] and table.concat(list, ", ")
end

local Maker = {}
Maker.__index = Maker

function Maker:new_slot(letter)
  local n = (self.slots[letter] or 0) + 1
  self.slots[letter] = n
  return letter .. "[" .. n .. "]"
end

-- A slot of that letter that some part of the program fills, or nil.
function Maker:slot(letter)
  local n = self.slots[letter]
  return n and letter .. "[" .. random(n) .. "]"
end

-- A task, future or shield; with `own`, never nil.
function Maker:awaitable()
  local t = self.slots.T
  if t and random(3) > 1 then
    -- Those made lately are more likely to be still at work.
    local n = math.max(1, t - random(0, 3))
    return "T[" .. (random(3) == 1 and random(t) or n) .. "]"
  end
  return self:slot "F"
end

function Maker:task_or_future() return self:awaitable() or "F[1]" end

-- ---- blocks ----

local OPS, CALLBACK_OPS, WAITS, MAKE_TASK -- below

-- A list of entries, each as often as its weight says, so that drawing one is one number.
local function spread(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    for _ = 1, entry[1] do list[#list + 1] = entry end
  end
  return list
end

-- One operation, or nil: deep inside there are none that hold blocks.
function Maker:op(ops)
  local entry = one_of(ops == OPS and self.theme and random(2) == 1 and self.theme or ops)
  if entry.nests and self.depth > 5 then return nil end
  self.left = self.left - 1
  local op = entry[3](self, entry[2])
  if not op or not WAITS[op.op] or random(3) > 1 then return op end
  -- What might wait for ever often does so for a while only.
  self.left = self.left - 1
  local scope = { op = "timeout", fills = self:new_slot "S", arg = one_of(LIMITS), block = { op } }
  return random(2) == 1 and scope or { op = "pcall", block = { scope } }
end

function Maker:block(most, in_callback)
  local block, ops = {}, in_callback and CALLBACK_OPS or OPS
  self.depth = self.depth + 1
  for _ = 1, random(1, most) do
    if self.left <= 0 then break end
    block[#block + 1] = self:op(ops)
    if not in_callback and random(40) == 1 then self:crowd(block) end
    if not in_callback and random(60) == 1 then self:chain(block) end
  end
  self.depth = self.depth - 1
  return block
end

-- What waits for an object, and what helps it on. A condition's notify does that with the lock held.
local CROWDS = {
  L = { { "guard", "acquire" }, { "release" } }, P = { { "guard", "acquire" }, { "release" } },
  C = { { "condition_wait" }, { "notify" } }, Q = { { "get", "get", "put" }, { "put_nowait", "get_nowait" } },
  V = { { "wait_event" }, { "set", "clear" } }, B = { { "barrier" }, { "abort", "reset", "barrier_state" } },
  F = { { "await" }, { "set_result" } },
}

-- Several tasks wait for one object; then in one turn it is given to some, and some are cancelled.
function Maker:crowd(block)
  local letter = one_of { "L", "P", "C", "Q", "V", "B", "F" }
  local object, first = self:slot(letter), (self.slots.T or 0) + 1
  if not object then return end
  local crowd, count = CROWDS[letter], random(2, 4)
  local function add(list, op)
    self.left = self.left - 1
    list[#list + 1] = op
  end
  local function simple(name)
    local op = { op = name, on = object, arg = name == "notify" and "" or name == "set_result" and ", 1" or "1",
      block = {} }
    if letter == "Q" then item(op) end
    return op
  end
  for _ = 1, count do
    local waits = simple(one_of(crowd[1]))
    if waits.op == "guard" then add(waits.block, { op = "sleep", arg = one_of(DELAYS) }) end
    add(block, { op = "spawn", fills = self:new_slot "T", block = { waits } })
    self.left = self.left - 1
  end
  add(block, { op = "sleep", arg = one_of { "0", "0", "0.001" } })
  for _ = 1, random(3) do
    local helps = simple(one_of(crowd[2]))
    local cancel = { op = "cancel", on = "T[" .. first + random(0, count - 1) .. "]", msg = random(2) == 1 }
    if random(3) == 1 then
      add(block, cancel)
    else
      add(block, helps)
      local list = helps.op == "notify" and helps.block or block
      -- With the lock held, who was notified queues for it meanwhile.
      if helps.op == "notify" and random(2) == 1 then add(list, { op = "sleep", arg = "0" }) end
      if random(2) == 1 then add(list, cancel) end
    end
  end
end

-- A task that ends in its own time, whatever is asked of it, one or two that wait for it in some way, and what happens
-- to them from turn to turn.
function Maker:chain(block)
  local first = (self.slots.T or 0) + 1
  local function add(list, op)
    self.left = self.left - 1
    list[#list + 1] = op
    return op
  end
  local function sleep() return { op = "sleep", arg = one_of { "0", "0", "0.001" } } end
  local function spawn(body) return { op = "spawn", fills = self:new_slot "T", block = body, returns = "N" } end
  local inner = { sleep(), { op = "pcall", block = { sleep() } }, sleep() }
  if random(3) == 1 then inner[4] = { op = "throw", arg = one_of(ERRORS) } end
  add(block, spawn(inner))
  for _ = 1, random(2) do
    local on = "T[" .. self.slots.T .. "]"
    local body = one_of {
      { { op = "await", on = on } }, { { op = "await", on = on } },
      { { op = "pcall", block = { { op = "await", on = on } } } },
      { { op = "gather", args = { { ref = on } }, options = gather_options() } },
      { { op = "wait_for", args = { { ref = on } }, arg = one_of(LIMITS) } },
      { { op = "race", args = { { ref = on }, { ref = "F[1]" } } } },
      { { op = "timeout", fills = self:new_slot "S", arg = one_of(LIMITS), block = { { op = "await", on = on } } } },
      { { op = "pcall", block = { sleep() } },
        { op = "timeout", fills = self:new_slot "S", arg = one_of(DELAYS), block = { { op = "await", on = on } } } },
      { { op = "pcall", block = { { op = "gather", args = { { ref = on } }, options = gather_options() } } } },
      { { op = "group", fills = self:new_slot "G", block = { { op = "await", on = on } } } },
    }
    local scope = body[1]
    if scope.op == "group" then
      local task = { op = "group_spawn", on = scope.fills, fills = self:new_slot "T", block = inner }
      table.insert(scope.block, 1, task)
      scope.block[2].on = one_of { on, task.fills }
    end
    body[#body + 1] = sleep()
    add(block, spawn(body))
  end
  for _ = 1, random(2, 6) do
    local on = "T[" .. random(first, self.slots.T) .. "]"
    add(block, random(2) == 1 and sleep() or { op = one_of { "cancel", "cancel", "uncancel", "state" }, on = on })
  end
end

-- What main does: it starts tasks, pokes at things, and survives what it tries itself.
function Maker:main()
  local block = {}
  self.depth = 1
  while self.left > 0 do
    local r = random(10)
    if r <= 4 then
      self.left = self.left - 1
      block[#block + 1] = MAKE_TASK(self, "spawn")
    elseif r <= 6 then
      local op = self:op(self.pokes or CALLBACK_OPS)
      if op and op.op ~= "throw" then block[#block + 1] = op end
    elseif r <= 8 then
      self.left = self.left - 1
      block[#block + 1] = { op = "sleep", arg = one_of(DELAYS) }
    elseif random(12) == 1 then
      block[#block + 1] = self:op(OPS)
    else
      -- Not for ever: who waits in vain would end the program.
      self.left = self.left - 2
      local inside = {}
      local kind = random(8)
      if kind <= 2 then self:crowd(inside) elseif kind <= 4 then self:chain(inside) else inside = self:block(3) end
      local scope = { op = "timeout", fills = self:new_slot "S", arg = one_of(DELAYS), block = inside }
      block[#block + 1] = { op = "pcall", block = random(4) > 1 and { scope } or inside }
    end
  end
  if random(4) > 1 then block[#block + 1] = { op = "sleep", arg = "0.05" } end
  return block
end

local function plain(_, name) return { op = name } end

local function on(letter, more)
  return function(m, name)
    local op = { op = name, on = m:slot(letter) }
    if not op.on then return nil end
    if more then more(op, m) end
    return op
  end
end

local function on_any(more)
  return function(m, name)
    local op = { op = name, on = m:task_or_future() }
    if more then more(op, m) end
    return op
  end
end

local function nest(more, most)
  return function(m, name)
    local op = { op = name }
    if more then more(op, m) end
    op.block = m:block(most or 4)
    return op
  end
end

local function arguments(m, most, functions)
  local args = {}
  for i = 1, random(functions == 0 and 1 or 0, most) do
    local ref = m:awaitable()
    if ref and random(3) > 1 then
      args[i] = { ref = ref }
    else
      args[i] = { block = m:block(3), returns = one_of(RETURNS) }
    end
  end
  if #args == 0 and random(4) > 1 then args[1] = { block = m:block(3), returns = one_of(RETURNS) } end
  return args
end

local function of_list(options)
  return function(m, name)
    local op = { op = name, args = arguments(m, 4) }
    op.options = options and options(m)
    return op
  end
end

local function body(op, m)
  op.block = m:block(5)
  op.returns = random(5) > 1 and one_of(RETURNS) or nil
  -- A task is given its number as its argument.
  if op.op == "spawn" and random(5) == 1 then op.returns = "nil, ..." end
end

local function message(op) op.msg = random(2) == 1 end
local function callback(op, m) op.block = m:block(2, true) end

local function wait_options()
  local list = {}
  if random(2) == 1 then list[1] = "timeout = " .. one_of(LIMITS) end
  if random(2) == 1 then
    list[#list + 1] = "return_when = async." .. one_of { "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED" }
  end
  return list[1] and table.concat(list, ", ")
end

local function timeout_option() return random(3) == 1 and "timeout = " .. one_of(LIMITS) or nil end

local function spawn(m, name)
  local op = { op = name, fills = m:new_slot "T" }
  if name == "group_spawn" then
    op.on = m:slot "G"
    if not op.on then op.op = "spawn" end
  end
  body(op, m)
  return op
end

local function one_argument(m, name)
  local op = { op = name, arg = one_of(LIMITS) }
  local ref = m:awaitable()
  if ref and random(3) > 1 then
    op.args = { { ref = ref } }
  else
    op.args = { { block = m:block(4), returns = one_of(RETURNS) } }
  end
  if name == "shield" then op.fills = m:new_slot "F" end
  return op
end

local function fill(letter, more)
  return function(op, m)
    op.fills = m:new_slot(letter)
    if more then more(op, m) end
  end
end

local function delay(op) op.arg = one_of(DELAYS) end
local function limit(op) op.arg = one_of(LIMITS) end

local function with_cleanup(m, name)
  local op = { op = name, block = m:block(4) }
  op.cleanup = m:block(2)
  return op
end

-- What may stand in a callback as well: nothing that waits. { weight, name, maker }
CALLBACK_OPS = {
  { 8, "cancel", on_any(message) }, { 6, "set_result", on("F", function(op) op.arg = one_of(RESULTS) end) },
  { 3, "set_exception", on("F", function(op) op.arg = one_of(ERRORS) end) }, { 3, "state", on_any() },
  { 2, "result", on_any() }, { 2, "exception", on_any() }, { 3, "set", on "V" }, { 1, "clear", on "V" },
  { 3, "uncancel", on "T" },
  { 2, "release", on "L" }, { 2, "release", on "P" }, { 2, "put_nowait", on("Q", item) },
  { 2, "get_nowait", on "Q" }, { 2, "throw", function(_, name) return { op = name, arg = one_of(ERRORS) } end },
  { 2, "spawn", spawn, nests = true }, { 1, "task_done", on "Q" }, { 1, "sleep", function(_, name)
    return { op = name, arg = "0" }
  end },
}

OPS = {
  { 30, "sleep", function(_, name) return { op = name, arg = one_of(DELAYS) } end }, { 4, "yield", plain },
  { 34, "spawn", spawn, nests = true }, { 20, "await", on_any() }, { 14, "cancel", on_any(message) },
  { 4, "cancel_self", function(_, name) return { op = name, msg = random(2) == 1 } end },
  { 3, "cancelling", on "T" }, { 2, "uncancel", on "T" }, { 5, "uncancel_self", plain }, { 4, "state", on_any() },
  { 3, "result", on_any() }, { 3, "exception", on_any() },
  { 10, "set_result", on("F", function(op) op.arg = one_of(RESULTS) end) },
  { 4, "set_exception", on("F", function(op) op.arg = one_of(ERRORS) end) },
  { 5, "add_callback", on_any(fill("K", callback)), nests = true },
  { 2, "remove_callback", on_any(function(op, m)
    op.also = m:slot "K" or "K[1]"
    op.arg = op.also
  end) },
  { 4, "call_soon", nest(fill("H", callback)), nests = true },
  { 4, "call_later", nest(fill("H", function(op, m) delay(op) callback(op, m) end)), nests = true },
  { 1, "call_at", function(m, name) return { op = name, fills = m:new_slot "H", arg = one_of(DELAYS) } end },
  { 2, "cancel_handle", on "H" }, { 3, "call", function(m, name)
    local op = { op = name }
    body(op, m)
    return op
  end, nests = true },
  { 1, "metaawait", function(m, name)
    local op = { op = name }
    body(op, m)
    return op
  end, nests = true },
  { 14, "pcall", nest(), nests = true }, { 6, "async_pcall", nest(), nests = true },
  { 2, "xpcall", nest(), nests = true },
  { 5, "throw", function(_, name) return { op = name, arg = one_of(ERRORS) } end },
  { 6, "defer", with_cleanup, nests = true }, { 4, "close", with_cleanup, nests = true },
  { 9, "timeout", nest(fill("S", limit)), nests = true }, { 2, "timeout_at", nest(fill("S", delay)), nests = true },
  { 3, "reschedule", on("S", function(op) op.arg = one_of { "nil", "loop:time()", "loop:time() + 0.002", "0" } end) },
  { 9, "group", nest(fill "G"), nests = true }, { 10, "group_spawn", spawn, nests = true },
  { 8, "gather", of_list(gather_options), nests = true }, { 6, "wait", of_list(wait_options), nests = true },
  { 5, "race", of_list(), nests = true }, { 8, "wait_for", one_argument, nests = true },
  { 5, "shield", one_argument, nests = true },
  { 4, "map", function(m, name)
    local op = { op = name, arg = one_of { "", "1", "1, 2", "3, nil, 1", "1, 2, 3" } }
    op.options = random(2) == 1 and "limit = " .. random(2) or nil
    op.block = m:block(2)
    op.returns = one_of { "x", "i", "x, i" }
    return op
  end, nests = true },
  { 4, "as_completed", function(m, name)
    local op = { op = name, args = arguments(m, 3), options = timeout_option(), breaks = random(5) == 1 }
    op.block = random(2) == 1 and m:block(1) or {}
    return op
  end, nests = true },
  { 7, "guard", on("L", function(op, m) op.block = m:block(3) end), nests = true },
  { 3, "guard", on("P", function(op, m) op.block = m:block(3) end), nests = true },
  { 3, "acquire", on "L" }, { 4, "acquire", on "P" }, { 3, "release", on "L" }, { 4, "release", on "P" },
  { 1, "locked", on "L" }, { 4, "wait_event", on "V" }, { 4, "set", on "V" }, { 2, "clear", on "V" },
  { 5, "condition_wait", on("C", function(op, m) op.block = m:block(2) end), nests = true },
  { 2, "condition_wait_for", on("C", function(op) op.arg = one_of { "0", "1", "2" } end) },
  { 5, "notify", on("C", function(op, m)
    op.arg = one_of { "", "2" }
    op.block = m:block(2)
  end), nests = true }, { 2, "notify_all", on "C" },
  { 6, "barrier", on "B" }, { 1, "barrier_state", on "B" }, { 1, "abort", on "B" }, { 1, "reset", on "B" },
  { 6, "put", on("Q", item) }, { 7, "get", on "Q" }, { 4, "put_nowait", on("Q", item) },
  { 3, "get_nowait", on "Q" }, { 1, "join", on "Q" },
  { 2, "task_done", on "Q" }, { 1, "qsize", on "Q" },
  { 1, "shutdown", on("Q", function(op) op.arg = one_of { "", "true" } end) },
  { 2, "iter", on("Q", function(op, m) op.block = m:block(2) end), nests = true },
  { 1, "often_wait", on "V" }, { 1, "often_acquire", on "P" }, { 1, "often_await", on_any() },
  { 1, "often_get", on "Q" }, { 1, "often_join", on_any() }, { 1, "tasks", plain }, { 1, "report", plain },
  { 2, "again", nest(function(op) op.arg = one_of { "2", "2", "3" } end, 3), nests = true },
}
OPS, CALLBACK_OPS, MAKE_TASK = spread(OPS), spread(CALLBACK_OPS), spawn
WAITS = { await = true, acquire = true, wait_event = true, condition_wait = true, condition_wait_for = true,
  barrier = true, put = true, get = true, join = true, iter = true, gather = true, wait = true, race = true }

-- What a program has besides tasks: every program some of it.
local OBJECTS = {
  { "L", "Lock", { "" } }, { "P", "Semaphore", { "1", "2", "0" } }, { "P", "BoundedSemaphore", { "1", "2" } },
  { "V", "Event", { "" } }, { "C", "Condition", { "", "L[1]" } }, { "B", "Barrier", { "1", "2", "2", "3" } },
  { "Q", "Queue", { "", "1", "2" } }, { "Q", "LifoQueue", { "", "2" } },
  { "Q", "PriorityQueue", { "nil, less", "1, less", "3, less" } },
}

local function of_letter(letter)
  local list = {}
  for _, kind in ipairs(OBJECTS) do
    if kind[1] == letter then list[#list + 1] = kind end
  end
  return list
end

-- Half of the programs are about one thing: it stands in the way of many tasks, which are cancelled meanwhile.
-- { operations, those that main pokes with, objects }
local function theme(names, pokes, ...)
  local function pick(list, words)
    local wanted, picked = {}, {}
    for word in words:gmatch("%S+") do wanted[word] = true end
    for _, entry in ipairs(list) do
      if wanted[entry[2]] then picked[#picked + 1] = entry end
    end
    return picked
  end
  return { ops = pick(OPS, names), pokes = pick(CALLBACK_OPS, pokes), objects = { ... } }
end

local THEMES = {
  theme("guard acquire release cancel sleep", "release cancel", "L", "P"),
  theme("guard acquire release cancel timeout", "release cancel", "P"),
  theme("condition_wait condition_wait_for notify notify_all guard cancel", "cancel release", "C"),
  theme("put get put_nowait get_nowait task_done join shutdown iter cancel", "put_nowait get_nowait cancel", "Q"),
  theme("barrier abort reset wait_event set clear cancel", "set cancel clear", "B", "V"),
  theme("timeout reschedule wait_for uncancel_self cancel cancel_self", "cancel set_result"),
  theme("group group_spawn throw cancel await async_pcall", "cancel throw spawn"),
  theme("gather wait race map as_completed shield cancel throw", "cancel set_result set_exception"),
  theme("await cancel shield set_result set_exception add_callback exception", "cancel set_result state"),
}

local SIZES = { 8, 20, 40, 80, 120 }

--[[ A program of about `size` operations (or as the seed says), drawn from `seed`:
{ objects, block, returns, retrieve }. ]]
function generate.program(seed, size)
  math.randomseed(seed)
  local own = one_of(SIZES)
  local m = setmetatable({ slots = {}, left = size or own, depth = 0 }, Maker)
  local objects = {}
  local function add(letter, class, arg)
    objects[#objects + 1] = { name = m:new_slot(letter), class = class, arg = arg }
  end
  for _ = 1, random(3) do add("F", "Future") end
  add("L", "Lock")
  local about = random(2) == 1 and one_of(THEMES)
  for _ = 1, random(0, about and 1 or 4) do
    local kind = one_of(OBJECTS)
    add(kind[1], kind[2], one_of(kind[3]))
  end
  if about then
    m.theme, m.pokes = about.ops, about.pokes
    for _, letter in ipairs(about.objects) do
      local kind = one_of(of_letter(letter))
      add(letter, kind[2], one_of(kind[3]))
    end
  end
  local returns, retrieve = one_of { "0", "0, nil, 1", "nil" }, random(4) > 1
  return { objects = objects, block = m:main(), returns = returns, retrieve = retrieve }
end

return generate

-- A storm over everything in io/: tasks that draw calls and objects of all kinds at random, with timeouts, cancels,
-- closes under whoever waits, finalisers that close, and the collector.
--
-- Laws: a seed replays what is drawn, not the kernel's timing. What the calls are expected to throw is swallowed by
-- class and by code; anything else ends the storm. Afterwards the loop, the descriptors and the children are what they
-- were before.
local async = require "lunation"
local children = require "spec.support.children"
local helper = require "spec.helper"
local operations = require "spec.support.storm_operations"
local probe = require "lunation.probe"

local storm = {}

-- What comes of sharing objects that are of the wrong kind, or busy, says one of these.
local SHARED = {
  "another task", "served already", "has TLS already", "shut down for writing", "without TLS", "no TLS",
  "no descriptor of its own", "handshake is not over", "has read ahead", "bytes to send", " is in ",
}

-- What the system says of objects that are closed, gone, full or of the wrong kind for what was drawn.
local CODES = {}
for code in ([[
  EBADF ECANCELED EPIPE ECONNRESET ECONNREFUSED ECONNABORTED ENOTCONN ETIMEDOUT EOF ENOENT EEXIST ENOTDIR EISDIR
  ENOTEMPTY ESRCH ESPIPE ETXTBSY EACCES EADDRINUSE EDESTADDRREQ ENOTSUP EMSGSIZE ENOBUFS EAGAIN EAI_CANCELED ENXIO
]]):gmatch "%S+" do CODES[code] = true end

local CLASSES = {
  CancelledError = true, TimeoutError = true, SSLError = true, LimitOverrunError = true, IncompleteReadError = true,
}

-- Whether the error is one that a call in a storm may throw.
function storm.expected(e)
  if type(e) ~= "table" then return type(e) == "string" and e:find("of the storm", 1, true) ~= nil end
  if CLASSES[e.name] or e.name == "OSError" and CODES[e.code] then return true end
  -- Truncating what is open for reading; reading a folder behind its end.
  if e.name == "OSError" and e.code == "EINVAL" then return e.message:find "^[trs]%a+ /" ~= nil end
  if e.name == "ExceptionGroup" then
    for _, each in ipairs(e.errors) do
      if not storm.expected(each) then return false end
    end
    return true
  end
  if e.name ~= "RuntimeError" and e.name ~= "ValueError" and e.name ~= "InvalidStateError" then return false end
  for _, text in ipairs(SHARED) do
    if e.message:find(text, 1, true) then return true end
  end
  return false
end

-- Numbers drawn from a seed (xorshift): random(n) gives 1 to n.
function storm.random(seed)
  local x = (seed * 0x9E3779B97F4A7C15) ~ 0x2545F4914F6CDD1D
  return function(n)
    x = x ~ (x << 13)
    x = x ~ (x >> 7)
    x = x ~ (x << 17)
    return (x >> 11) % n + 1
  end
end

local LIVE = { "tasks", "sleepers", "timers", "callbacks", "handles", "requests" }

-- What is alive in the loop, as a table of numbers.
local function alive()
  local all, picture = async.get_running_loop():stats(), {}
  for _, name in ipairs(LIVE) do picture[name] = all[name] end
  return picture
end

local function same(a, b)
  for name, n in pairs(a) do
    if b[name] > n then return false end
  end
  return true
end

-- One call in a task of its own, which others may cancel, for at most a while.
local function step(world, random)
  local name, fn = world:draw(random)
  local limit = ({ 0, 0.0002, 0.001, 0.004, 0.02 })[random(5)]
  local task = async.create_task(function()
    local _ <close> = async.timeout(limit)
    return fn(world, random)
  end)
  world.calls[name] = (world.calls[name] or 0) + 1
  world.running[#world.running + 1] = task
  async.wait { task }
  for i, other in ipairs(world.running) do
    if other == task then
      table.remove(world.running, i)
      break
    end
  end
  if task:cancelled() then return end
  local e = task:exception()
  if e ~= nil and not storm.expected(e) then
    world.failure = world.failure or ("%s: %s\n%s"):format(name, tostring(e), task:traceback() or "")
  end
end

-- What is told to the exception handler; nothing of it is kept, or it would keep what is to be collected.
local function judge(world, context)
  local e = context.exception
  if context.message:find("was never closed", 1, true) or storm.expected(e) then return end
  world.failure = world.failure or ("reported: %s: %s"):format(context.message, tostring(e))
end

-- All tasks have ended, all objects are closed: what is left?
local function settle(before, patience)
  local now
  local ok = helper.eventually(function()
    collectgarbage()
    now = alive()
    return same(before, now)
  end, patience)
  if ok then return nil end
  local lines = { "left behind:" }
  for name, n in pairs(now) do
    if n > before[name] then lines[#lines + 1] = ("%s %d (before: %d)"):format(name, n, before[name]) end
  end
  for _, row in ipairs(probe.live()) do
    lines[#lines + 1] = ("%s %s %s"):format(row.kind, row.text, row.where or "")
  end
  return table.concat(lines, "\n")
end

-- The body of a storm: every task makes its steps, until one fails.
local function rage(world, options)
  local workers = {}
  for i = 1, options.tasks do
    local random = storm.random(options.seed * 1000 + i)
    workers[i] = async.create_task(function()
      for _ = 1, options.steps do
        if world.failure then return end
        step(world, random)
      end
    end)
  end
  local _ <close> = async.defer(function()
    for _, worker in ipairs(workers) do worker:cancel() end
    for _, task in ipairs(world.running) do task:cancel() end
    async.wait(workers)
  end)
  async.gather(workers)
end

-- storm.run(options) -> how often each call was made. options: seed, tasks, steps, dir (an empty folder), certificates,
-- patience (seconds for the end). Throws what went wrong, with the seed.
function storm.run(options)
  local loop = async.get_running_loop()
  local handler = loop:get_exception_handler()
  local before, kin = alive(), children.list()
  local world = operations.world(options)
  loop:set_exception_handler(function(_, context) judge(world, context) end)
  do
    local _ <close> = async.defer(function()
      world:close()
      probe.short_io()
    end)
    rage(world, options)
  end
  local failure
  for _, task in ipairs(world.background) do
    if not task:done() then task:cancel() end
  end
  if #world.background > 0 then async.wait(world.background) end
  for _, task in ipairs(world.background) do
    local e = not task:cancelled() and task:exception()
    if e and not storm.expected(e) then failure = failure or "in the background: " .. tostring(e) end
  end
  world:close()
  world.background, world.running = nil, nil
  failure = world.failure or failure or settle(before, options.patience)
  if not failure and not children.eventually_none(kin) then failure = "a child is left" end
  helper.turns()
  loop:set_exception_handler(handler)
  failure = failure or world.failure
  if failure then error(("seed %d: %s"):format(options.seed, failure), 0) end
  return world.calls
end

-- storm.abandon(options) -> what the storm had: one in a run of its own, which ends in the middle of it, by its return
-- or by an error: the loop closes over all that is open, while requests are in the pool. options as run's, without
-- patience. For programs without a loop. Throws what went wrong before that, with the seed.
function storm.abandon(options)
  local world
  local random = storm.random(options.seed)
  local ok, e = pcall(async.run, function()
    async.get_running_loop():set_exception_handler(function(_, context) judge(world, context) end)
    world = operations.world(options)
    async.create_task(rage, world, options)
    async.sleep(random(40) * 0.001)
    if random(2) == 1 then error("the end of the storm", 0) end
  end)
  world.over = true
  for _, list in ipairs { world.background, world.running } do
    for _, task in ipairs(list) do pcall(task.exception, task) end -- nobody else looks at them
  end
  local failure = world.failure or not ok and not storm.expected(e) and tostring(e)
  if failure then error(("seed %d: %s"):format(options.seed, failure), 0) end
  return world
end

return storm

-- One simulated run: a server, several clients and somebody who makes trouble, on streams in memory and a virtual clock.
-- What happens follows from the seed alone. run(seed, plant) -> { trace, problems }: a list of lines "time who what",
-- and a list of texts about what should not have been.
local async = require "lunation"
local memory = require "lunation.memory"
local client = require "spec.simulation.client"
local server = require "spec.simulation.server"
local wire = require "spec.simulation.wire"

local world = {}

-- Numbers of our own: xorshift64*, the same on every Lua.
local function random_source(seed)
  local x = (seed + 1) * 0x9E3779B97F4A7C15 | 1
  local function next_number()
    x = x ~ x >> 12
    x = x ~ x << 25
    x = x ~ x >> 27
    return x * 0x2545F4914F6CDD1D >> 1
  end
  local random = {}
  function random.int(least, most) return least + next_number() % (most - least + 1) end
  function random.chance(percent) return next_number() % 100 < percent end
  function random.pick(list) return list[1 + next_number() % #list] end
  -- Seconds, in whole milliseconds.
  function random.delay(most) return random.int(0, most) / 1000 end
  for _ = 1, 4 do next_number() end
  return random
end

-- How one end of a connection behaves.
local function end_options(random)
  local o = {}
  if random.chance(40) then o.max_read = random.pick { 1, 2, 7, 64 } end
  if random.chance(40) then o.max_write = random.pick { 1, 3, 16, 100 } end
  if random.chance(20) then
    o.lockstep = true
  elseif random.chance(50) then
    o.capacity = random.pick { 1, 10, 300 }
  end
  if random.chance(30) then o.delay = random.pick { 0.001, 0.005 } end
  if random.chance(12) then
    local fault = { at = random.int(0, 600), error = random.pick { "ECONNRESET", "ETIMEDOUT", "EPIPE" } }
    o[random.pick { "fail_read", "fail_write" }] = fault
  end
  return o
end

-- A connection that counts: what one end has written and the other has read, byte by byte.
local function dial(self)
  local random = self.random
  local options = { a = end_options(random), b = end_options(random) }
  local a, b = memory.pair(options)
  self.dialled = self.dialled + 1
  local link = { id = self.dialled, sent = { a = {}, b = {} }, got = { a = {}, b = {} } }
  self.links[link.id] = link
  self.log("dial", ("link %d"):format(link.id))
  return a, b, link
end

-- Whatever one end has read must be what the other has written, or, of a connection that broke, its beginning.
local function check_link(self, link)
  for _, way in ipairs { "ab", "ba" } do
    local from, to = way:match("(.)(.)")
    local wrong = wire.difference(link.sent[from], table.concat(link.got[to]), link.orderly)
    if wrong then self.problem("link %d from %s to %s: %s", link.id, from, to, wrong) end
  end
end

local IDLE = { tasks = 1, sleepers = 0, timers = 0, callbacks = 0, handles = 0, requests = 0 }

local function check_request(self, request)
  local function problem(text) self.problem("request %s %s", request.id, text) end
  local unstarted = request.outcomes == 0 and request.task:cancelled()
  if request.outcomes ~= 1 and not unstarted then problem(("has %d outcomes"):format(request.outcomes)) end
  if request.handled > 1 then problem(("was handled %d times"):format(request.handled)) end
  if request.outcome == "answered" and request.handled ~= 1 then problem("was answered and not handled") end
  if request.outcome == "late" and request.patience == client.AMPLE and request.link.orderly then
    problem("was not answered, over a connection that held")
  end
end

local function check_rest(self, loop)
  for _ = 1, 3 do async.sleep(0) end
  local stats = loop:stats()
  for _, name in ipairs { "tasks", "sleepers", "timers", "callbacks", "handles", "requests" } do
    if stats[name] ~= IDLE[name] then self.problem("%d %s left", stats[name], name) end
  end
  for _, link in ipairs(self.links) do check_link(self, link) end
  for _, request in ipairs(self.requests) do check_request(self, request) end
end

-- Cancels what it finds, now and then.
local function trouble(self)
  local random = self.random
  for _ = 1, random.int(0, 8) do
    async.sleep(random.delay(400))
    local live = {}
    for _, request in ipairs(self.requests) do
      if request.task and not request.task:done() then live[#live + 1] = request end
    end
    if #live > 0 then
      local request = random.pick(live)
      self.log("trouble", "cancels " .. request.id)
      request.task:cancel("trouble")
    end
  end
end

local function main(self)
  local loop = async.get_running_loop()
  local start = loop:time()
  function self.log(who, what)
    self.trace[#self.trace + 1] = ("%.6f %s %s"):format(loop:time() - start, who, what)
  end
  loop:set_exception_handler(function(_, context)
    self.problem("reported: %s: %s", context.message, tostring(context.exception))
  end)
  local served = async.create_task(server.run, self)
  local ok, e = async.pcall(function()
    local tg <close> = async.TaskGroup()
    for i = 1, self.random.int(2, 7) do tg:create_task(client.run, self, "client" .. i) end
    tg:create_task(trouble, self)
  end)
  if not ok then self.problem("a client failed: %s", tostring(e.errors and e.errors[1] or e)) end
  self.backlog:shutdown()
  async.await(served)
  if self.plant == "leak" then self.left = async.create_task(async.sleep, 5) end
  if self.plant == "clock" then self.log("plant", tostring(os.clock())) end
  check_rest(self, loop)
  self.log("world", ("%d requests over %d links"):format(#self.requests, self.dialled))
end

function world.run(seed, plant)
  local self = {
    random = random_source(seed), plant = plant, trace = {}, problems = {}, links = {}, requests = {}, dialled = 0,
    dial = dial,
  }
  function self.problem(text, ...) self.problems[#self.problems + 1] = text:format(...) end
  local runner <close> = async.Runner { clock = "virtual", seed = seed }
  local ok, e = pcall(runner.run, runner, function()
    self.backlog = async.Queue(2)
    main(self)
  end)
  if not ok then self.problem("the run ended with %s", tostring(e)) end
  return self
end

return world

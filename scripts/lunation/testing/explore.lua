-- Seeded interleavings: one function, many orders of ready tasks, and the seed of the one that failed.
--
-- Each run begins with the order drawn anew from its seed and, on the virtual clock, with nothing that depends on real
-- time, so a seed alone replays it. What a run leaves behind is ended before the next one.
local async = require "lunation"
local check = require "lunation.check"
local leaks = require "lunation.testing.leaks"
local probe = require "lunation.probe"

local RUNS = 100
local TURNS = 100 -- that what has been cancelled, or is about to end, gets
local GRACE = 1   -- seconds of the loop's clock for its cleanup

local exploring -- the loop in which explore is at work

local Session = {}
Session.__index = Session

-- A number to begin with, small enough to be typed.
local function random_seed(loop)
  local address = tonumber(tostring({}):match("0x(%x+)") or "0", 16)
  return (address >> 4 ~ math.floor(loop:time() * 1e6)) % 1000000
end

local function open(fn, opts)
  local loop = async.get_running_loop()
  local self = setmetatable({ fn = fn, loop = loop, task = nil }, Session)
  self.runs = check.integer_option(opts, "runs", 1, 2, "explore") or RUNS
  self.seed = check.integer_option(opts, "seed", math.mininteger, 2, "explore")
  self.clock = check.word_option(opts, "clock", "real", "virtual", 2, "explore") or "virtual"
  self.me = async.current_task()
  if not self.me then error(async.RuntimeError("explore outside a task"), 0) end
  async.sleep(0) -- where a request that came before is thrown
  self.asked = self.me:cancelling()
  if exploring == loop then error(async.RuntimeError("explore: another one is in progress"), 0) end
  self.seed = self.seed or probe.order() or random_seed(loop)
  self.before = {
    order = probe.order(),
    clock = probe.clock(self.clock),
    handler = loop:get_exception_handler(),
    dry = probe.on_dry(function() self:dried() end),
  }
  exploring = loop
  return self
end

-- Everything as it was.
function Session:__close()
  exploring = nil
  self.task = nil
  local ok, loop = pcall(async.get_running_loop)
  if not ok or loop ~= self.loop then return end
  probe.order(self.before.order)
  probe.clock(self.before.clock)
  probe.on_dry(self.before.dry)
  loop:set_exception_handler(self.before.handler)
end

-- Nothing is left that could happen: the run ends, by force if it does not want to.
function Session:dried()
  if not self.task then return end
  if self.stuck then
    probe.destroy(self.task)
  else
    self.stuck = "nothing is left to wait for. What waits:\n" .. leaks.tree():gsub("\n$", "")
    self.task:cancel("nothing is left to wait for")
  end
end

local function is_task(row) return row.kind == "task" end

-- Ends what a run has left behind.
local function discard(rows)
  local tasks = {}
  for _, row in ipairs(rows) do
    if row.object then row.object:cancel() end
    if is_task(row) then tasks[#tasks + 1] = row.object end
  end
  if #tasks == 0 then return end
  local _, pending = async.wait(tasks, { timeout = GRACE })
  for _, task in ipairs(pending) do probe.destroy(task) end
end

-- A run that is cut is followed by no other: nobody else ends what it has left.
local unfinished = {
  __close = function(self, e)
    if e ~= nil then discard(leaks.news(self.picture)) end
  end,
}

-- What the run has left behind after a while; ended.
function Session:left_behind(picture)
  local rows = leaks.news(picture)
  for _ = 1, TURNS do
    if #rows == 0 then return end
    async.sleep(0)
    rows = leaks.news(picture)
  end
  local list = {}
  for _, row in ipairs(rows) do
    if row.kind ~= "request" then list[#list + 1] = row end
  end
  if #list == 0 then return end
  local text = leaks.text(list)
  discard(list)
  return "left behind:\n" .. text
end

-- The first error that went to the exception handler.
function Session:reported(failures)
  if probe.noticed().failures > failures then
    if probe.noticed().unretrieved > 0 then collectgarbage() end
    for _ = 1, 2 do async.sleep(0) end -- what was found is told between turns
  end
  local context = self.reports[1]
  if not context then return end
  local e = context.exception
  if e == nil then return async.RuntimeError(tostring(context.message)) end
  if async.isinstance(e, async.BaseError) then return e end
  return async.RuntimeError(("%s: %s"):format(context.message, tostring(e)), { cause = e })
end

-- One run -> nil, or the error that it failed with.
function Session:run(seed, number)
  local failures = probe.noticed().failures
  local picture = leaks.picture()
  local _ <close> = setmetatable({ picture = picture }, unfinished)
  self.stuck, self.reports = nil, {}
  probe.clock(self.clock)
  self.loop:set_exception_handler(function(_, context) self.reports[#self.reports + 1] = context end)
  probe.order(seed)
  self.task = async.create_task(self.fn):set_name("run " .. number)
  local ok, e = pcall(async.wait_for, self.task)
  self.task = nil
  probe.order(false)
  -- A request that went to the run is ours, also if the run did not heed it.
  local asked = self.me:cancelling() > self.asked
  if asked or (not ok and async.isinstance(e, async.KeyboardInterrupt)) then
    error(ok and async.CancelledError() or e, 0)
  end
  local left = self:left_behind(picture)
  if self.stuck then return async.RuntimeError(self.stuck) end
  if not ok then return e end
  return self:reported(failures) or left and async.RuntimeError(left) or nil
end

--- testing.explore(fn, opts?) -> number of runs
-- Runs fn() as a task opts.runs (100) times. In run i the order of ready tasks is drawn from the seed opts.seed + i - 1
-- (the first one: the loop's own seed if it has one, else a random one), on a virtual clock unless opts.clock is
-- "real". A run fails if fn throws, if it leaves a task, a timer, a callback or a handle behind, if an error that
-- nobody retrieved is reported, and, on the virtual clock, if nothing is left to wait for: then with the tree of tasks.
-- The first failure is thrown as an Error that says how to replay it, with the fields run, seed and cause, the original
-- error. Order, clock and exception handler are those of before afterwards, on every way out. Suspends; safe to cancel:
-- the run in progress is cancelled and awaited. TypeError, ValueError for bad arguments; RuntimeError outside a task and
-- inside another explore.
return function(fn, opts)
  check.callable(fn, 1, "explore")
  local session <close> = open(fn, check.options(opts, 2, "explore"))
  for i = 1, session.runs do
    local seed = session.seed + i - 1
    local e = session:run(seed, i)
    if e ~= nil then
      local replay = session.clock == "real" and ', clock = "real"' or ""
      error(async.Error(("run %d of %d failed (seed %d): %s\nreplay: testing.explore(fn, {seed = %d, runs = 1%s})")
        :format(i, session.runs, seed, tostring(e), seed, replay), { cause = e, run = i, seed = seed }), 0)
    end
  end
  return session.runs
end

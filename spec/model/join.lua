-- The reference model: gather, wait, race, map, as_completed and shield. See core.lua.
--
-- All of them count how their children end: a join is something to wait for that settles as soon as its rule is met.
-- What follows (who is cancelled, what is thrown) the awaiting task decides when it runs.
local inner = require "spec.model.core"
local model, plant = inner.model, inner.plant

local Join = {}
Join.__index = Join

-- rule: need (how many have to end), stops (on an error), stops_cancelled, owns, stops_asked.
local function new_join(rule)
  local j = setmetatable({ waiters = {}, arms = {}, ended = {}, left = 0 }, Join)
  for k, v in pairs(rule) do j[k] = v end
  j.need = rule.need or math.huge
  j.count = 0
  return j
end

-- Is enough done? Once asked to stop, all have to end, unless the rule says that the first will do.
function Join:met()
  if self.left == 0 then return true end
  if self.was_asked and not self.stops_asked then return false end
  return self.bad_now or self.count >= self.need
end

local function child_ended(arm, f)
  local j = arm.join
  j.left = j.left - 1
  j.count = j.count + 1
  j.ended[#j.ended + 1] = arm
  if (f.state == "error" and j.stops or f.state == "cancelled" and j.stops_cancelled) and not j.bad_now then
    j.bad, j.bad_now = f, true
  end
  if not j.state and j:met() then inner.settle(j, "ok") end
end

function Join:add(f)
  local arm = { join = self, on = f, holds = true, fire = child_ended }
  for _, other in ipairs(self.arms) do arm.twin = arm.twin or other.on == f end
  self.arms[#self.arms + 1] = arm
  self.left = self.left + 1
  if f.state then child_ended(arm, f) else table.insert(f.waiters, arm) end
end

-- Pending again, for what comes next.
function Join:again(need)
  self.state, self.count, self.bad_now = nil, 0, false
  self.need = need or math.huge
end

function Join:children()
  local list = {}
  for _, arm in ipairs(self.arms) do
    if not arm.twin then list[#list + 1] = arm.on end
  end
  return list
end

-- The request of the awaiting task goes to all children, if it owns them.
function Join:asked(_, walk)
  if not self.owns then return false end
  self.was_asked = true
  if walk[self] then return true end
  walk[self] = true
  for _, f in ipairs(self:children()) do
    if not f.state then f:asked(nil, walk) end
    if plant.gather_cancels_first then break end
  end
  return true
end

-- Nobody looks any more.
function Join:close()
  for _, arm in ipairs(self.arms) do inner.drop(arm.on.waiters, arm) end
end

function Join:cancel_rest()
  self:again()
  self.stops, self.stops_cancelled = false, false
  local walk = {}
  for _, f in ipairs(self:children()) do
    if not f.state then f:asked(nil, walk) end
  end
end

local function open(list, rule)
  for i = 1, #list do inner.check_awaitable(list[i]) end
  local j, futures = new_join(rule), {}
  for i = 1, #list do futures[i] = inner.ensure_future(list[i]) end
  for i = 1, #list do j:add(futures[i]) end
  if j.state and not j:met() then
    local bad, now = j.bad, j.bad_now
    j.state = nil
    j.bad, j.bad_now = bad, now
  end
  return j, futures
end

-- Those that had ended before come in the order in which they did.
local function sort_ended(j)
  local place = {}
  for i, arm in ipairs(j.ended) do place[arm] = i end
  table.sort(j.ended, function(a, b)
    if a.on.order ~= b.on.order then return a.on.order < b.on.order end
    return place[a] < place[b]
  end)
end

local function refuse_cycle(t, j)
  if inner.would_cycle(t, j) then
    j:close()
    inner.throw "RuntimeError"
  end
end

-- The wait for an owning join is over; a request that went through it is thrown now.
local function joined(t, j, interrupted)
  if interrupted or j.was_asked then
    t.must = false
    j:close()
    inner.throw_cancelled(t)
  end
end

local function first_results(j, futures, errors)
  j:close()
  if plant.gather_hides then
    for _, f in ipairs(futures) do f.seen = f.seen or f.state ~= nil end
  end
  if j.bad and not errors then return inner.outcome(j.bad) end
  local results = { n = #futures }
  for i, f in ipairs(futures) do
    if f.state == "ok" then
      results[i] = f.values[1]
    else
      results[i] = inner.take_error(f)
      errors[i] = results[i]
    end
  end
  if errors then return results, errors end
  return results
end

function model.gather(list, opts)
  local t = inner.enter()
  opts = opts or {}
  local stops = not opts.return_exceptions or opts.cancel_on_error or false
  local plain = not opts.return_exceptions and not opts.cancel_on_error
  local j, futures = open(list, { owns = true, stops = stops, stops_cancelled = stops, stops_asked = plain })
  if j.left == 0 and inner.gives_way() then joined(t, j, inner.give_turn(t)) end
  while true do
    if j.bad_now and opts.cancel_on_error then j:cancel_rest() end
    if j:met() then break end
    refuse_cycle(t, j)
    joined(t, j, inner.wait_on(t, j, true))
  end
  return first_results(j, futures, opts.return_exceptions and {})
end

model.FIRST_COMPLETED, model.FIRST_EXCEPTION, model.ALL_COMPLETED =
  "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"

local function expire(timer)
  local j = timer.join
  j.expired, j.in_time = true, timer.loop.order
  if not j.state then inner.settle(j, "ok") end
end

local function start_deadline(j, seconds)
  if not seconds or seconds == math.huge then return end
  j.timer = { join = j, fire = expire, loop = model.get_running_loop() }
  inner.start_timer(j.timer, inner.deadline(seconds))
end

function model.wait(list, opts)
  local t = inner.enter()
  opts = opts or {}
  local when = opts.return_when or model.ALL_COMPLETED
  if #list == 0 then inner.throw "ValueError" end
  local j = open(list, { need = when == model.FIRST_COMPLETED and 1, stops = when == model.FIRST_EXCEPTION })
  sort_ended(j)
  local met, interrupted = j:met(), false
  if met or (opts.timeout and opts.timeout <= 0) then
    if not met or inner.gives_way() then interrupted = inner.give_turn(t) end
  else
    if not opts.timeout and when == model.ALL_COMPLETED then refuse_cycle(t, j) end
    start_deadline(j, opts.timeout)
    interrupted = inner.wait_on(t, j, false)
    if j.timer then inner.stop_timer(j.timer) end
  end
  joined(t, j, interrupted)
  j:close()
  local done, pending = {}, {}
  for _, arm in ipairs(j.ended) do
    if done[#done] ~= arm.on then done[#done + 1] = arm.on end
  end
  for _, f in ipairs(j:children()) do
    if not f.state then pending[#pending + 1] = f end
  end
  return done, pending
end

function model.race(list)
  local t = inner.enter()
  if #list == 0 then inner.throw "ValueError" end
  local j = open(list, { owns = true, need = 1 })
  sort_ended(j)
  local winner
  local function resumed(interrupted)
    if interrupted or (j.was_asked and not winner) then
      t.must = false
      j:close()
      inner.throw_cancelled(t)
    end
  end
  if j.left == 0 and inner.gives_way() then resumed(inner.give_turn(t)) end
  while true do
    if not winner and j.ended[1] then
      winner = j.ended[1].on
      j:cancel_rest()
    end
    if winner and j:met() then break end
    refuse_cycle(t, j)
    resumed(inner.wait_on(t, j, true))
  end
  -- A request that came after the decision is kept for the next await.
  if j.was_asked and t.requests > 0 then t.must = true end
  j:close()
  return inner.outcome(winner)
end

function model.map(list, fn, opts)
  local t = inner.enter()
  local limit = opts and opts.limit or math.huge
  local j, futures = new_join { owns = true, stops = true, stops_cancelled = true }, {}
  if #list == 0 and inner.gives_way() then joined(t, j, inner.give_turn(t)) end
  while true do
    if j.bad_now then
      j:cancel_rest()
    elseif not j.bad then
      while #futures < #list and j.left < limit do
        local i = #futures + 1
        futures[i] = inner.spawn(fn, list[i], i)
        j:add(futures[i])
      end
      local need = #futures < #list and 1 or math.huge
      if j.state or j.need ~= need then j:again(need) end
    end
    if j:met() then break end
    joined(t, j, inner.wait_on(t, j, true))
  end
  return first_results(j, futures)
end

-- ---- as_completed ----

local function take_next(j)
  local f = table.remove(j.ended, 1).on
  while j.ended[1] and j.ended[1].on == f do table.remove(j.ended, 1) end
  if j.left == 0 and not j.ended[1] then j.over = true end
  return f
end

local function end_iteration(j)
  j.over = true
  if j.timer then inner.stop_timer(j.timer) end
  j:close()
end

local function next_completed(j)
  local t, fair = inner.enter(), false
  while true do
    if j.over then return nil end
    local arm = j.ended[1]
    if j.expired and not (arm and arm.on.order <= j.in_time) then
      end_iteration(j)
      inner.throw "TimeoutError"
    end
    local interrupted
    if arm then
      if fair or not inner.gives_way() then
        local f = take_next(j)
        if j.over then end_iteration(j) end
        return f
      end
      interrupted = inner.give_turn(t)
    else
      if j.state then j:again(1) end
      if j.left == 1 and not j.timer then refuse_cycle(t, j) end
      interrupted = inner.wait_on(t, j, false)
    end
    if interrupted then inner.throw_cancelled(t) end
    fair = true
  end
end

function model.as_completed(list, opts)
  local j = open(list, { need = 1 })
  sort_ended(j)
  if j.left > 0 then start_deadline(j, opts and opts.timeout) end
  j.over = #list == 0
  local function next_one() return next_completed(j) end
  return setmetatable({}, { __call = next_one, __close = function() end_iteration(j) end })
end

-- ---- shield ----

-- The outcome is taken over in the next turn; an error is then the shield's to report.
local function follow(job)
  local s, f = job.shield, job.inner
  inner.drop(s.waiters, job.own)
  if s.state then return end
  if f.state == "ok" then
    s.values = f.values
    inner.settle(s, "ok")
  else
    inner.fail(s, inner.take_error(f))
  end
end

function model.shield(aw)
  model.get_running_loop()
  inner.check_awaitable(aw)
  local f = inner.ensure_future(aw)
  if f.state then return f end
  local s = inner.new_future()
  local job = { run = follow, shield = s, inner = f }
  -- A turn is taken by a shield that ended by itself, too: a timer that is due may still fire in it.
  local function go()
    if not job.queued then inner.queue(job) end
    job.queued = true
  end
  local ended = { holds = true, fire = go }
  job.own = { holds = false, fire = function()
    inner.drop(f.waiters, ended)
    if plant.shield_leaks then inner.cancel(f) end
    go()
  end }
  table.insert(s.waiters, job.own)
  table.insert(f.waiters, ended)
  return s
end

return inner

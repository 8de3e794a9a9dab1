-- The reference model: Lock, Semaphore, Event, Condition and Barrier. See core.lua.
--
-- All wait in a park: a list of tasks of which the first is chosen. Being chosen is no outcome until the task runs: one
-- that is cancelled before hands its turn on (`revoked`), if there is something to hand on.
local inner = require "spec.model.core"
local model, plant = inner.model, inner.plant

local Park = {}
Park.__index = Park

local function new_park(owner)
  return setmetatable({ waiters = {}, granted = 0, owner = owner }, Park)
end
inner.new_park = new_park

function Park:grant()
  local waiter = table.remove(self.waiters, 1)
  if not waiter then return false end
  waiter.task.granted = true
  self.granted = self.granted + 1
  inner.wake(waiter.task)
  return true
end
function Park:grant_all()
  while self:grant() do end
end

-- True: the task stays and hears of it; false: it withdraws.
function Park:asked(t)
  if not t.granted then
    if self.left then self:left() end
    return false
  end
  if not self.revoked then -- there is nothing to hand on: value first
    t.must = true
    return true
  end
  t.granted = false
  self.granted = self.granted - 1
  inner.interrupt(t)
  if not plant.lock_forgets then self:revoked() end
  return true
end

-- Waits in a park; throws a request.
local function park_wait(t, park, at)
  if inner.wait_on(t, park, true, at) then inner.throw_cancelled(t) end
  inner.forget_message(t)
end
inner.park_wait = park_wait

-- ---- Lock, Semaphore ----

local Permits, Guard = {}, {}
Permits.__index = Permits

local function give(p)
  p.free = p.free + 1
  while p.free > 0 and p.queue.waiters[1] do
    p.free = p.free - 1
    p.passing = p.passing + 1
    p.queue:grant()
  end
end

local function new_permits(free, most, meta)
  local p = setmetatable({ free = free, most = most, passing = 0, is_lock = meta == nil }, meta or Permits)
  p.queue = new_park(p)
  p.queue.revoked = function()
    p.passing = p.passing - 1
    give(p)
  end
  -- What a task names that must get its lock back: it stands in the same queue, deaf to requests.
  p.again = { granted = 0, waiters = p.queue.waiters, asked = function(_, t)
    t.must = true
    return true
  end, revoked = p.queue.revoked }
  return p
end

local function lock_held(p) return p.free == 0 and p.passing == 0 end

function Permits:acquire()
  local t = inner.enter()
  local p = self.lock or self
  if p.free > 0 and inner.gives_way() then
    if inner.give_turn(t) then inner.throw_cancelled(t) end
  end
  if p.free == 0 then
    park_wait(t, p.queue)
    p.passing = p.passing - 1
  else
    p.free = p.free - 1
  end
  return true
end
function Permits:release()
  local p = self.lock or self
  if p.is_lock and not lock_held(p) then inner.throw "RuntimeError" end
  if not p.is_lock and p.free >= p.most then inner.throw "ValueError" end
  give(p)
end
function Permits:locked() return (self.lock or self).free == 0 end
function Permits:guard()
  self:acquire()
  return setmetatable({ permits = self }, Guard)
end
function Guard.__close(guard)
  if guard.over then return end
  guard.over = true
  guard.permits:release()
end

local Semaphore = setmetatable({}, { __index = Permits })
Semaphore.__index = Semaphore

function model.Lock() return new_permits(1, 1) end
function model.Semaphore(n) return new_permits(n or 1, math.huge, Semaphore) end
function model.BoundedSemaphore(n) return new_permits(n or 1, n or 1, Semaphore) end

-- ---- Event ----

local Event = {}
Event.__index = Event
function model.Event() return setmetatable({ on = false, park = new_park() }, Event) end
function Event:wait()
  local t = inner.enter()
  if not self.on then
    park_wait(t, self.park)
  else
    inner.polite(t)
  end
  return true
end
function Event:set()
  self.on = true
  self.park:grant_all()
end
function Event:clear() self.on = false end
function Event:is_set() return self.on end

-- ---- Condition ----

local Condition = {}
Condition.__index = Condition
Condition.acquire, Condition.release, Condition.locked, Condition.guard =
  Permits.acquire, Permits.release, Permits.locked, Permits.guard

function model.Condition(lock)
  local c = setmetatable({ lock = lock or model.Lock(), park = new_park() }, Condition)
  function c.park:revoked()
    if not plant.notification_lost then self:grant() end
  end
  return c
end

local function check_held(c)
  if not lock_held(c.lock) then inner.throw "RuntimeError" end
end

-- Takes the lock again, whatever is asked meanwhile; what was asked is thrown then.
local function regain(c, t, throws)
  local p = c.lock
  if p.free > 0 then
    p.free = p.free - 1
  else
    -- wait_on puts it into p.again.waiters, which is the queue's own list.
    inner.wait_on(t, p.again, true)
    p.passing = p.passing - 1
    if t.must and inner.give_turn(t) then
      if not throws then c.park:grant() end -- the notification passes on
      throws = true
    end
  end
  if throws then inner.throw_cancelled(t) end
end

local function condition_wait(c, t)
  check_held(c)
  give(c.lock)
  regain(c, t, inner.wait_on(t, c.park, true))
  inner.forget_message(t)
end

function Condition:wait()
  condition_wait(self, inner.enter())
  return true
end
function Condition:wait_for(predicate)
  local t = inner.enter()
  inner.polite(t)
  while true do
    local value = predicate()
    if value then return value end
    condition_wait(self, t)
  end
end
function Condition:notify(n)
  check_held(self)
  for _ = 1, n or 1 do
    if not self.park:grant() then return end
  end
end
function Condition:notify_all()
  check_held(self)
  self.park:grant_all()
end

-- ---- Barrier ----

local Barrier = {}
function Barrier.__index(b, key)
  if key == "n_waiting" then return b.state == "filling" and b.count or 0 end
  if key == "broken" then return b.state == "broken" end
  return Barrier[key]
end

function model.Barrier(n)
  if n < 1 then inner.throw "ValueError" end
  local b = setmetatable({ parties = n, count = 0, place = 0, state = "filling", inside = new_park(),
    outside = new_park() }, Barrier)
  function b.inside.left() b.count = b.count - 1 end
  return b
end

-- One that was inside has gone; with the last one the next round may begin.
local function leave(b)
  b.count = b.count - 1
  if b.count > 0 then return end
  if b.state ~= "broken" then b.state = "filling" end
  b.outside:grant_all()
end

function Barrier:wait()
  local t, polite = inner.enter(), false
  while true do
    if self.state == "broken" then inner.throw "BrokenBarrierError" end
    if self.state ~= "filling" then
      park_wait(t, self.outside)
    elseif self.count + 1 < self.parties then
      self.count = self.count + 1
      park_wait(t, self.inside)
      local state, place = self.state, self.place
      self.place = place + 1
      leave(self)
      if state ~= "draining" then inner.throw "BrokenBarrierError" end
      return place
    elseif not polite and inner.gives_way() then
      polite = true
      if inner.give_turn(t) then inner.throw_cancelled(t) end
    else
      if self.count > 0 then
        self.state, self.place = "draining", 0
        self.inside:grant_all()
      end
      return self.parties - 1
    end
  end
end
function Barrier:abort()
  self.state = "broken"
  self.inside:grant_all()
  self.outside:grant_all()
end
function Barrier:reset()
  self.state = self.count > 0 and "resetting" or "filling"
  self.inside:grant_all()
  if self.state == "filling" then self.outside:grant_all() end
end

return inner

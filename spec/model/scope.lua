-- The reference model: timeouts, wait_for and TaskGroup. See core.lua.
--
-- A scope asks its own task to stop, once, and takes that request back at its end; requests from outside win.
local inner = require "spec.model.core"
local model, plant = inner.model, inner.plant

-- Takes the scope's own request back; how many are left.
local function take_back(t, before)
  local left = plant.timeout_keeps and t.requests or t:uncancel()
  if left <= before then t.must = false end
  return left
end

local function is_cancelled(e) return model.isinstance(e, model.CancelledError) end

local function timed_out(cause)
  error(model.TimeoutError("timed out", { cause = cause }), 0)
end

-- ---- timeout ----

local Scope = {}
Scope.__index = Scope

local function expire(scope)
  scope.has_expired = true
  scope.asked = inner.cancel(scope.task)
end

-- `when` is seconds of the loop's clock, `deadline` the nanoseconds that they are.
local function new_scope(when, deadline)
  local t = inner.enter()
  local scope = setmetatable({ task = t, before = t.requests, fire = expire, time = when }, Scope)
  if when then inner.start_timer(scope, deadline) end
  return scope
end

local function at(when) return when and math.ceil(when * 1e9) end

function model.timeout(delay)
  local deadline = delay and inner.deadline(delay)
  return new_scope(delay and deadline / 1e9, deadline)
end
function model.timeout_at(when) return new_scope(when, at(when)) end
function Scope:when() return self.time and self.time + 0.0 end
function Scope:expired() return self.has_expired or false end
function Scope:reschedule(when)
  if self.closed or self.has_expired then inner.throw "RuntimeError" end
  inner.stop_timer(self)
  self.time = when
  if when then inner.start_timer(self, at(when)) end
end
function Scope:__close(e)
  if self.closed then return end
  self.closed = true
  inner.stop_timer(self)
  if not self.asked then return end
  if take_back(self.task, self.before) > self.before or not is_cancelled(e) then return end
  timed_out(e)
end

-- ---- wait_for ----

-- An outcome that is there is what the task gets, so nothing expires then.
local function expire_work(scope)
  local t = scope.task
  if t.at == "waiting" and t.on.state then return end
  expire(scope)
end

-- An error that came instead of the cancellation keeps the timeout.
local function add_context(e)
  if model.isinstance(e, model.BaseError) and rawget(e, "context") == nil then
    e.context = model.TimeoutError("timed out")
  end
end

local function conclude_wait(t, f, scope, interrupted)
  local ours = false
  if scope then
    inner.stop_timer(scope)
    local left = t.requests
    if scope.asked then left = take_back(t, scope.before) end
    ours = scope.has_expired and left <= scope.before
  end
  local e
  if interrupted then
    e = model.CancelledError(t.msg)
    t.msg = nil
  elseif ours and f.state == "cancelled" then
    e = inner.take_error(f)
  else
    if scope and scope.has_expired and f.state == "error" then add_context(f.error) end
    return inner.await_future(t, f)
  end
  if ours then timed_out(e) end
  error(e, 0)
end

function model.wait_for(aw, timeout)
  local t = inner.enter()
  inner.check_awaitable(aw)
  local f = inner.is_future(aw) and aw
  if f and f.state then return inner.await_future(t, f) end
  if f and inner.would_cycle(t, f) then inner.throw "RuntimeError" end
  local scope = timeout and { task = t, before = t.requests, fire = expire_work }
  f = f or inner.ensure_future(aw)
  if scope and timeout <= 0 then
    scope.has_expired = true
    inner.cancel(f)
    if f.state then
      if inner.gives_way() then return conclude_wait(t, f, scope, inner.give_turn(t)) end
      return conclude_wait(t, f, scope, false)
    end
  elseif scope and timeout < math.huge then
    inner.start_timer(scope, inner.deadline(timeout))
  end
  local interrupted = inner.wait_on(t, f, true)
  return conclude_wait(t, f, scope, interrupted)
end

-- ---- TaskGroup ----

local Group, End = {}, {}
Group.__index, End.__index = Group, End

-- What the end of the block waits for: it owns the members.
function End:children()
  local list = {}
  for i, t in ipairs(self.group.members) do list[i] = t end
  return list
end
function End:asked(_, walk)
  self.was_asked = true
  for _, t in ipairs(self:children()) do
    if not t.state then t:asked(nil, walk) end
  end
  return true
end

local function abort(group)
  group.aborting = true
  if plant.group_goes_on then return end
  local walk = {}
  for _, t in ipairs(group.ending:children()) do
    if not t.state then t:asked(nil, walk) end
  end
end

-- After the first failure: the others are cancelled, and the task in the block, once.
function Group:run()
  self.queued = false
  if #self.failed > 0 and not self.aborting and not self.ending.was_asked and not self.closed then
    abort(self)
    if not self.closing then self.asked_parent = inner.cancel(self.parent) end
  end
end

local function member_ended(waiter, t)
  local group = waiter.group
  inner.drop(group.members, t)
  local last = #group.members == 0
  if t.state == "error" then table.insert(group.failed, t) end
  -- The last one's visit does nothing, but it is a turn, which a loop that is being closed may take timers along with.
  if not group.queued and (t.state == "error" or last) and not (last and group.closing) then
    group.queued = true
    inner.queue(group)
  end
  if last and not group.ending.state then inner.settle(group.ending, "ok") end
end

function model.TaskGroup()
  local t = inner.enter()
  local group = setmetatable({ parent = t, before = t.requests, members = {}, failed = {} }, Group)
  group.ending = setmetatable({ group = group, waiters = {} }, End)
  return group
end

function Group:create_task(fn, ...)
  if self.closed or (self.closing and #self.members == 0) then inner.throw "RuntimeError" end
  if self.aborting or self.ending.was_asked then inner.throw "RuntimeError" end
  local t = inner.spawn(fn, ...)
  table.insert(t.waiters, { group = self, fire = member_ended, holds = true })
  table.insert(self.members, t)
  self.ending.state = nil
  return t
end

-- All have ended; e is the error of the block, if any.
local function conclude_group(group, e)
  local t = group.parent
  local cancelled = is_cancelled(e)
  local own = e ~= nil and not cancelled
  group.closed = true
  if own or #group.failed > 0 then
    if t.requests > group.before then t.must = true end
    local errors = {}
    for i, member in ipairs(group.failed) do
      errors[i] = inner.take_error(member)
      own = own and not rawequal(errors[i], e)
    end
    if own then errors[#errors + 1] = e end
    error(model.ExceptionGroup("unhandled errors in a TaskGroup", { errors = errors }), 0)
  end
  if group.asked and not cancelled then inner.throw_cancelled(t) end
end

-- The block ends though a member waits for its task: the members go on alone.
local function dissolve(group)
  local t = group.parent
  local requests, must = t.requests, t.must
  if not group.aborting then abort(group) end
  for _, member in ipairs(group.members) do
    for i = #member.waiters, 1, -1 do
      if member.waiters[i].group == group then table.remove(member.waiters, i) end
    end
  end
  group.members, group.closed = {}, true
  while t.requests > requests do t:uncancel() end
  if not must then t.must = false end
  inner.throw "RuntimeError"
end

function Group:__close(e)
  if self.closed or self.closing then return end
  if self.asked_parent then
    self.asked_parent = false
    take_back(self.parent, self.before)
  end
  if #self.members > 0 then
    local t = inner.enter()
    if inner.would_cycle(t, self.ending) then dissolve(self) end
    if not self.aborting and (e ~= nil or #self.failed > 0) then abort(self) end
  end
  self.closing = true
  while #self.members > 0 do
    local interrupted = inner.wait_on(self.parent, self.ending, true)
    self.asked = self.asked or interrupted or self.ending.was_asked
  end
  return conclude_group(self, e)
end

return inner

-- The reference model: callbacks, done callbacks included. See core.lua.
--
-- A Handle stands in the ready queue, among the timers or among those that wait for a future, and runs once.
local inner = require "spec.model.core"
local model, Future, Loop = inner.model, inner.Future, inner.Loop
local queue, report, deadline = inner.queue, inner.report, inner.deadline
local start_timer, stop_timer = inner.start_timer, inner.stop_timer

local Handle = {}
Handle.__index = Handle

local function new_handle(fn, ...)
  inner.loop.callbacks = inner.loop.callbacks + 1
  return setmetatable({ fn = fn, args = table.pack(...), holds = false }, Handle)
end
function Handle:over()
  self.fn = nil
  inner.loop.callbacks = inner.loop.callbacks - 1
end
function Handle:run()
  local fn = self.fn
  if self.gone or not fn then return end
  self:over()
  if self.is_cancelled then return end
  local ok, e = pcall(fn, table.unpack(self.args, 1, self.args.n))
  if not ok then
    if e == nil then e = model.Error("nil") end
    report { message = "Exception in callback", kind = "callback", exception = e, future = self.future }
  end
end
-- Its time has come, or the future has settled.
function Handle:fire()
  self.waiting = false
  queue(self)
end
function Handle:cancel()
  self.is_cancelled = true
  if self.waiting then
    self.waiting = false
    stop_timer(self)
    self:over()
  end
end
function Handle:cancelled() return self.is_cancelled or false end

function Future:add_done_callback(fn)
  local handle = new_handle(fn, self)
  handle.future = self
  if self.state then
    queue(handle)
  else
    handle.callback = fn
    table.insert(self.waiters, handle)
  end
end
function Future:remove_done_callback(fn)
  local n = 0
  for i = #self.waiters, 1, -1 do
    if self.waiters[i].callback == fn then
      table.remove(self.waiters, i):over()
      n = n + 1
    end
  end
  return n
end

function Loop.call_soon(_, fn, ...)
  local handle = new_handle(fn, ...)
  queue(handle)
  return handle
end
local function call_when(when, fn, ...)
  local handle = new_handle(fn, ...)
  handle.waiting, handle.time = true, when / 1e9
  start_timer(handle, when)
  return handle
end
function Loop.call_later(_, seconds, fn, ...) return call_when(deadline(seconds), fn, ...) end
function Loop.call_at(_, when, fn, ...)
  local handle = call_when(math.ceil(when * 1e9), fn, ...)
  handle.time = when
  return handle
end
function Handle:when() return self.time and self.time + 0.0 end

return inner

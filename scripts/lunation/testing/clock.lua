-- The clock of a test: the running loop's time, held or jumping, until it is closed.
--
-- Clocks nest: each remembers the clock that it took the place of. One that is closed before a newer one leaves what
-- it remembers to that. Time never goes back; after the last close it goes on from where it is, in real seconds.
local async = require "lunation"
local check = require "lunation.check"
local leaks = require "lunation.testing.leaks"
local probe = require "lunation.probe"

local Clock = { __name = "Clock" }
Clock.__index = Clock

local open = {} -- open clocks of all loops, oldest first

-- The clock of the same loop that was opened next after `self`, or nil; the place of `self` in the list.
local function newer(self)
  local found
  for i = #open, 1, -1 do
    if open[i] == self then return found, i end
    if open[i].loop == self.loop then found = open[i] end
  end
end

local function running()
  local ok, loop = pcall(async.get_running_loop)
  return ok and loop or nil
end

-- The open clock of the running loop, or an error.
local function checked(self, name)
  check.self(self, Clock, name)
  if self.closed then error(async.RuntimeError(name .. ": the clock is closed"), 0) end
  if async.get_running_loop() ~= self.loop then
    error(async.RuntimeError(name .. ": the clock is another loop's"), 0)
  end
end

local function mode(jumps) return jumps and "virtual" or "held" end

local function open_clock(opts)
  opts = check.options(opts, 1, "clock")
  local jumps = check.option(opts, "autojump", "boolean", 1, "clock") ~= false
  local loop = async.get_running_loop()
  for i = #open, 1, -1 do
    if open[i].loop:is_closed() then table.remove(open, i) end
  end
  local self = setmetatable({ loop = loop, jumps = jumps, before = probe.clock(mode(jumps)) }, Clock)
  open[#open + 1] = self
  return self
end

--- clock:now() -> seconds: the loop's time, loop:time(). RuntimeError if the clock is closed.
function Clock:now()
  checked(self, "now")
  return self.loop:time()
end

--- clock:autojump(on?) -> boolean before
-- Whether time jumps to the next deadline when every task waits. nil only asks. TypeError for what is no boolean,
-- RuntimeError if the clock is closed. Does not suspend.
function Clock:autojump(on)
  checked(self, "autojump")
  local before = self.jumps
  if on == nil then return before end
  check.boolean(on, 1, "autojump")
  self.jumps = on
  local above = newer(self)
  if above then above.before = mode(on) else probe.clock(mode(on)) end
  return before
end

-- Whether a clock of that loop is being moved.
local function moving(loop)
  for _, clock in ipairs(open) do
    if clock.loop == loop and clock.timer then return true end
  end
end

local Advance = {}

function Advance.__close(self)
  self.clock.timer = nil
  leaks.hidden[self.timer] = nil
  self.timer:cancel()
end

--- clock:advance(seconds)
-- Moves the time on, stopping at each deadline on the way: what fires there runs until every task waits, before the
-- time moves on, and timers that it makes fire, too, if they are due within `seconds`. Waits first for the tasks that
-- are ready now, and at last for what fired at the end. I/O takes no time: what is under way stays so. Suspends;
-- cancelled in the middle it leaves the time where it is. TypeError for what is no number, and NaN; ValueError for less
-- than 0 and for infinity; RuntimeError if the clock is closed, outside a task, and while another task moves it.
function Clock:advance(seconds)
  checked(self, "advance")
  check.seconds(seconds, 1, "advance")
  if not async.current_task() then error(async.RuntimeError("advance outside a task"), 0) end
  if moving(self.loop) then
    error(async.RuntimeError("advance: another task is moving the clock"), 0)
  end
  -- A timer of our own marks the end: its deadline is exactly that of a sleep that begins now.
  local reached = false
  local timer = self.loop:call_later(seconds, function() reached = true end)
  self.timer = timer
  leaks.hidden[timer] = true
  local _ <close> = setmetatable({ clock = self, timer = timer }, Advance)
  probe.blocked()
  while not reached do
    if self.closed then error(async.RuntimeError("advance: the clock was closed meanwhile"), 0) end
    probe.set_time(probe.deadline())
    probe.blocked()
  end
end

--- clock:close()
-- Puts back the clock that was there before; harmless if it is closed. Does not suspend.
function Clock:close()
  check.self(self, Clock, "close")
  if self.closed then return end
  self.closed = true
  local above, place = newer(self)
  if place then table.remove(open, place) end
  if above then
    above.before = self.before
  elseif running() == self.loop then
    probe.clock(self.before)
  end
end

Clock.__close = Clock.close

function Clock:__tostring()
  local state = self.closed and "closed" or self.jumps and "jumps" or "stands"
  return ("<Clock %s>"):format(state)
end

return { open = open_clock }

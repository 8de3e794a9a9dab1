-- The reference model: Queue, LifoQueue and PriorityQueue. See core.lua.
--
-- Who is woken to get (or put) has a reservation, no certain item: it takes one when it runs, and if somebody was
-- quicker it waits on at the front, behind those that had the same bad luck earlier.
local inner = require "spec.model.core"
local model, plant = inner.model, inner.plant

local Queue = {}
Queue.__index = Queue

local function new_side(q)
  local side = { park = inner.new_park() }
  function side.park.revoked()
    if plant.queue_drops then table.remove(q.items, 1) end
    q:wake()
  end
  return side
end

local function new_queue(kind, most)
  local q = setmetatable({ kind = kind, items = {}, unfinished = 0, put_number = 0 }, Queue)
  q.most = most and most > 0 and most or math.huge
  q.getters, q.putters, q.joiners = new_side(q), new_side(q), inner.new_park()
  return q
end
function model.Queue(most) return new_queue("fifo", most) end
function model.LifoQueue(most) return new_queue("lifo", most) end
function model.PriorityQueue(most, less)
  local q = new_queue("priority", most)
  q.less = less or function(a, b) return a < b end
  return q
end

local function item_for_getter(q) return #q.items > q.getters.park.granted end
local function room_for_putter(q) return #q.items + q.putters.park.granted < q.most end

function Queue:wake_getters()
  while self.getters.park.waiters[1] and (item_for_getter(self) or self.is_shut) do self.getters.park:grant() end
end
function Queue:wake_putters()
  while self.putters.park.waiters[1] and (room_for_putter(self) or self.is_shut) do self.putters.park:grant() end
end
function Queue:wake()
  self:wake_getters()
  self:wake_putters()
end

local function wait_first(t, side)
  t.robbed = false
  inner.park_wait(t, side.park)
end

local function wait_again(t, side)
  local at = 1
  while side.park.waiters[at] and side.park.waiters[at].task.robbed do at = at + 1 end
  t.robbed = true
  inner.park_wait(t, side.park, at)
end

local function store(q, item)
  local entry, at = { item = item }, #q.items + 1
  q.put_number = q.put_number + 1
  if q.kind == "priority" then -- stable: behind all that are not greater
    while at > 1 and q.less(item, q.items[at - 1].item) do at = at - 1 end
  end
  table.insert(q.items, at, entry)
  q.unfinished = q.unfinished + 1
  q:wake_getters()
end

local function take(q)
  local entry = table.remove(q.items, q.kind ~= "lifo" and 1 or nil)
  q:wake_putters()
  return entry.item
end

local function check_open(q)
  if q.is_shut then inner.throw "QueueShutDown" end
end

function Queue:put(item)
  local t, woken, fair = inner.enter(), false, false
  while true do
    check_open(self)
    local room = room_for_putter(self)
    if woken then room = #self.items < self.most end
    if room then
      if woken or fair or not inner.gives_way() then return store(self, item) end
      if inner.give_turn(t) then inner.throw_cancelled(t) end
      fair = true
    elseif woken then
      wait_again(t, self.putters)
    else
      wait_first(t, self.putters)
      woken = true
    end
  end
end

local function get(q, iterates)
  local t, woken, fair = inner.enter(), false, false
  while true do
    local there = item_for_getter(q)
    if woken or q.is_shut then there = #q.items > 0 end
    if there then
      if woken or fair or not inner.gives_way() then return take(q) end
      if inner.give_turn(t) then inner.throw_cancelled(t) end
      fair = true
    else
      if q.is_shut and iterates then return nil end
      check_open(q)
      if woken then
        wait_again(t, q.getters)
      else
        wait_first(t, q.getters)
      end
      woken = true
    end
  end
end

function Queue:get() return get(self, false) end
function Queue:iter()
  return function() return get(self, true) end
end
function Queue:put_nowait(item)
  check_open(self)
  if #self.items >= self.most then inner.throw "QueueFull" end
  store(self, item)
end
function Queue:get_nowait()
  if #self.items == 0 then
    check_open(self)
    inner.throw "QueueEmpty"
  end
  return take(self)
end
function Queue:join()
  local t = inner.enter()
  if self.unfinished == 0 then return inner.polite(t) end
  inner.park_wait(t, self.joiners)
end
function Queue:task_done()
  if self.unfinished == 0 then inner.throw "ValueError" end
  self.unfinished = self.unfinished - 1
  if self.unfinished == 0 then self.joiners:grant_all() end
end
function Queue:shutdown(immediate)
  self.is_shut = true
  if immediate then
    self.unfinished = math.max(0, self.unfinished - #self.items)
    self.items = {}
    if self.unfinished == 0 then self.joiners:grant_all() end
  end
  self:wake()
end
function Queue:qsize() return #self.items end
function Queue:empty() return #self.items == 0 end
function Queue:full() return #self.items >= self.most end

return inner

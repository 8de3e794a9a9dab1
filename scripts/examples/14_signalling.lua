-- Event, Condition and Barrier: tasks that tell each other something.
local async = require "lunation"

-- Event: the gate is opened once, for all who wait and all who come later.
local gate = async.Event()
local function guest(name)
  gate:wait()
  print(name .. " comes in")
end
local guests = { async.create_task(guest, "Ann"), async.create_task(guest, "Bob") }
async.sleep(0.02)
print("the gate opens")
gate:set()
async.gather(guests)
guest("Cid")

-- Condition: wait until a predicate over shared state holds; the lock is held while it is looked at.
local stock, changed = 0, async.Condition()
local function buyer(name, amount)
  local _ <close> = changed:guard()
  changed:wait_for(function() return stock >= amount end)
  stock = stock - amount
  print(name .. " takes " .. amount .. ", left: " .. stock)
end
local buyers = { async.create_task(buyer, "large", 5), async.create_task(buyer, "small", 2) }
for _ = 1, 7 do
  async.sleep(0.02)
  local _ <close> = changed:guard()
  stock = stock + 1
  changed:notify_all()
end
async.gather(buyers)

-- Barrier: nobody starts the second lap before all have ended the first.
local line = async.Barrier(3)
local function runner(name, seconds)
  async.sleep(seconds)
  print(name .. " ends lap 1")
  line:wait()
  async.sleep(seconds)
  print(name .. " ends lap 2")
end
async.gather {
  function() runner("hare", 0.02) end,
  function() runner("dog", 0.05) end,
  function() runner("tortoise", 0.08) end,
}

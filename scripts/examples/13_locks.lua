-- Lock and Semaphore: first come, first served; a guard gives back what it took, however the block is left.
local async = require "lunation"

local lock = async.Lock()
local balance = 100

-- Without the lock, all would read the balance before the first one writes it.
local function withdraw(name, amount)
  local _ <close> = lock:guard()
  local seen = balance
  async.sleep(0.01) -- ask the bank
  if seen < amount then error(async.ValueError(name .. ": only " .. seen .. " left")) end
  balance = seen - amount
  print(name .. " takes " .. amount)
end

local _, errors = async.gather({
  function() withdraw("Ann", 60) end,
  function() withdraw("Bob", 60) end,
  function() withdraw("Cid", 40) end,
}, { return_exceptions = true })
print(errors[2].message)
print("balance " .. balance, "locked " .. tostring(lock:locked()))

-- A semaphore lets a number of tasks in.
local desks, inside, most = async.Semaphore(2), 0, 0
local function visit(name)
  local _ <close> = desks:guard()
  inside = inside + 1
  most = math.max(most, inside)
  async.sleep(0.02)
  inside = inside - 1
  return name .. " was here"
end
print(table.concat(async.map({ "Ann", "Bob", "Cid", "Dan", "Eve" }, visit), ", "))
print("inside at most: " .. most)

-- A waiter that is cancelled is skipped: no permit is lost with it.
local impatient, patient
do
  local _ <close> = desks:guard()
  local _ <close> = desks:guard()
  impatient = async.create_task(visit, "impatient")
  patient = async.create_task(visit, "patient")
  async.sleep(0.02)
  impatient:cancel()
end
print(async.await(patient))
print("all free: " .. tostring(not desks:locked()), impatient:cancelled())

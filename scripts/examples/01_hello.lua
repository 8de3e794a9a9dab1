-- Tasks: a script is the main task; create_task starts another one, await joins it.
local async = require "lunation"

local function greet(name, seconds)
  async.sleep(seconds) -- suspends this task; the others go on
  print("hello, " .. name)
  return name, #name
end

-- Direct style: a call that has to wait is a call like any other.
print("returned", greet("world", 0.02))

-- Two at once: the hare starts later and is done first.
local tortoise = async.create_task(greet, "tortoise", 0.08)
local hare = async.create_task(greet, "hare", 0.02):set_name("hare")
print("running yet?", tortoise:done(), hare:done())

-- await returns all that the function returned, as often as it is asked.
print("returned", async.await(tortoise))
print("returned", async.await(hare))
print(hare:get_name(), hare:done(), hare:result())

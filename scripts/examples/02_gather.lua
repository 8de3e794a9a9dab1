-- gather: many things at once, their results in the order in which they were given.
local async = require "lunation"

local function price(item, seconds)
  async.sleep(seconds)
  if item == "unicorn" then error(async.ValueError("not for sale: " .. item)) end
  return #item * 10
end
-- gather takes tasks, futures and functions; a function becomes a task.
local function ask(item, seconds)
  return function() return price(item, seconds) end
end

local prices = async.gather { ask("apple", 0.06), ask("pear", 0.02), ask("plum", 0.04) }
print("prices", prices.n, table.concat(prices, " "))

-- The first error is thrown at once; the others go on.
local quince = async.create_task(price, "quince", 0.08)
local ok, e = async.pcall(async.gather, { ask("unicorn", 0.02), quince })
print(ok, e, "quince done: " .. tostring(quince:done()))
print("quince", async.await(quince))

-- cancel_on_error: the others are cancelled, and have ended when the error is thrown.
local melon = async.create_task(price, "melon", 60)
ok, e = async.pcall(async.gather, { ask("unicorn", 0.02), melon }, { cancel_on_error = true })
print(ok, e, "melon cancelled: " .. tostring(melon:cancelled()))

-- return_exceptions: nothing is thrown, the errors come as a second result.
local results, errors = async.gather({ ask("fig", 0.02), ask("unicorn", 0.02), ask("lime", 0.02) },
  { return_exceptions = true })
for i = 1, results.n do
  if errors[i] then print(i, "failed: " .. errors[i].message) else print(i, results[i]) end
end

-- TaskGroup: a block that ends when all its tasks have; the first failure cancels the rest.
local async = require "lunation"

local function cook(dish, seconds, problem)
  local _ <close> = async.defer(function(err)
    if async.isinstance(err, async.CancelledError) then print(dish .. ": taken off the fire") end
  end)
  async.sleep(seconds)
  if problem then error(problem) end
  print(dish .. ": ready")
  return dish
end

local soup
do
  local kitchen <close> = async.TaskGroup()
  soup = kitchen:create_task(cook, "soup", 0.05)
  kitchen:create_task(cook, "bread", 0.02)
end
print("all done, starting with the " .. soup:result())

-- Errors leave the block as one ExceptionGroup, also when there is only one.
local ok, group = async.pcall(function()
  local kitchen <close> = async.TaskGroup()
  kitchen:create_task(cook, "roast", 60)
  kitchen:create_task(cook, "sauce", 0.02, async.ValueError("too much salt"))
  kitchen:create_task(function()
    pcall(async.sleep, 60)
    error(async.OSError("no gas", { code = "EIO" })) -- fails while it is being cancelled
  end)
end)
print(ok, group.name, #group.errors)
for i, e in ipairs(group.errors) do print(i, e) end

-- split: those of one class, and the rest.
local io_errors, others = group:split(async.OSError)
print(#io_errors.errors, io_errors.errors[1].code, #others.errors, others.errors[1].message)

-- Errors: classes of one's own, caught by class, with fields and a cause; any other value can be thrown as well.
local async = require "lunation"

local StoreError = async.exception("StoreError")
local NotFound = async.exception("NotFound", StoreError)

local function read(key)
  async.sleep(0.01)
  if key == "disk" then error(async.OSError("read: input/output error", { code = "EIO" })) end
  error(NotFound("no such key: " .. key, { key = key }))
end

local function load_value(key)
  local ok, e = async.pcall(read, key)
  if ok then return e end
  if async.isinstance(e, async.OSError) then
    error(StoreError("the store is broken", { cause = e }))
  end
  error(e) -- not ours to handle: passed on as it is
end

for _, key in ipairs { "apple", "disk" } do
  local ok, e = async.pcall(load_value, key)
  print(ok, e)
  print("", "NotFound " .. tostring(async.isinstance(e, NotFound)),
    "StoreError " .. tostring(async.isinstance(e, StoreError)),
    "Error " .. tostring(async.isinstance(e, async.Error)))
  print("", "key " .. tostring(e.key), "cause " .. tostring(e.cause))
end

-- An error crosses every await on its way as the same value, and reaches everybody who waits for it.
local problem = NotFound("only one of its kind")
local task = async.create_task(function() error(problem) end)
local function look()
  local _, e = async.pcall(async.await, task)
  return rawequal(e, problem)
end
print("the same", table.unpack(async.map({ 1, 2, 3 }, look)))

-- Strings and tables are errors too; isinstance is false for them.
for _, value in ipairs { "a plain string", 42, { code = 7 } } do
  local _, e = async.pcall(async.await, async.create_task(function() error(value, 0) end))
  print(type(e), e == value, async.isinstance(e, async.Error))
end

-- as_completed: tasks one by one, in the order in which they end, whatever the order in which they were started.
local async = require "lunation"

local function download(name, seconds)
  async.sleep(seconds)
  if name == "lost" then error(async.OSError("no such file: " .. name, { code = "ENOENT" })) end
  return name
end

local tasks = {
  async.create_task(download, "large", 0.12),
  async.create_task(download, "small", 0.03),
  async.create_task(download, "lost", 0.06),
  async.create_task(download, "middle", 0.09),
}
for task in async.as_completed(tasks) do
  local ok, result = async.pcall(task.result, task)
  print(ok and "got " .. result or "failed: " .. result.message)
end

-- With a timeout: what has not ended by then goes on, and is ours to cancel.
local endless = async.create_task(download, "endless", 60)
local ok, e = async.pcall(function()
  local list = { endless, async.create_task(download, "tiny", 0.02) }
  for task in async.as_completed(list, { timeout = 0.06 }) do
    print("got " .. task:result())
  end
end)
print(ok, e.name, "cancelled: " .. tostring(endless:cancel()))

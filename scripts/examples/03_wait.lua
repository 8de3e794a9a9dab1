-- wait: until the first is done, until one fails, or until the time is up. It throws no child's error, cancels nothing.
local async = require "lunation"

local function job(seconds, problem)
  async.sleep(seconds)
  if problem then error(async.RuntimeError(problem)) end
  return seconds
end

local function show(title, done, pending)
  local function names(tasks)
    local list = {}
    for i, task in ipairs(tasks) do list[i] = task:get_name() end
    return table.concat(list, " ")
  end
  print(title, "done: " .. names(done), "pending: " .. names(pending))
end

local tasks = {
  async.create_task(job, 0.09):set_name("slow"),
  async.create_task(job, 0.06, "out of paper"):set_name("broken"),
  async.create_task(job, 0.03):set_name("quick"),
}
show("first", async.wait(tasks, { return_when = async.FIRST_COMPLETED }))
show("failure", async.wait(tasks, { return_when = async.FIRST_EXCEPTION }))
show("time is up", async.wait(tasks, { timeout = 0 }))
local done, pending = async.wait(tasks)
show("all", done, pending)

-- The errors are still owed to somebody: exception() takes one without throwing it.
for _, task in ipairs(done) do
  if task:exception() then
    print(task:get_name(), "failed", task:exception())
  else
    print(task:get_name(), "returned", task:result())
  end
end

-- Cancellation: an error thrown where the task waits, so <close> variables and handlers run, and may await.
local async = require "lunation"

local function worker(name)
  local _ <close> = async.defer(function(err)
    async.sleep(0.02) -- say goodbye to the server
    print(name .. ": closed, because of " .. (err and err.name or "nothing"))
  end)
  print(name .. ": at work")
  async.sleep(name == "short" and 0 or 60)
end

async.await(async.create_task(worker, "short"))

local task = async.create_task(worker, "long")
async.sleep(0.02)
print("asked", task:cancel("we close at six"))
local ok, e = pcall(async.await, task)
print(ok, e.name, e.message, task:cancelled())
print("asked again", task:cancel())

-- A task that has not started never starts.
task = async.create_task(worker, "never")
task:cancel()
async.wait { task } -- wait tells the end of a task without throwing its error
print("never", task:cancelled())

-- pcall catches a cancellation too, and who returns normally after it was not cancelled.
task = async.create_task(function()
  local _, err = pcall(async.sleep, 60)
  return "finished in spite of " .. err.name
end)
async.sleep(0.02)
task:cancel()
print(async.await(task), task:cancelled())

-- async.pcall is for errors: it lets a cancellation through.
task = async.create_task(function()
  while true do
    if not async.pcall(error, "some error") then print("an error was caught, once more") end
    async.pcall(async.sleep, 60)
  end
end)
async.sleep(0.02)
task:cancel()
async.wait { task }
print("loop ended", task:cancelled())

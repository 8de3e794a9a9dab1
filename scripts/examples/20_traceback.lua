-- Looking inside: where an error was thrown and which awaits it crossed; who waits for whom right now.
-- The texts for people go to stderr, as they tell addresses and times.
local async = require "lunation"

local function measure(sensor)
  async.sleep(0.02)
  error(async.ValueError("sensor " .. sensor .. " is silent"))
end

local function survey()
  local inner = async.create_task(measure, 7):set_name("measure")
  return 100 / async.await(inner)
end

-- The lines of this file that a traceback names.
local function places(text)
  local list, seen = {}, {}
  for line in text:gmatch("20_traceback%.lua:(%d+): in") do
    if not seen[line] then list[#list + 1] = line end
    seen[line] = true
  end
  return list
end

local task = async.create_task(survey):set_name("survey")
local ok, e = async.pcall(async.await, task)
print(ok, e)
local trace = places(task:traceback())
print("thrown in line " .. trace[1], "came through the await in line " .. trace[2])
print("the error knows it as well", places(async.traceback(e))[1])
async.print_exception(e) -- as the exception handler prints it

-- Every task as a tree: who waits for whom, since when, with the stack of each.
local gate = async.Event()
local waiting = async.create_task(function() gate:wait() end):set_name("waiting")
local joined = async.create_task(function() async.await(waiting) end):set_name("joined")
async.sleep(0.02)
async.dump()
gate:set()
async.await(joined)
print("finished", waiting:done(), joined:done())

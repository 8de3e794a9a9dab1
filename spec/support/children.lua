-- What the system knows of this process's children and descriptors; for specs of processes.
local async = require "lunation"
local helper = require "spec.helper"

local children = {}

-- The children of this thread that were not reaped, zombies included, as a list of numbers.
function children.list()
  local file <close> = assert(io.open("/proc/thread-self/children"))
  local list = {}
  for pid in file:read("a"):gmatch("%d+") do list[#list + 1] = math.tointeger(tonumber(pid)) end
  return list
end

-- How many of our descriptors below 1000 have these of the flags in `mask`, an octal number.
local function descriptors(mask, wanted)
  local n = 0
  mask, wanted = tonumber(mask, 8), tonumber(wanted, 8)
  for fd = 0, 999 do
    local file <close> = io.open("/proc/self/fdinfo/" .. fd)
    if file and tonumber(file:read("a"):match("flags:%s*(%d+)"), 8) & mask == wanted then n = n + 1 end
  end
  return n
end

-- How many there are, without those that only wait to be collected.
function children.descriptors()
  collectgarbage()
  helper.turns(5)
  return descriptors("0", "0")
end

-- How many do not block; how many a child would inherit.
function children.nonblocking() return descriptors("4000", "4000") end
function children.inheritable() return descriptors("2000000", "0") end

-- The user that this process runs as.
function children.uid()
  local file <close> = assert(io.open("/proc/self/status"))
  return math.tointeger(tonumber(file:read("a"):match("Uid:%s*(%d+)")))
end

-- The state of any process: "R", "S", "Z" ..., or nil if it is gone.
function children.state(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return nil end
  local _ <close> = file
  return (file:read("a") or ""):match("%) (%a)")
end

-- True once that process has ended: it is gone, or a zombie that others have to reap.
function children.gone(pid)
  local state = children.state(pid)
  return state == nil or state == "Z"
end

-- Waits until it is.
function children.eventually_gone(pid)
  return helper.eventually(function() return children.gone(pid) end)
end

-- Waits until no child is left that was not in `before`.
function children.eventually_none(before)
  local known = {}
  for _, pid in ipairs(before) do known[pid] = true end
  return helper.eventually(function()
    for _, pid in ipairs(children.list()) do
      if not known[pid] then return false end
    end
    return true
  end)
end

-- For before_each and after_each: a test ends with the children it began with. -> a function like tasks.started whose
-- tasks end with the test, what is to be done before and after each, and such a function like async.create_task.
function children.guard()
  local before, running
  local function begin() before, running = children.list(), {} end
  local function finish()
    for _ = 1, 2 do -- a run that is cancelled twice does not wait
      for _, task in ipairs(running) do task:cancel() end
      helper.turns(3)
    end
    for _, task in ipairs(running) do
      if task:done() then pcall(task.exception, task) end
    end
    collectgarbage() -- objects that a test was cut before it closed
    assert(children.eventually_none(before), "a child is left")
  end
  local function created(...)
    local task = async.create_task(...)
    running[#running + 1] = task
    return task
  end
  local function started(...)
    local task = created(...)
    helper.turns()
    return task
  end
  return started, begin, finish, created
end

return children

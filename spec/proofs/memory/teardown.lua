-- What a run does at its end with tasks that are left: those that go, that fail, that refuse and are closed
-- by force; loops that nobody closes.
local async = require "lunation"

local function refuse(f, ...)
  local args = { ... }
  return function()
    for _ = 1, 1000 do
      local ok, e = pcall(f, table.unpack(args))
      if not ok and not async.isinstance(e, async.CancelledError) then error(e, 0) end
    end
  end
end

local loop = async.new_event_loop { shutdown_grace = 0, clock = "virtual", debug = sweep.debug }
local runner <close> = async.Runner { shutdown_grace = 0, clock = "virtual", debug = sweep.debug }
assert(runner:get_loop() and tostring(runner))
local ok, e = pcall(runner.run, runner, function()
  local lock, queue = async.Lock(), async.Queue()
  lock:acquire()
  async.create_task(refuse(async.sleep, 10))
  async.create_task(refuse(lock.acquire, lock))
  async.create_task(refuse(queue.get, queue))
  async.create_task(refuse(async.gather, { function() async.sleep(100) end, function() async.sleep(100) end }))
  async.create_task(function()
    local tg <close> = async.TaskGroup()
    tg:create_task(refuse(async.sleep, 3))
  end)
  async.create_task(function()
    local _ <close> = setmetatable({}, { __close = function() error("in a closer") end })
    refuse(async.sleep, 4)()
  end)
  async.sleep(0)
  async.sleep(0)
end)
if not ok then error(e, 0) end
for _ = 1, 3 do loop:create_task(refuse(async.sleep, 10)) end
loop:call_soon(print)
loop:run_until_complete(function() async.sleep(0) end)
loop:close()
async.new_event_loop { clock = "virtual" }:create_task(print)

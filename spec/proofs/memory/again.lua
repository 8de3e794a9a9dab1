-- What was refused for want of memory has not happened: done again, it gives what it would have given at first.
local async = require "lunation"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

local function no_memory(e)
  return type(e) == "string" and (e:find("not enough memory", 1, true) or e:find("stack overflow", 1, true))
end

-- f(...), again and again if there was no memory for it. Nothing here asks for memory after f has succeeded.
local function insist(f, ...)
  local ok, x, y, z
  for _ = 1, 30 do
    ok, x, y, z = pcall(f, ...)
    if ok then return x, y, z end
    if not no_memory(x) then break end
  end
  error(x, 0)
end

local function queues()
  local fifo, lifo, least = insist(async.Queue), insist(async.LifoQueue), insist(async.PriorityQueue)
  for i = 1, 20 do
    insist(fifo.put, fifo, i)
    insist(lifo.put_nowait, lifo, i)
    insist(least.put, least, 21 - i)
    if i % 4 == 0 then assert(insist(fifo.get, fifo) == i // 4 and insist(lifo.get_nowait, lifo) == i) end
  end
  assert(fifo:qsize() == 15 and lifo:qsize() == 15 and least:qsize() == 20)
  for i = 1, 15 do assert(insist(fifo.get, fifo) == 5 + i) end
  for i = 1, 20 do assert(insist(least.get_nowait, least) == i) end
  for _ = 1, 20 do insist(fifo.task_done, fifo) insist(least.task_done, least) end
  insist(fifo.join, fifo)
  assert(not pcall(fifo.task_done, fifo))
end

local function futures()
  local loop, calls = async.get_running_loop(), {}
  local f = insist(async.Future)
  insist(f.add_done_callback, f, function() calls[#calls + 1] = "done" end)
  insist(loop.call_soon, loop, function(a, b) assert(b == nil) calls[#calls + 1] = a end, "soon", nil)
  local handle = insist(loop.call_later, loop, 0.1, function() calls[#calls + 1] = "later" end)
  insist(f.set_result, f, 1, nil, 3)
  local x, y, z = f:result()
  assert(x == 1 and y == nil and z == 3 and not pcall(f.set_result, f))
  local g = insist(async.Future)
  insist(g.set_exception, g, "failed")
  assert(g:done() and g:exception() == "failed")
  insist(async.sleep, 0.2)
  assert(#calls <= 3 and not handle:cancelled())
end

local function tasks()
  local n, list = 0, {}
  for i = 1, 40 do
    list[i] = insist(async.create_task, function(arg)
      insist(async.sleep, arg / 100)
      n = n + 1
      return i
    end, i)
  end
  local asked = insist(async.create_task, async.sleep, 50)
  insist(async.sleep, 0)
  assert(insist(asked.cancel, asked, "message") and asked:cancelling() == 1 or asked:exception())
  insist(async.wait, { asked })
  assert(asked:done())
  local failed = 0
  for i = 1, 40 do
    local ok, r = pcall(async.await, list[i])
    if not ok then failed = failed + 1 elseif r ~= i then error("wrong result") end
  end
  assert(n == 40 - failed)
end

local function locks()
  local lock, event, permits = insist(async.Lock), insist(async.Event), insist(async.Semaphore, 2)
  insist(lock.acquire, lock)
  insist(permits.acquire, permits)
  local t = insist(async.create_task, function()
    insist(event.wait, event)
    insist(lock.acquire, lock)
    lock:release()
    return "got it"
  end)
  insist(async.sleep, 0)
  event:set()
  insist(async.sleep, 0)
  insist(lock.release, lock)
  local ok, e = pcall(async.await, t)
  assert(ok and e == "got it" or no_memory(e))
  permits:release()
  assert(not lock:locked() and not permits:locked())
  insist(permits.acquire, permits)
  insist(permits.acquire, permits)
  assert(permits:locked())
end

for _, part in ipairs { queues, futures, tasks, locks } do
  local ok, e = pcall(runner.run, runner, part)
  if not ok and not no_memory(e) then error("attempt to go on: " .. tostring(e), 0) end
end

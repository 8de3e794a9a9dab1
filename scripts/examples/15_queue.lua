-- Queue: producers and consumers. A full queue makes the producer wait; shutdown ends the consumers' loops.
local async = require "lunation"

local queue, most = async.Queue(2), 0

local function producer()
  -- What is in the queue is still taken; then the loops end. So they do, too, if the producer is cancelled.
  local _ <close> = async.defer(function() queue:shutdown() end)
  for i = 1, 6 do
    queue:put("job " .. i) -- waits while two are lying there
    most = math.max(most, queue:qsize())
  end
end

local done = {}
local function consumer()
  for job in queue:iter() do
    local _ <close> = async.defer(function() queue:task_done() end)
    async.sleep(0.02)
    done[#done + 1] = job
  end
end

do
  local group <close> = async.TaskGroup()
  group:create_task(producer)
  group:create_task(consumer)
  group:create_task(consumer)
end
table.sort(done)
print(table.concat(done, ", "))
print("most at once: " .. most)
print("afterwards: " .. select(2, async.pcall(queue.put, queue, "late")).name)

-- join: wait until every item was reported as done; race: but not for ever, if the consumer should end before.
queue = async.Queue()
for i = 1, 3 do queue:put_nowait(i) end
async.race { function() queue:join() end, consumer }
print("joined", #done)

-- The order can be another one: the smallest first, or the newest first.
local urgent = async.PriorityQueue(0, function(a, b) return a.level < b.level end)
urgent:put { level = 3, text = "tea" }
urgent:put { level = 1, text = "fire" }
urgent:put { level = 2, text = "mail" }
print(urgent:get().text, urgent:get().text, urgent:get().text)
local pile = async.LifoQueue()
for i = 1, 3 do pile:put(i) end
print(pile:get(), pile:get(), pile:get())

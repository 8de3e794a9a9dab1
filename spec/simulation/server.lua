-- The simulated server: takes connections from a backlog, answers each connection's questions side by side and in any
-- order, at most so many at once; some work is done by a pool of workers behind a queue.
local async = require "lunation"
local wire = require "spec.simulation.wire"

local server = {}

local verbs = {}

function verbs.echo(_, body) return body end

function verbs.sum(_, body)
  local sum = 0
  for i = 1, #body do sum = sum + body:byte(i) end
  return tostring(sum)
end

function verbs.slow(_, body)
  async.sleep(#body / 100)
  return body:reverse()
end

function verbs.fail(_, body) error(async.ValueError("refused " .. #body)) end

-- Done by a worker; the answer comes over a future.
function verbs.work(self, body)
  local done = async.Future()
  self.jobs:put { body = body, done = done }
  return async.await(done)
end

local function worker(self)
  for job in self.jobs:iter() do
    async.sleep(#job.body / 1000)
    if not job.done:done() then job.done:set_result(job.body:upper()) end
    self.jobs:task_done()
  end
end

local function answer(self, w, slots, id, verb, body)
  local _ <close> = async.defer(function() slots:release() end)
  local request = self.requests[id]
  request.handled = request.handled + 1
  local ok, result = async.pcall(verbs[verb], self, body)
  if not ok and not async.isinstance(result, async.ValueError) then error(result, 0) end
  if self.plant == "lost" and verb == "echo" then return end
  local done, e = async.pcall(w.write, w, "A", id, ok and "ok" or "error", ok and result or result.message)
  if done and self.plant == "double" then w:write("A", id, "ok", result) end
  self.log("server", ("%s %s %s"):format(id, verb, done and "answered" or e.code))
end

-- Reads questions until the end. What fails here is the connection, and ends it.
local function connection(self, stream, link)
  local w = wire.new(stream, link, "b")
  w.flip = self.plant == "flip"
  local slots = async.Semaphore(self.slots)
  local name = "server:" .. link.id
  self.log(name, "accepted")
  local ok, e = async.pcall(function()
    local tg <close> = async.TaskGroup()
    while true do
      local id, verb, body = w:read("Q")
      if not id then
        self.log(name, verb or "end")
        break
      end
      slots:acquire()
      tg:create_task(answer, self, w, slots, id, verb, body)
    end
  end)
  if not ok then self.log(name, e.errors and e.errors[1].code or e.code or tostring(e)) end
  stream:close()
end

function server.run(self)
  self.jobs = async.Queue(3)
  self.slots = self.random.int(1, 4)
  local workers = async.TaskGroup()
  do
    local _ <close> = workers
    for _ = 1, 2 do workers:create_task(worker, self) end
    do
      local tg <close> = async.TaskGroup()
      for item in self.backlog:iter() do tg:create_task(connection, self, item.stream, item.link) end
    end
    self.jobs:shutdown()
  end
  self.log("server", "closed")
end

return server

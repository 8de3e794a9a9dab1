-- A simulated client: connects, asks many questions at once over one connection, gives some of them too little time,
-- and connects again when the connection breaks. Every question has one outcome.
local async = require "lunation"
local wire = require "spec.simulation.wire"

local client = { AMPLE = 60 } -- seconds in which every answer comes, if the connection holds

-- What the answer has to be.
local expected = {
  echo = function(body) return "ok", body end,
  sum = function(body)
    local sum = 0
    for _, byte in ipairs { body:byte(1, -1) } do sum = sum + byte end
    return "ok", tostring(sum)
  end,
  slow = function(body) return "ok", body:reverse() end,
  fail = function(body) return "error", "refused " .. #body end,
  work = function(body) return "ok", body:upper() end,
}

-- Hands answers to those who wait for them, until the end; then the rest fails.
local function listen(self, session)
  local ok, e = async.pcall(function()
    while true do
      local id, word, body = session.wire:read("A")
      if not id then return word end
      local waiting = session.pending[id]
      session.pending[id] = nil
      if waiting then
        if not waiting:done() then waiting:set_result(word, body) end
      elseif not self.requests[id].late then
        self.problem("request %s was answered twice", id)
      end
      self.requests[id].late = nil
    end
  end)
  session.broken = ok and (e or "end") or e.code or tostring(e)
  self.log(session.name, "link " .. session.link.id .. " " .. session.broken)
  for _, id in ipairs(session.order) do
    local waiting = session.pending[id]
    session.pending[id] = nil
    if waiting and not waiting:done() then waiting:set_exception(async.OSError("the link broke", { code = "EPIPE" })) end
  end
end

local function open(self, name)
  local a, b, link = self:dial()
  local ok, e = async.pcall(self.backlog.put, self.backlog, { stream = b, link = link })
  if not ok then error(e, 0) end
  local session = { name = name, link = link, wire = wire.new(a, link, "a"), pending = {}, order = {} }
  session.listener = async.create_task(listen, self, session)
  return session
end

-- Asks one question; how it ended.
local function ask(self, session, request)
  if session.broken then return "broken" end
  request.link = session.link
  local waiting = async.Future()
  session.pending[request.id] = waiting
  session.order[#session.order + 1] = request.id
  local function forget()
    if session.pending[request.id] then request.late = true end
    -- The link may have broken while the question was still being written.
    if waiting:done() and not waiting:cancelled() then waiting:exception() end
    session.pending[request.id] = nil
  end
  local _ <close> = async.defer(forget)
  local function exchange()
    session.wire:write("Q", request.id, request.verb, request.body)
    return async.await(waiting)
  end
  local ok, word, body
  if request.style == "scope" then
    ok, word, body = async.pcall(function()
      local _ <close> = async.timeout(request.patience)
      return exchange()
    end)
  else
    ok, word, body = async.pcall(async.wait_for, exchange, request.patience)
  end
  if not ok then
    if async.isinstance(word, async.TimeoutError) then return "late" end
    if async.isinstance(word, async.OSError) then return "broken" end
    error(word, 0)
  end
  local word_due, body_due = expected[request.verb](request.body)
  if word ~= word_due or body ~= body_due then self.problem("request %s: wrong answer", request.id) end
  return "answered"
end

local function request_task(self, session, request)
  local ok, e = pcall(ask, self, session, request)
  request.outcomes = request.outcomes + 1
  request.outcome = ok and e or async.isinstance(e, async.CancelledError) and "cancelled" or "failed"
  self.log(session.name, request.id .. " " .. request.outcome)
  if not ok then error(e, 0) end
end

local function new_request(self, name, i)
  local random = self.random
  local request = {
    id = ("%s.%d"):format(name, i), outcomes = 0, handled = 0,
    verb = random.pick { "echo", "echo", "sum", "slow", "fail", "work" },
    body = ("abcdefghij"):rep(random.int(0, 6)) .. ("x"):rep(random.int(0, 9)),
    patience = random.chance(25) and random.delay(200) or client.AMPLE,
    style = random.pick { "scope", "wait_for" },
  }
  self.requests[#self.requests + 1] = request
  self.requests[request.id] = request
  return request
end

-- Ends the asking, and the connection, in one of the ways that there are.
local function finish(self, session)
  if session.broken then
    session.wire:close()
  elseif self.random.chance(70) then
    local ok = async.pcall(session.wire.stream.shutdown, session.wire.stream)
    if ok then async.wait { session.listener } end
    session.link.orderly = ok and session.broken == "end"
    session.wire:close()
  else
    self.log(session.name, "hangs up")
    session.wire:close()
  end
  async.await(session.listener)
end

function client.run(self, name)
  local random, count = self.random, 0
  async.sleep(random.delay(50))
  for _ = 1, random.int(1, 3) do
    local session = open(self, name)
    do
      local tg <close> = async.TaskGroup()
      for _ = 1, random.int(1, 12) do
        count = count + 1
        local request = new_request(self, name, count)
        request.task = tg:create_task(request_task, self, session, request)
        if random.chance(50) then async.sleep(random.delay(30)) end
        if session.broken then break end
      end
    end
    finish(self, session)
    async.sleep(random.delay(100))
  end
end

return client

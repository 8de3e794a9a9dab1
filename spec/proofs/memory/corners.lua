-- Corners of tasks and combinators: coroutines that somebody has, awaits that give way, groups that change while
-- they are waited for, cancels on the way back, futures in every place of a list.
local async = require "lunation"
local coroutine_ = async.coroutine
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

local function after(delay, value)
  return function()
    async.sleep(delay)
    return value
  end
end

runner:run(function()
  -- A coroutine that somebody might close keeps what it waits for elsewhere.
  local kept = async.create_task(function()
    local co = async.current_task():get_coro()
    async.sleep(0.1)
    async.gather { after(0.1), after(0.2) }
    pcall(async.wait_for, after(1), 0.1)
    local ok, e = pcall(async.sleep, 5)
    if not ok and async.isinstance(e, async.CancelledError) then error("attempt to sleep: nobody asked to stop", 0) end
    coroutine_.yield()
    coroutine_.yield(async.create_task(after(0.1)))
    pcall(coroutine_.yield, 5)
    return co
  end)
  assert(type(async.await(kept)) == "thread")
  local closed = async.create_task(function() local _ <close> = async.defer(print) async.Event():wait() end)
  async.sleep(0)
  coroutine.close(closed:get_coro())
  async.sleep(0)
  closed:cancel()
  async.wait { closed }

  local generator = coroutine_.create(function(self)
    assert(coroutine_.status(self) == "running")
    coroutine_.wrap(function() assert(coroutine_.status(self) == "normal") end)()
    async.sleep(0)
    error("in a generator")
  end)
  assert(not coroutine_.resume(generator, generator) and coroutine_.status(generator) == "dead")
  assert(not coroutine_.resume(generator) and coroutine_.close(generator) ~= nil)
  local shared = coroutine_.create(function() async.sleep(1) end)
  async.create_task(coroutine_.resume, shared)
  async.sleep(0)
  assert(not coroutine_.resume(shared) and not pcall(coroutine_.close, shared))
end)

runner:run(function()
  -- Every 128th await that need not suspend does.
  local done = async.Future()
  done:set_result(1)
  local list = { done }
  local function almost() for _ = 1, 127 do async.await(done) end async.sleep(0) for _ = 1, 127 do async.await(done) end end
  for _, f in ipairs { async.gather, async.wait, async.race, async.await } do
    almost()
    f(f == async.await and done or list)
  end
  almost()
  async.map({}, print)
  almost()
  async.as_completed(list)()
  for i = 1, 300 do list[i] = done end
  assert(async.gather(list).n == 300)
  local pending = async.Future()
  list[150] = pending
  local t = async.create_task(async.gather, list)
  async.sleep(0)
  pending:set_result()
  async.await(t)
end)

runner:run(function()
  local function members(tg, n)
    for i = 1, n do tg:create_task(async.sleep, i / 10) end
  end
  do
    local tg <close> = async.TaskGroup()
    members(tg, 5)
    async.sleep(0.35)
    members(tg, 5)
    tg:create_task(function() async.sleep(0.1) members(tg, 2) end)
  end
  local finished
  local t = async.create_task(function()
    local tg <close> = async.TaskGroup()
    finished = tg
    members(tg, 3)
    tg:create_task(function() local _ <close> = async.defer(function() async.sleep(0.2) end) async.sleep(9) end)
  end)
  async.sleep(0.15)
  t:cancel("leave")
  async.sleep(0.01)
  t:cancel("at once")
  async.wait { t }
  if finished then assert(not pcall(finished.create_task, finished, print)) end
  t = async.create_task(function()
    local tg <close> = async.TaskGroup()
    tg:create_task(function() async.await(t) end)
    async.sleep(0)
  end)
  async.wait { t }
  assert(t:done())

  local failing = async.shield(function() async.sleep(0) error("under a shield") end)
  assert(not pcall(async.await, failing))
  local condition = async.Condition()
  local waiter = async.create_task(function()
    local _ <close> = condition:guard()
    condition:wait()
  end)
  async.sleep(0)
  condition:acquire()
  condition:notify()
  waiter:cancel()
  async.sleep(0)
  waiter:cancel()
  async.sleep(0)
  condition:release()
  async.wait { waiter }

  local it = async.as_completed { after(5), after(6) }
  local reader = async.create_task(it)
  async.sleep(0)
  it:close()
  async.wait { reader }
end)

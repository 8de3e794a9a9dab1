-- gather, wait, as_completed, map, race, wait_for, timeout, shield, groups, wrap: each ending well, by an
-- error, by a cancel.
local async = require "lunation"
local runner = async.Runner { clock = "virtual", debug = sweep.debug }

local function after(delay, value)
  return function()
    async.sleep(delay)
    return value
  end
end
local function bad() error(async.ValueError("bad")) end

local function gathers()
  local r = async.gather { after(0, 1), after(0.1, 2), after(0) }
  assert(r.n == 3 and r[2] == 2 and r[3] == nil)
  assert(not pcall(async.gather, { after(0), bad, after(0.1) }))
  local results, errors = async.gather({ after(0, 1), bad }, { return_exceptions = true })
  assert(results[2] == errors[2])
  assert(not pcall(async.gather, { after(0), bad, after(1) }, { cancel_on_error = true }))
  local t = async.create_task(async.gather, { after(5), after(5) })
  async.sleep(0)
  t:cancel("all")
  async.wait { t }
end

local function waits()
  local done, pending = async.wait({ after(0), after(0.5) }, { return_when = async.FIRST_COMPLETED })
  assert(#done == 1 and #pending == 1)
  done, pending = async.wait({ after(0), after(0.5) }, { timeout = 0.1 })
  assert(#done == 1 and #pending == 1)
  async.wait({ after(0), bad }, { return_when = async.FIRST_EXCEPTION })
  local ended = { async.create_task(async.sleep, 0.2), async.create_task(async.sleep, 0.1) }
  async.sleep(0.3)
  assert(async.wait(ended)[1] == ended[2])
  assert(async.wait_for(after(0, 3), 1) == 3)
  assert(not pcall(async.wait_for, after(1), 0.1))
  for t in async.as_completed { after(0), bad, after(0.1) } do pcall(t.result, t) end
  pcall(function()
    for _ in async.as_completed({ after(0), after(1) }, { timeout = 0.1 }) do end
  end)
  local it = async.as_completed { after(0), after(1) }
  it()
  it:close()
end

local function races()
  local r = async.map({ 1, 2, 3, 4 }, function(i) async.sleep(0) return i end, { limit = 2 })
  assert(r.n == 4 and r[4] == 4)
  pcall(async.map, { 1, 2, 3, 4 }, function(i)
    async.sleep(0)
    if i == 2 then bad() end
    async.sleep(1)
  end)
  assert(async.race { after(0, 1), after(1) } == 1)
  assert(not pcall(async.race, { bad, after(1) }))
  local shielded = async.create_task(after(0.1, 3))
  local shield = async.shield(shielded)
  shield:cancel()
  assert(async.await(shielded) == 3 and async.await(async.shield(after(0.1, 4))) == 4)
  local later = async.wrap(function(a, cb) async.get_running_loop():call_soon(cb, a) end)
  assert(later(1) == 1 and async.wrap(function(cb) cb(7) end)() == 7)
end

local function scopes()
  local ok, e = pcall(function()
    local tg <close> = async.TaskGroup()
    tg:create_task(after(1))
    tg:create_task(bad)
  end)
  assert(not ok and async.isinstance(e, async.ExceptionGroup))
  do
    local tg <close> = async.TaskGroup()
    tg:create_task(after(0))
    tg:create_task(after(0.1))
  end
  ok, e = pcall(function()
    local _ <close> = async.timeout(0.1)
    async.sleep(5)
  end)
  assert(not ok and async.isinstance(e, async.TimeoutError))
  local t <close> = async.timeout(1)
  local _ <close> = async.timeout_at(async.get_running_loop():time() + 2)
  async.sleep(0)
  t:reschedule(t:when() + 3)
  assert(not t:expired())
end

runner:run(gathers)
runner:run(waits)
runner:run(races)
runner:run(scopes)
runner:close()

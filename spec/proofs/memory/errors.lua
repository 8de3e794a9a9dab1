-- Error objects, groups, protected calls, closers, traces, and what is printed of them.
local async = require "lunation"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

local Mine = async.exception("Mine", async.ValueError)
local e = Mine("message", { cause = async.RuntimeError("before"), extra = 1 })
assert(e.extra == 1 and tostring(e) == "Mine: message" and tostring(Mine) and tostring(async.Error()))
assert(async.isinstance(e, { async.TypeError, async.ValueError }) and not async.isinstance("e", Mine))

local group = async.ExceptionGroup("several", { errors = {
  e, async.TimeoutError("late"), async.ExceptionGroup("inner", { errors = { async.OSError("os"), Mine("2") } }),
} })
local match, rest = group:split(Mine)
assert(match and rest and group:subgroup(async.OSError) and not group:subgroup(async.QueueFull))

runner:run(function()
  local null <close> = assert(io.open("/dev/null", "w"))
  local ok, caught = async.pcall(function()
    async.sleep(0)
    local _ <close> = async.defer(function(err) async.sleep(0.1) assert(err) end)
    error(e)
  end)
  assert(not ok and caught == e)
  ok, caught = async.xpcall(function() async.sleep(0) error("text") end, function(m) return m .. "!" end)
  assert(not ok and caught:find("text!"))
  local t = async.create_task(function() async.pcall(async.sleep, 1) end)
  async.sleep(0)
  t:cancel()
  async.wait { t }

  local function thrower() error(group) end
  local inner = async.create_task(thrower)
  local outer = async.create_task(function() async.await(inner) end)
  ok, caught = pcall(async.await, outer)
  assert(not ok and async.traceback(caught))
  async.print_exception(caught, null)
  async.print_exception("text", null)
  ok, caught = pcall(function()
    local _ <close> = async.defer(function() error("replaces it") end)
    error(Mine("replaced"))
  end)
  assert(not ok and caught)

  async.create_task(function() async.await(async.create_task(async.sleep, 5)) end):set_name("waits")
  async.create_task(async.gather, { async.sleep, function() async.Lock():acquire() async.Event():wait() end })
  async.create_task(function() coroutine.wrap(function() coroutine.yield() end)() async.Queue():get() end)
  async.sleep(0)
  async.sleep(0)
  async.dump(null)
  local stack = async.all_tasks()[2]:get_stack()
  assert(stack)
end)

-- Combinators that are called again after a refusal: what they had begun ends, nothing is left, results are whole.
local async = require "lunation"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

local function no_memory(e)
  local text = tostring(e)
  return text:find("not enough memory", 1, true) or text:find("stack overflow", 1, true)
end

local function child(value)
  return function()
    async.sleep(value / 10)
    return value
  end
end
local children = { child(1), child(2), child(3) }

-- Calls f until it has the memory it wants; then no other task may be left but those that earlier calls began.
local function insist(f, ...)
  local ok, x, y
  for _ = 1, 30 do
    ok, x, y = pcall(f, ...)
    if ok then return x, y end
    if not (no_memory(x) or async.isinstance(x, async.ExceptionGroup)) then break end
  end
  error(x, 0)
end

local function no_other_tasks(what)
  async.sleep(10)
  if #async.all_tasks() ~= 1 then error("attempt to end " .. what .. ": tasks are left", 0) end
end

local calls = {
  gather = function()
    local r = insist(async.gather, children)
    assert(r.n == 3 and r[1] == 1 and r[3] == 3)
  end,
  wait = function()
    local done = insist(async.wait, children)
    assert(#done == 3)
  end,
  map = function()
    local r = insist(async.map, { 1, 2, 3 }, function(i) async.sleep(i) return i end, { limit = 2 })
    assert(r.n == 3 and r[2] == 2)
  end,
  race = function() assert(insist(async.race, children) == 1) end,
  wait_for = function()
    assert(insist(async.wait_for, children[2], 5) == 2)
    local ok, e = pcall(async.wait_for, children[3], 0.1)
    assert(not ok and (no_memory(e) or async.isinstance(e, async.TimeoutError)))
  end,
  group = function()
    insist(function()
      local tg <close> = async.TaskGroup()
      for i = 1, 3 do tg:create_task(children[i]) end
    end)
  end,
  shield = function() assert(insist(function() return async.await(async.shield(children[1])) end) == 1) end,
  timeout = function()
    insist(function()
      local _ <close> = async.timeout(1)
      async.sleep(0.5)
    end)
    assert(async.current_task():cancelling() == 0)
  end,
  as_completed = function()
    insist(function()
      local n = 0
      for t in async.as_completed(children) do n = n + t:result() end
      assert(n == 6)
    end)
  end,
  generator = function()
    insist(function()
      local n = 0
      for i in async.coroutine.wrap(function() for i = 1, 3 do async.sleep(0) async.coroutine.yield(i) end end) do n = n + i end
      assert(n == 6)
    end)
  end,
}
local names = { "gather", "wait", "map", "race", "wait_for", "group", "shield", "timeout", "as_completed", "generator" }

for _, name in ipairs(names) do
  local ok, e = pcall(runner.run, runner, function()
    local done, why = pcall(calls[name])
    no_other_tasks(name)
    if not done then error(why, 0) end
  end)
  if not ok and not no_memory(e) then error(name .. ", attempt to go on: " .. tostring(e), 0) end
end

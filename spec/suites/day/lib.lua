-- What a program that runs for days is made of: jobs by the clock, retries, a rate limiter, a cache that expires.
local async = require "lunation"

local day = {}

local function now() return async.get_running_loop():time() end
day.now = now

-- Calls fn(n) every `period` seconds, `count` times, from the next full period on; a call that takes long delays none.
function day.every(period, count, fn)
  local start = now()
  for n = 1, count do
    async.sleep(start + n * period - now())
    fn(n)
  end
end

-- fn() until it does not throw: waits first, then twice as long after each failure, at most `longest`.
function day.retry(fn, first, longest)
  local wait, tries = first, 0
  while true do
    tries = tries + 1
    local results = table.pack(async.pcall(fn, tries))
    if results[1] then return tries, table.unpack(results, 2, results.n) end
    async.sleep(wait)
    wait = math.min(2 * wait, longest)
  end
end

-- At most `rate` calls in any `seconds`: limiter() waits until the next one may be.
function day.limiter(rate, seconds)
  local times, lock = {}, async.Lock()
  return function()
    local _ <close> = lock:guard()
    if #times == rate then
      async.sleep(table.remove(times, 1) + seconds - now())
    end
    times[#times + 1] = now()
  end
end

-- load(key), kept for `seconds`; tasks that ask at once share one load.
function day.cache(load, seconds)
  local entries = {}
  return function(key)
    local entry = entries[key]
    if not entry then
      entry = async.create_task(load, key)
      entries[key] = entry
      entry:add_done_callback(function()
        async.get_running_loop():call_later(seconds, function()
          if entries[key] == entry then entries[key] = nil end
        end)
      end)
    end
    return async.await(entry)
  end
end

return day

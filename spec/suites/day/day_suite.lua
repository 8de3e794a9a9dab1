-- Programs that take days. Every test notes how long it slept; the last one prints the sum, which the spec reads.
local async = require "lunation"
local day = require "lib"

local HOUR, DAY = 3600, 86400
local total = 0

describe("a day", function()
  local start, wall

  before_each(function()
    async.sleep(60)
    start, wall = day.now(), os.time()
  end)

  after_each(function()
    total = total + day.now() - start
    async.sleep(60)
  end)

  teardown(function()
    async.sleep(HOUR)
    print(("# slept %.0f seconds"):format(total))
  end)

  local function passed(seconds, tolerance)
    assert.is_near(seconds, day.now() - start, tolerance or 0.001)
    assert.is_true(os.time() - wall < 60)
  end

  it("of one sleep", function()
    async.sleep(DAY)
    passed(DAY)
  end)

  it("of jobs by the clock, some of them long", function()
    local runs = {}
    local function job(name, period, takes)
      return function()
        day.every(period, DAY // period, function()
          runs[name] = (runs[name] or 0) + 1
          async.sleep(takes)
        end)
      end
    end
    async.gather {
      job("minute", 60, 1), job("quarter", HOUR // 4, 899), job("hour", HOUR, 0), job("noon", DAY // 2, 5),
    }
    assert.same({ minute = 1440, quarter = 96, hour = 24, noon = 2 }, runs)
    passed(DAY + 899)
  end)

  it("of retries", function()
    local tries = day.retry(function(n)
      if n < 12 then error(async.OSError("refused", { code = "ECONNREFUSED" })) end
    end, 1, HOUR)
    assert.equal(12, tries)
    passed(1 + 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256 + 512 + 1024)
  end)

  it("of retries that a limit ends", function()
    assert.error_matches(function()
      local _ <close> = async.timeout(DAY)
      day.retry(function() error "never" end, 10, HOUR)
    end, "TimeoutError")
    passed(DAY)
  end)

  it("of requests that time out one after the other", function()
    local late = 0
    for _ = 1, 48 do
      local ok, e = pcall(async.wait_for, function() async.sleep(10 * DAY) end, HOUR / 2)
      if not ok and async.isinstance(e, async.TimeoutError) then late = late + 1 end
    end
    assert.equal(48, late)
    passed(DAY)
  end)

  it("of limited calls from many tasks", function()
    local wait = day.limiter(10, HOUR)
    local times = {}
    local callers = {}
    for i = 1, 241 do
      callers[i] = function()
        wait()
        times[#times + 1] = day.now()
      end
    end
    async.gather(callers)
    assert.equal(241, #times)
    for i = 11, #times do assert.is_true(times[i] - times[i - 10] >= HOUR - 0.001) end
    passed(DAY)
  end)

  it("of a cache", function()
    local loads = spy.new(function(key) return async.sleep(2, key .. "!") end)
    local get = day.cache(function(key) return loads(key) end, HOUR)
    local function reader(key)
      return function()
        for _ = 1, 96 do
          assert.equal(key .. "!", get(key))
          async.sleep(HOUR / 4)
        end
      end
    end
    async.gather { reader "a", reader "a", reader "b" }
    assert.is_true(#loads.calls >= 2 * 19 and #loads.calls <= 2 * 24)
    async.sleep(2 * HOUR)
    passed(DAY + 2 * HOUR, 100)
  end)

  it("of heartbeats that are missed once", function()
    local beats, lost = async.Queue(), nil
    local watcher = async.create_task(function()
      while true do
        local ok = pcall(async.wait_for, function() return beats:get() end, 90)
        if not ok then
          lost = day.now() - start
          return
        end
      end
    end)
    day.every(60, 1000, function() beats:put(true) end)
    async.await(watcher)
    assert.is_near(60000 + 90, lost, 0.001)
    passed(60090)
  end)
end)

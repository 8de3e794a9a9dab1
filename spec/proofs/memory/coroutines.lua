-- Coroutines that await, modules that await while they load, yields of the stock coroutine table.
local async = require "lunation"
local coroutine_, runner = async.coroutine, async.Runner { clock = "virtual", debug = sweep.debug }

package.preload["sweep.module"] = function() async.sleep(0) return { loaded = true } end
package.preload["sweep.bad"] = function() async.sleep(0) error("bad module") end

runner:run(function()
  local numbers = coroutine_.wrap(function()
    for i = 1, 3 do
      async.sleep(0)
      coroutine_.yield(i)
    end
  end)
  assert(numbers() == 1 and numbers() == 2 and numbers() == 3)
  local co = coroutine_.create(function(a)
    local _ <close> = async.defer(function() end)
    coroutine_.yield(a)
    async.sleep(1)
  end)
  assert(coroutine_.resume(co, 1) and coroutine_.status(co) == "suspended" and coroutine_.close(co))
  local outer = coroutine_.wrap(function()
    local inner = coroutine_.wrap(function()
      async.sleep(0)
      coroutine_.yield(coroutine_.isyieldable(), coroutine_.running())
    end)
    coroutine_.yield(inner())
  end)
  assert(outer() == true)
  assert(not pcall(coroutine_.wrap(function() error(async.ValueError("in it")) end)))

  local t = async.create_task(function() coroutine_.wrap(function() async.sleep(10) end)() end)
  async.sleep(0)
  t:cancel()
  async.wait { t }

  async.gather { function() async.require("sweep.module") end, function() async.require("sweep.module") end }
  assert(async.require("sweep.module").loaded and not pcall(async.require, "sweep.bad"))

  coroutine.yield()
  assert(coroutine.yield(async.create_task(function() return 1 end)) == 1)
  pcall(function() coroutine.yield("nonsense") end)
  assert(not pcall(table.sort, { 3, 2, 1 }, function(a, b) async.sleep(0) return a < b end))
end)
runner:close()

-- Streams in memory: lines and blocks both ways, short reads and writes, lockstep, faults, half close.
local async = require "lunation"
local memory = require "lunation.memory"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

runner:run(function()
  local _ <close> = async.timeout(60)
  local a, b = memory.pair { capacity = 100, max_read = 7, max_write = 5, delay = 0.01 }
  async.gather({
    function()
      a:write("one\n", 2, "\n", ("x"):rep(300), ";")
      a:shutdown()
      assert(a:read("a") == "back")
      a:close()
    end,
    function()
      assert(b:read("l") == "one" and b:read("n", "L") == 2)
      assert(#b:read_until(";", 1000) == 301 and b:read_some() == nil)
      b:write("back")
      b:close()
    end,
  }, { cancel_on_error = true })
end)

runner:run(function()
  local _ <close> = async.timeout(60)
  local a, b = memory.pair { lockstep = true, fail_read = { at = 6, error = "ECONNRESET" } }
  async.gather({
    function() pcall(a.write, a, "one\ntwo\nthree\n") end,
    function()
      for line in b:lines() do
        assert(line == "one")
        pcall(b.read, b, 100)
        break
      end
      b:close()
    end,
  }, { cancel_on_error = true })
  local c, d = memory.pair()
  local waiting = async.create_task(c.read, c, "a")
  async.sleep(0)
  waiting:cancel()
  async.wait { waiting }
  assert(tostring(c) and c:peer() and d:sock())
  local full = async.create_task(d.write, d, ("y"):rep(200000))
  async.sleep(0)
  assert(#c:read_some() > 0)
  c:close()
  pcall(async.await, full)
  memory.pair()
end)

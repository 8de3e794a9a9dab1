-- Watches of signals and descriptors that a test has left behind: `lunation test` closes their handles, and the loop must
-- know of them no more.
local async = require "lunation"
local helper = require "spec.helper"
local probe = require "lunation.probe"
local sockets = require "spec.support.sockets"

local function loop() return async.get_running_loop() end

-- Closes the handles that fn() makes.
local function left_by(fn)
  local before, n = {}, 0
  for _, row in ipairs(probe.live()) do
    if row.id then before[row.id] = true end
  end
  fn()
  for _, row in ipairs(probe.live()) do
    if row.id and not before[row.id] then
      assert.is_true(probe.close(row.id))
      n = n + 1
    end
  end
  assert.equal(1, n)
end

describe("a watch that was closed for the test that left it", function()
  it("of a signal is no more, and the signal can be watched again", function()
    local calls, done = {}, async.Event()
    for _ = 1, 2 do
      left_by(function() loop():add_signal_handler("SIGUSR2", function() calls[#calls + 1] = "closed" end) end)
      assert.is_false(loop():remove_signal_handler("SIGUSR2"))
    end
    local _ <close> = async.defer(function() loop():remove_signal_handler("SIGUSR2") end)
    loop():add_signal_handler("SIGUSR2", function()
      calls[#calls + 1] = "watched"
      done:set()
    end)
    os.execute "kill -s USR2 $PPID"
    done:wait()
    assert.same({ "watched" }, calls)
  end)

  it("of a descriptor is no more, and the descriptor can be watched again", function()
    local pipe <close> = sockets.fifo()
    local calls, done = {}, async.Event()
    for _, name in ipairs { "add_reader", "add_writer" } do
      left_by(function() loop()[name](loop(), pipe.fd, function() calls[#calls + 1] = "closed" end) end)
      assert.is_false(loop():remove_reader(pipe.fd))
      assert.is_false(loop():remove_writer(pipe.fd))
    end
    local _ <close> = async.defer(function() loop():remove_reader(pipe.fd) end)
    loop():add_reader(pipe.fd, function()
      calls[#calls + 1] = pipe.file:read(1)
      done:set()
    end)
    pipe.file:write("x")
    done:wait()
    assert.same({ "x" }, calls)
    helper.turns(2)
  end)
end)

-- Handle, what call_soon, call_later and call_at return.
local async = require "lunation"
local helper = require "spec.helper"

local refuses, turns = helper.refuses, helper.turns

describe("a handle", function()
  it("tells when it is due", function()
    local loop = async.get_running_loop()
    local from = loop:time()
    local later = loop:call_later(60, print)
    assert.is_true(later:when() >= from + 60 and later:when() < from + 65)
    local at = loop:call_at(from + 70, print)
    assert.equal(from + 70, at:when())
    local never = loop:call_later(math.huge, print)
    assert.equal(math.huge, never:when())
    never:cancel()
    assert.is_nil(loop:call_soon(function() end):when())
    later:cancel()
    at:cancel()
    assert.equal(from + 70, at:when())
    helper.turns(1)
  end)

  it("cancelled, does not run, and may be cancelled again", function()
    local loop = async.get_running_loop()
    local handles = {
      loop:call_soon(error, "must not run"), loop:call_later(0.001, error, "must not run"),
      loop:call_later(0, error, "must not run"), loop:call_at(0, error, "must not run"),
    }
    for _, handle in ipairs(handles) do
      assert.is_false(handle:cancelled())
      assert.equal(0, select("#", handle:cancel()))
      assert.is_true(handle:cancelled())
      handle:cancel()
    end
    async.sleep(0.003)
  end)

  it("cancelled after it ran is harmless", function()
    local loop = async.get_running_loop()
    local n = 0
    local function count() n = n + 1 end
    local soon, later = loop:call_soon(count), loop:call_later(0, count)
    assert.is_true(helper.eventually(function() return n == 2 end))
    assert.is_false(soon:cancelled())
    assert.is_false(later:cancelled())
    soon:cancel()
    later:cancel()
    turns(2)
    assert.equal(2, n)
  end)

  it("may cancel itself, and the next one, in its own callback", function()
    local loop = async.get_running_loop()
    local log, a, b = {}, nil, nil
    a = loop:call_soon(function()
      log[#log + 1] = "a"
      a:cancel()
      b:cancel()
    end)
    b = loop:call_soon(function() log[#log + 1] = "b" end)
    turns(2)
    assert.same({ "a" }, log)
    local t1, t2
    t1 = loop:call_later(0.001, function()
      log[#log + 1] = "t1"
      t1:cancel()
      t2:cancel()
    end)
    t2 = loop:call_at(t1:when(), function() log[#log + 1] = "t2" end)
    async.sleep(0.004)
    assert.same({ "a", "t1" }, log)
  end)

  it("lets function and arguments go when it has run or was cancelled", function()
    local loop = async.get_running_loop()
    local weak = setmetatable({}, { __mode = "k" })
    local handles = {}
    local function make(how, ...)
      local fn, arg = function() end, {}
      weak[fn], weak[arg] = true, true
      local args = { ... }
      args[#args + 1] = fn
      args[#args + 1] = arg
      handles[#handles + 1] = loop[how](loop, table.unpack(args))
      return handles[#handles]
    end
    make("call_soon")
    make("call_later", 0)
    make("call_later", 60):cancel()
    make("call_soon"):cancel()
    async.sleep(0.002)
    collectgarbage()
    assert.is_nil(next(weak))
    assert.equal(4, #handles)
  end)

  it("is kept by the loop until it ran, though nobody holds it", function()
    local loop = async.get_running_loop()
    local n = 0
    for _ = 1, 100 do
      loop:call_soon(function() n = n + 1 end)
      loop:call_later(0.001, function() n = n + 1 end)
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(helper.eventually(function() return n == 200 end))
  end)

  it("made in a coroutine that is gone fires all the same", function()
    local loop = async.get_running_loop()
    local n = 0
    async.coroutine.wrap(function()
      loop:call_soon(function() n = n + 1 end)
      loop:call_later(0, function() n = n + 1 end)
      local f = async.Future()
      f:add_done_callback(function() n = n + 1 end)
      f:set_result()
      async.create_task(function() n = n + 1 end)
    end)()
    collectgarbage()
    collectgarbage()
    assert.is_true(helper.eventually(function() return n == 4 end))
  end)

  it("has a text", function()
    local loop = async.get_running_loop()
    local handle = loop:call_soon(function() end)
    assert.truthy(tostring(handle):find("^<Handle pending"))
    turns(1)
    assert.truthy(tostring(handle):find("^<Handle "))
    handle = loop:call_later(60, print)
    handle:cancel()
    assert.truthy(tostring(handle):find("^<Handle cancelled"))
  end)

  it("refuses bad input", function()
    local handle = async.get_running_loop():call_soon(function() end)
    for _, name in ipairs { "cancel", "cancelled", "when" } do
      for _, self in ipairs { false, 42, "text", {}, print, async.Future() } do
        refuses("TypeError", { name, "Handle expected" }, handle[name], self)
      end
      refuses("TypeError", { name, "Handle expected" }, handle[name])
    end
    turns(1)
  end)

  it("outlives its loop", function()
    helper.plain [[
      local loop = async.new_event_loop()
      local soon, later = loop:call_soon(print), loop:call_later(60, print)
      local f = loop:create_future()
      f:add_done_callback(print)
      loop:close()
      soon:cancel()
      later:cancel()
      assert(tostring(soon), tostring(later))
      eq(true, later:cancelled())
      eq("number", math.type(later:when()) and "number")
      collectgarbage()
      later:cancel()
    ]]
  end)
end)

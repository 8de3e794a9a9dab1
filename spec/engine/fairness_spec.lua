-- Nobody starves: neither by callbacks that keep coming, nor by sleep(0), nor by awaits whose result is always there.
-- On a virtual clock no time passes while there is anything to do, so what is about timers has the tag #real.
local async = require "lunation"
local helper = require "spec.helper"

local turns = helper.turns

-- While `busy` keeps the loop busy, a timer, a callback, another task and I/O must come through. busy(on) starts it and
-- returns when on() is false.
local function answers(busy)
  local loop = async.get_running_loop()
  local going, got = true, {}
  local from = loop:time()
  local tasks = {}
  for _ = 1, 3 do
    tasks[#tasks + 1] = async.create_task(function()
      busy(function() return going and loop:time() - from < 5 * helper.slow end)
    end)
  end
  tasks[#tasks + 1] = async.create_task(function()
    async.sleep(0.003)
    got.sleep = true
  end)
  loop:call_later(0.003, function() got.timer = true end)
  tasks[#tasks + 1] = async.create_task(function()
    for _ = 1, 3 do async.sleep(0) end
    got.turns = true
  end)
  loop:call_soon(function() got.soon = true end)
  -- I/O: a connection to ourselves
  tasks[#tasks + 1] = async.create_task(function()
    local net = async.net
    local server <close> = net.listen("127.0.0.1", 0)
    local _, port = server:address()
    port = type(_) == "table" and _.port or port
    local echo = async.create_task(function()
      local stream <close> = server:accept()
      stream:write(stream:read("L"))
    end)
    local stream <close> = net.connect("127.0.0.1", port)
    stream:write("ping\n")
    got.io = stream:read("l") == "ping"
    async.await(echo)
  end)
  local all = helper.eventually(function()
    return got.sleep and got.timer and got.turns and got.soon and got.io
  end, 4)
  going = false
  async.gather(tasks)
  for _, name in ipairs { "sleep", "timer", "turns", "soon", "io" } do assert.is_true(got[name], name) end
  assert.is_true(all)
end

describe("others come through #real", function()
  it("while tasks do nothing but sleep(0)", function()
    answers(function(on) while on() do async.sleep(0) end end)
  end)

  it("while callbacks keep coming", function()
    answers(function(on)
      local loop, over = async.get_running_loop(), async.Future()
      local function again() if on() then loop:call_soon(again) else over:set_result() end end
      again()
      async.await(over)
    end)
  end)

  it("while done callbacks keep coming", function()
    answers(function(on)
      local over = async.Future()
      local done = async.Future()
      done:set_result()
      local function again() if on() then done:add_done_callback(again) else over:set_result() end end
      again()
      async.await(over)
    end)
  end)

  it("while zero timers keep coming", function()
    answers(function(on)
      local loop, over = async.get_running_loop(), async.Future()
      local function again() if on() then loop:call_later(0, again) else over:set_result() end end
      again()
      async.await(over)
    end)
  end)

  it("while a task awaits what is there already", function()
    answers(function(on)
      local done = async.Future()
      done:set_result()
      while on() do async.await(done) end
    end)
  end)

  it("while a task gathers, waits for and takes what is there already", function()
    answers(function(on)
      local done, queue, lock = async.Future(), async.Queue(), async.Lock()
      done:set_result()
      while on() do
        async.gather { done, done }
        async.wait { done }
        async.wait_for(done, 1)
        queue:put(1)
        queue:get()
        lock:acquire()
        lock:release()
      end
    end)
  end)

  it("while tasks make tasks", function()
    answers(function(on)
      local over = async.Future()
      local function again() if on() then async.create_task(again) else over:set_result() end end
      again()
      async.await(over)
    end)
  end)

  it("while two tasks hand a value to and fro", function()
    answers(function(on)
      local there, back = async.Queue(1), async.Queue(1)
      local other = async.create_task(function() while there:get() do back:put(1) end end)
      while on() do
        there:put(1)
        back:get()
      end
      there:put(false)
      async.await(other)
    end)
  end)
end)

describe("every await that finds its result there", function()
  local done = function()
    local f = async.Future()
    f:set_result(1)
    return f
  end
  local KINDS = {
    await = function(f) async.await(f) end,
    gather = function(f) async.gather { f } end,
    wait = function(f) async.wait { f } end,
    wait_for = function(f) async.wait_for(f, 60) end,
    race = function(f) async.race { f } end,
  }
  for name, fn in pairs(KINDS) do
    it("counts, and each 128th in a row gives way: " .. name, function()
      local loop, f = async.get_running_loop(), done()
      local rounds, on = 0, true
      local function count()
        rounds = rounds + 1
        if on then loop:call_soon(count) end
      end
      loop:call_soon(count)
      async.sleep(0)
      rounds = 0
      for _ = 1, 640 do fn(f) end
      on = false
      assert.is_true(rounds >= 4 and rounds <= 12, name .. ": " .. rounds)
      turns(2)
    end)
  end
end)

describe("a turn", function()
  it("runs what was there when it began, and no more", function()
    local loop = async.get_running_loop()
    local log = {}
    loop:call_soon(function()
      for i = 1, 5 do loop:call_soon(function() log[#log + 1] = i end) end
    end)
    turns(1)
    assert.equal(0, #log)
    turns(1)
    assert.equal(5, #log)
  end)

  it("gives each ready task one step", function()
    local steps = {}
    local tasks = {}
    local on = true
    for i = 1, 10 do
      steps[i] = 0
      tasks[i] = async.create_task(function()
        while on do
          steps[i] = steps[i] + 1
          async.sleep(0)
        end
      end)
    end
    for n = 1, 50 do
      turns(1)
      for i = 1, 10 do assert.is_true(math.abs(steps[i] - n) <= 1) end
    end
    on = false
    async.gather(tasks)
  end)
end)

describe("timers and tasks that are ready all the time #real", function()
  it("a deadline is met though nothing is ever idle", function()
    local loop = async.get_running_loop()
    local on, late = true, 0
    local spinner = async.create_task(function() while on do async.sleep(0) end end)
    for _ = 1, 20 do
      local from = loop:time()
      async.sleep(0.001)
      late = math.max(late, loop:time() - from - 0.001)
    end
    on = false
    async.await(spinner)
    assert.is_true(late < 0.05 * helper.slow, "late by " .. late)
  end)
end)

-- probe.watchdog: a limit in real seconds. First a callback of the loop; then, in Lua that does not come back, an error.
-- In processes of their own: there is one watchdog, and a test may have it.
local command = require "spec.support.command"
local helper = require "spec.helper"

-- What every program knows: the helper's words, `probe`, and `block`, which keeps Lua from coming back for so many
-- seconds.
local PRELUDE = [[
local async, h, probe = require "lunation", require "spec.helper", require "lunation.probe"
local eq, thrown, refuses, turns = h.eq, h.thrown, h.refuses, h.turns
local function block(seconds) io.popen("sleep " .. seconds):close() end
]]

-- Programs begin together, since most of their time is waiting; each test looks at the end of its own.
local bodies, running = {}, {}

local function begin(text, prefix)
  local path = os.tmpname()
  command.write_file(path, PRELUDE:gsub("\n", " ") .. text)
  local words = { "env", "LUA_CPATH=" .. command.module .. "/?.so;;", "LUA_PATH=./?.lua;;", "timeout", "60" }
  for _, list in ipairs { prefix or {}, command.stock, { path } } do
    for _, word in ipairs(list) do words[#words + 1] = word end
  end
  for i, word in ipairs(words) do words[i] = command.quote(word) end
  local line = table.concat(words, " ") .. " </dev/null >" .. path .. ".out 2>&1; echo $?"
  return { path = path, pipe = assert(io.popen(line, "r")) }
end

-- The end of a program: its exit status and what it printed.
local function finish(one)
  if one.code then return one.code, one.output end
  one.code = one.pipe:read("l")
  one.pipe:close()
  one.output = command.slurp(one.path .. ".out")
  os.remove(one.path)
  os.remove(one.path .. ".out")
  return one.code, one.output
end

-- A test that is a program under the stock interpreter, with these words before that.
local function program(name, text, prefix)
  bodies[#bodies + 1] = { name = name, text = text, prefix = prefix }
  it(name, function()
    local code, output = finish(running[name])
    assert.equal("", output)
    assert.equal("0", code)
  end)
end

-- One whose text runs in async.run; `loop` is known, and `limit(n)`, n tenths of a second.
local function plain(name, body, prefix)
  program(name, ([[
    local function limit(n) return n / 10 end
    async.run(function()
      local loop = async.get_running_loop()
      %s
    end)
  ]]):format(body), prefix)
end

describe("probe.watchdog", function()
  setup(function()
    for _, body in ipairs(bodies) do running[body.name] = begin(body.text, body.prefix) end
  end)

  teardown(function()
    for _, one in pairs(running) do finish(one) end -- those that a filter has passed over
  end)

  plain("calls its function as a callback when the time is over, once", [[
    local calls, in_task = 0, true
    probe.watchdog(limit(1), function()
      calls = calls + 1
      in_task = async.current_task() ~= nil
    end)
    async.sleep(limit(3))
    eq(1, calls)
    eq(false, in_task)
  ]])

  plain("is not moved by a virtual clock, nor held by a held one", [[
    local late = false
    probe.watchdog(1000, function() late = true end)
    probe.clock("virtual")
    async.sleep(1e6)
    eq(false, late)
    local began = os.clock()
    local fired
    probe.watchdog(limit(1), function() fired = true end)
    while not fired do async.sleep(3600) end
    fired = nil
    probe.clock("held")
    probe.watchdog(limit(1), function() fired = true end)
    while not fired do async.sleep(0) end
  ]])

  plain("ends a virtual clock's wait for I/O that never comes", [[
    probe.clock("virtual")
    local server <close> = require "lunation.net".listen("127.0.0.1", 0)
    local me = async.current_task()
    probe.watchdog(limit(1), function() me:cancel() end)
    local e = thrown(server.accept, server)
    eq("CancelledError", e.name)
    me:uncancel()
  ]])

  plain("nil takes it off; a new one takes the place of the old", [[
    local log = {}
    probe.watchdog(limit(0.5), function() log[#log + 1] = "off" end)
    probe.watchdog()
    probe.watchdog(nil)
    probe.watchdog(limit(0.5), function() log[#log + 1] = "old" end)
    probe.watchdog(limit(1), function() log[#log + 1] = "new" end)
    async.sleep(limit(2))
    eq("new", table.concat(log, " "))
  ]])

  plain("one that is due already is off when it is taken off", [[
    local log = {}
    probe.watchdog(0.001, function() log[#log + 1] = "old" end)
    -- Due while Lua is busy: queued in the look at I/O that follows, behind the task.
    local from = os.clock()
    while os.clock() - from < 0.003 do end
    loop:call_soon(function() probe.watchdog(1000, function() log[#log + 1] = "new" end) end)
    for _ = 1, 70 do async.sleep(0) end
    eq(true, #log <= 1 and log[1] ~= "new")
    -- Every turn may be the one in which it is found due, behind a callback that is queued already.
    for i = 1, 75 do
      local early
      probe.watchdog(0.001, function() end)
      from = os.clock()
      while os.clock() - from < 0.0011 do end
      for _ = 2, i do async.sleep(0) end
      loop:call_soon(function() probe.watchdog(1000, function() early = i end) end)
      turns(3)
      eq(nil, early)
    end
  ]])

  plain("throws a TimeoutError in Lua that is busy a second later", [[
    local fired = 0
    probe.watchdog(limit(1), function() fired = fired + 1 end)
    refuses("TimeoutError", "the time limit of 0.1 s is over", function() while true do end end)
    turns(1)
    refuses("TimeoutError", "0.1 s", function() for _ = 1, math.huge do end end)
    while fired == 0 do async.sleep(0) end
    eq(1, fired)
    probe.watchdog()
  ]])

  plain("ends a task that catches it and goes on", [[
    local hook = debug.gethook() -- none, but of the chaos build
    probe.watchdog(limit(1), function() end)
    local caught, last = 0, nil
    local task = async.create_task(function()
      while true do
        local _, e = pcall(function() while true do end end)
        caught, last = caught + 1, e.name
      end
    end)
    eq("TimeoutError", thrown(async.await, task).name)
    probe.watchdog()
    eq(true, caught >= 1)
    eq("TimeoutError", last)
    -- Nothing of it is left on the coroutine that the next task gets.
    eq(hook, (async.await(async.create_task(debug.gethook))))
    turns(3)
  ]])

  plain("throws in nested code: coroutines of ours, string functions", [[
    local hook = debug.gethook() -- none, but of the chaos build
    probe.watchdog(limit(1), function() end)
    local ok, e = pcall(async.coroutine.wrap(function() while true do end end))
    turns(1)
    eq("TimeoutError", e.name)
    ok, e = pcall(function() string.gsub(("x"):rep(1e7), "x", function() for _ = 1, 1e5 do end end) end)
    turns(1)
    probe.watchdog()
    eq("TimeoutError", e.name)
    eq(hook, (debug.gethook()))
  ]])

  plain("throws in callbacks", [[
    probe.watchdog(limit(1), function() end)
    local reports = {}
    loop:set_exception_handler(function(_, context) reports[#reports + 1] = context.exception.name end)
    loop:call_soon(function() while true do end end)
    while #reports < 1 do async.sleep(0) end
    loop:call_soon(function() while true do end end)
    while #reports < 2 do async.sleep(0) end
    probe.watchdog()
    eq("TimeoutError TimeoutError", table.concat(reports, " "))
  ]])

  plain("does not disturb what makes progress", [[
    local fired = 0
    probe.watchdog(limit(1), function() fired = fired + 1 end)
    local from = loop:time()
    while loop:time() - from < 1.3 do async.sleep(0) end
    async.sleep(1.1)
    eq(1, fired)
  ]])

  plain("ends a loop that makes tasks without end", [[
    probe.watchdog(limit(1), function() end)
    local tasks = {}
    local e = refuses("TimeoutError", "0.1 s", function()
      while true do
        tasks[#tasks + 1] = async.create_task(async.sleep, 0)
        for _ = 1, 1e5 do end
      end
    end)
  ]])

  -- A shell that ignores SIGVTALRM hands that on.
  plain("keeps away from a handler of somebody else's", [[
    local fired
    probe.watchdog(limit(1), function() fired = true end)
    local ok = pcall(block, 1.3)
    eq(true, ok)
    turns(70)
    eq(true, fired)
  ]], { "sh", "-c", 'trap "" VTALRM; exec "$@"', "sh" })

  -- The counterpart: the same program, and nobody else's handler.
  plain("throws as soon as Lua comes back from a long call", [[
    probe.watchdog(limit(1), function() end)
    refuses("TimeoutError", "0.1 s", block, 1.3)
  ]])

  program("with its loop closed, or between two runs, throws nothing", [[
    local a, b = async.Runner(), async.Runner()
    local fired
    a:run(function() probe.watchdog(0.1, function() fired = true end) end)
    block(1.3)
    b:run(block, 1.3)
    eq(nil, fired)
    a:run(turns, 70)
    eq(true, fired)
    fired = nil
    a:run(function() probe.watchdog(0.1, function() fired = true end) end)
    a:close()
    b:run(block, 1.3)
    eq(nil, fired)
    b:close()
  ]])

  it("the end of the process, by any way out", function()
    for _, way in ipairs {
      "os.exit(0)", "os.exit(0, true)", "async.create_task(function() os.exit(0) end) async.sleep(1)",
      "loop:call_soon(os.exit, 0) async.sleep(1)", "table.sort({ 2, 1 }, function() os.exit(0) end)", "",
    } do
      local text = ([[
        local probe = require "lunation.probe"
        local loop = async.get_running_loop()
        probe.watchdog(0.05, print)
        %s
      ]]):format(way)
      for _, run in ipairs { helper.command, helper.execute } do
        if run == helper.execute then text = "async.run(function() " .. text .. " end)" end
        local stdout, stderr, code = run(text)
        assert.equal("", stderr, way)
        assert.equal("", stdout, way)
        assert.equal(0, code, way)
      end
    end
  end)

  plain("an error of its function goes to the exception handler", [[
    local context
    loop:set_exception_handler(function(_, c) context = c end)
    probe.watchdog(0.001, function() error("in the watchdog") end)
    async.sleep(limit(1))
    eq(true, tostring(context.exception):find("in the watchdog", 1, true) ~= nil)
    eq("callback", context.kind)
  ]])

  plain("refuses bad arguments, and the one that is on stays on", [[
    local fired
    probe.watchdog(limit(1), function() fired = true end)
    for _, bad in ipairs { "1", {}, true } do
      refuses("TypeError", { "#1 to 'watchdog'", "number expected" }, probe.watchdog, bad, print)
    end
    refuses("TypeError", "NaN", probe.watchdog, 0 / 0, print)
    for _, bad in ipairs { 0, -1, -math.huge, math.huge, 1e6 } do
      refuses("ValueError", "above 0 and below 1000000", probe.watchdog, bad, print)
    end
    for _, bad in ipairs { 1, "x", {} } do
      refuses("TypeError", { "#2 to 'watchdog'", "function expected" }, probe.watchdog, 1, bad)
    end
    refuses("TypeError", "function expected", probe.watchdog, 1)
    async.sleep(limit(3))
    eq(true, fired)
  ]])

  plain("limits just below a second and tiny ones work", [[
    for _, seconds in ipairs { 1e-9, 1e-4, 0.0009999999999 } do
      local fired
      probe.watchdog(seconds, function() fired = true end)
      async.sleep(0.05)
      eq(true, fired)
    end
    probe.watchdog(0.9999999999999, function() end)
    refuses("TimeoutError", "1 s", function() while true do end end)
  ]])

  plain("a thousand of them on and off, while worker threads are at work", [[
    local net = require "lunation.net"
    for i = 1, 1000 do
      probe.watchdog(0.0001, function() end)
      if i % 50 == 0 then
        local tasks = {}
        for j = 1, 4 do tasks[j] = function() return net.getaddrinfo("127.0.0.1") end end
        async.gather(tasks)
      end
      if i % 3 == 0 then async.sleep(0) end
    end
    probe.watchdog()
  ]])
end)

-- testing.leaks, sites, wait_all_blocked, stream_pair, tree: what is alive, where it was made, when all is quiet.
local async = require "lunation"
local helper = require "spec.helper"
local testing = require "lunation.testing"

local refuses, turns = helper.refuses, helper.turns
local loop = async.get_running_loop()

local HERE = debug.getinfo(1, "S").short_src

-- The line on which the caller stands, as a place.
local function here(offset) return ("%s:%d"):format(HERE, debug.getinfo(2, "l").currentline + (offset or 0)) end

local function kinds(list)
  local names = {}
  for i, row in ipairs(list) do names[i] = row.kind end
  table.sort(names)
  return table.concat(names, " ")
end

describe("testing.leaks", function()
  local sites

  before_each(function() sites = testing.sites() end)
  after_each(function() testing.sites(sites) end)

  it("is empty where nothing is left", function()
    local before = testing.leaks()
    local list = testing.leaks(before)
    assert.equal(0, #list)
    assert.same({}, list)
    assert.equal("", tostring(list))
  end)

  it("leaves alone what it lists, a stream with output queued included", function()
    local a, b = testing.stream_pair { capacity = 10 }
    local _ <close> = a
    local _ <close> = b
    local writer = async.create_task(a.write, a, ("x"):rep(100))
    turns()
    assert.is_true(#testing.leaks() >= 2)
    turns()
    assert.truthy(tostring(a):find("open"))
    assert.equal(100, #b:read(100))
    assert.equal(a, async.await(writer))
    local server <close> = async.net.listen("127.0.0.1", 0)
    local client <close> = async.net.connect("127.0.0.1", server:address().port)
    local other <close> = server:accept()
    local size = 1 << 23
    writer = async.create_task(client.write, client, ("x"):rep(size))
    turns()
    testing.leaks()
    assert.truthy(tostring(client):find("open"))
    assert.equal(size, #other:read(size))
    async.await(writer)
  end)

  it("does not count the running task and those that wait for it", function()
    local before = testing.leaks()
    local found
    local function inner() found = testing.leaks(before) end
    local middle = async.create_task(function() async.gather { inner, function() async.sleep(0) end } end)
    async.await(middle)
    -- Only the sibling, which waits for nobody.
    assert.equal(1, #found, tostring(found))
    local task = async.create_task(function() found = testing.leaks(before) end)
    async.wait { task }
    assert.equal("", tostring(found))
    async.wait_for(function() found = testing.leaks(before) end, 5)
    assert.equal("", tostring(found))
    do
      local tg <close> = async.TaskGroup()
      tg:create_task(function() found = testing.leaks(before) end)
    end
    assert.equal("", tostring(found))
  end)

  it("names tasks, timers, callbacks and handles with their places", function()
    local before = testing.leaks()
    local task, task_at = async.create_task(async.sleep, 60), here()
    local timer, timer_at = loop:call_later(60, print), here()
    local soon, soon_at = loop:call_soon(function() end), here()
    local future = async.Future()
    future:add_done_callback(function() end)
    local done_at = here(-1)
    local a, b = testing.stream_pair()
    local pair_at = here(-1)
    local server, server_at = require "lunation.net".listen("127.0.0.1", 0), here()
    local list = testing.leaks(before)
    local places = {}
    for _, row in ipairs(list) do
      places[row.kind .. " " .. row.where] = (places[row.kind .. " " .. row.where] or 0) + 1
      assert.is_nil(row.object)
    end
    assert.same({
      ["task " .. task_at] = 1, ["timer " .. timer_at] = 1, ["callback " .. soon_at] = 1,
      ["callback " .. done_at] = 1, ["handle " .. pair_at] = 2, ["handle " .. server_at] = 1,
    }, places)
    local text = tostring(list)
    assert.equal(7, select(2, (text .. "\n"):gsub("\n", "")))
    assert.matches(tostring(task) .. ", made at " .. task_at, text, 1, true)
    assert.matches("timer <Handle timer print>, made at " .. timer_at, text, 1, true)
    a:close()
    b:close()
    server:close()
    timer:cancel()
    soon:cancel()
    task:cancel()
    future:cancel()
    turns()
    assert.equal("", tostring(testing.leaks(before)))
  end)

  it("with before tells only what is new", function()
    local one = async.create_task(async.sleep, 60)
    local timer = loop:call_later(60, print)
    local a, b = testing.stream_pair()
    local before = testing.leaks()
    assert.is_true(#before >= 4)
    assert.equal(0, #testing.leaks(before))
    local two = async.create_task(async.sleep, 60)
    local c, d = testing.stream_pair()
    assert.equal("handle handle task", kinds(testing.leaks(before)))
    local later = testing.leaks(before)
    assert.equal(0, #testing.leaks(later))
    for _, x in ipairs { one, two, timer } do x:cancel() end
    for _, x in ipairs { a, b, c, d } do x:close() end
    turns()
    assert.equal(0, #testing.leaks(before))
  end)

  it("counts requests in flight", function()
    local net = require "lunation.net"
    local before = testing.leaks()
    local found
    -- A worker may be faster than one look.
    for _ = 1, 50 do
      local task = async.create_task(net.getaddrinfo, "127.0.0.1")
      local _ <close> = async.defer(function() task:cancel() end)
      while not task:done() and not found do
        async.sleep(0)
        for _, row in ipairs(testing.leaks(before)) do found = found or row.kind == "request" and row.text end
      end
      async.await(task)
      if found then break end
    end
    assert.equal("1 in flight", found)
    assert.is_true(helper.eventually(function() return #testing.leaks(before) == 0 end))
  end)

  it("a list does not keep a task whose error nobody has seen", function()
    local reports, list = helper.reports(function()
      local task = async.create_task(function()
        async.sleep(0)
        error("lost")
      end)
      async.sleep(0)
      local list = testing.leaks()
      assert.is_true(#list >= 1)
      assert.is_false(task:done())
      return list
    end)
    assert.equal(1, #reports)
    assert.matches("lost", tostring(reports[1].exception), 1, true)
    assert.is_true(#list >= 1)
  end)

  it("does not tell of the timer of an advance", function()
    local clock <close> = testing.clock { autojump = false }
    local before, found = testing.leaks(), nil
    loop:call_later(1, function() found = testing.leaks(before) end)
    clock:advance(2)
    for _, row in ipairs(found) do assert.not_equal("timer", row.kind, tostring(found)) end
  end)

  it("in a callback there is no running task", function()
    local before, done = testing.leaks(), async.Future()
    loop:call_soon(function()
      local list = testing.leaks(before)
      if not done:done() then done:set_result(list) end
    end)
    local text = tostring(async.await(done))
    assert.matches("name='" .. async.current_task():get_name() .. "'", text, 1, true)
  end)

  it("refuses what is no list of its own", function()
    for _, bad in ipairs { {}, 1, "x", true, print, setmetatable({}, {}) } do
      refuses("TypeError", { "#1 to 'leaks'", "list of leaks expected" }, testing.leaks, bad)
    end
  end)

  it("switches places on, if it looks for the first time", function()
    testing.sites(false)
    local before = testing.leaks()
    assert.is_true(testing.sites())
    testing.sites(false)
    local timer = loop:call_later(60, print)
    local list = testing.leaks(before)
    assert.is_false(testing.sites())
    assert.equal(1, #list)
    assert.is_nil(list[1].where)
    assert.equal("timer <Handle timer print>", tostring(list))
    timer:cancel()
  end)

  it("survives a finaliser that ends what it lists", function()
    helper.plain [[
      local testing, probe = require "lunation.testing", require "lunation.probe"
      async.run(function()
        local loop = async.get_running_loop()
        loop:set_exception_handler(function(_, context) eq("leak", context.kind) end)
        collectgarbage("setpause", 10)
        for round = 1, 60 do
          for _ = 1, 20 do
            local timer, task = loop:call_later(60, print), async.create_task(async.sleep, 60)
            local a, b = testing.stream_pair()
            setmetatable({}, { __gc = function() timer:cancel() task:cancel() a:close() b:close() end })
          end
          testing.stream_pair()
          testing.leaks()
          if round % 10 == 0 then turns() end
        end
        collectgarbage()
        turns(3)
        collectgarbage()
        turns(3)
        eq("", tostring(testing.leaks()))
        eq(true, collectgarbage("isrunning"))
      end)
    ]]
  end)
end)

describe("testing.sites", function()
  it("asks and switches", function()
    local before = testing.sites()
    assert.equal(before, testing.sites(true))
    assert.is_true(testing.sites())
    assert.is_true(testing.sites(false))
    assert.is_false(testing.sites(before))
    for _, bad in ipairs { 1, "x", {} } do refuses("TypeError", "boolean expected", testing.sites, bad) end
  end)

  it("an unretrieved error says where its task was made", function()
    local before = testing.sites(true)
    local at
    local reports = helper.reports(function()
      async.create_task(error, "forgotten")
      at = here(-1)
      turns()
    end)
    testing.sites(before)
    assert.equal(1, #reports)
    assert.equal(at, reports[1].source_traceback)
  end)

  it("a dropped stream is reported with the place where it was made", function()
    local before = testing.sites(true)
    local at
    local reports = helper.reports(function()
      local a, b = testing.stream_pair()
      at = here(-1)
      a:close()
      b = nil
    end)
    testing.sites(before)
    assert.equal(1, #reports)
    assert.equal("leak", reports[1].kind)
    assert.matches(at, reports[1].source_traceback, 1, true)
  end)
end)

describe("testing.wait_all_blocked", function()
  it("returns when every other task waits", function()
    local steps, queue = 0, async.Queue()
    local busy = async.create_task(function()
      for _ = 1, 300 do
        async.sleep(0)
        steps = steps + 1
      end
      queue:get()
    end)
    testing.wait_all_blocked()
    assert.equal(300, steps)
    assert.is_false(busy:done())
    queue:put(1)
    async.await(busy)
  end)

  it("comes back at once where there is nobody else, without time passing", function()
    local clock <close> = testing.clock()
    local from = clock:now()
    local sleeper = async.create_task(async.sleep, 1)
    for _ = 1, 10 do testing.wait_all_blocked() end
    assert.equal(from, clock:now())
    async.await(sleeper)
  end)

  it("waits for callbacks that are due and what they start", function()
    local log = {}
    loop:call_soon(function()
      loop:call_soon(function()
        async.create_task(function()
          turns(10)
          log[#log + 1] = "all"
        end)
      end)
    end)
    testing.wait_all_blocked()
    assert.same({ "all" }, log)
  end)

  it("several waiters come back together", function()
    local log = {}
    local function waiter(name)
      return function()
        testing.wait_all_blocked()
        log[#log + 1] = name
      end
    end
    async.gather { waiter "a", waiter "b", function() turns(20) log[#log + 1] = "busy" end }
    assert.equal("busy", log[1])
    assert.equal(3, #log)
  end)

  it("sees what I/O has to say already", function()
    local net = require "lunation.net"
    local server <close> = net.listen("127.0.0.1", 0)
    local client <close> = net.connect("127.0.0.1", server:address().port)
    local s <close> = server:accept()
    local got
    local reader = async.create_task(function() got = client:read("l") end)
    turns()
    s:write("hello\n")
    -- The kernel has it: loopback delivers within the call.
    testing.wait_all_blocked()
    testing.wait_all_blocked()
    assert.equal("hello", got)
    async.await(reader)
  end)

  it("can be cancelled, and does not hang the others", function()
    local spinner = async.create_task(function() while true do async.sleep(0) end end)
    local waiter = async.create_task(testing.wait_all_blocked)
    turns(5)
    assert.is_false(waiter:done())
    waiter:cancel()
    turns(2)
    assert.is_true(waiter:cancelled())
    spinner:cancel()
    testing.wait_all_blocked()
    assert.is_true(spinner:cancelled())
  end)

  it("needs a task", function()
    local done = async.Future()
    loop:call_soon(function()
      local results = table.pack(pcall(testing.wait_all_blocked))
      if not done:done() then done:set_result(table.unpack(results)) end
    end)
    local ok, e = async.await(done)
    assert.is_false(ok)
    assert.equal("RuntimeError", e.name)
    helper.plain [[
      refuses("RuntimeError", "no running event loop", require "lunation.testing".wait_all_blocked)
      refuses("RuntimeError", "no running event loop", require "lunation.testing".leaks)
      refuses("RuntimeError", "no running event loop", require "lunation.testing".sites, true)
    ]]
  end)
end)

describe("testing.stream_pair", function()
  it("is lunation.memory's", function()
    local a, b = testing.stream_pair { max_write = 1 }
    local _ <close> = a
    local _ <close> = b
    local writer = async.create_task(function()
      a:write("hello\n")
      a:close()
    end)
    assert.equal("hello", b:read("l"))
    assert.is_nil(b:read("l"))
    async.await(writer)
    b:close()
    refuses("TypeError", "table expected", testing.stream_pair, 1)
  end)
end)

describe("testing.tree", function()
  it("is what async.dump prints", function()
    local task = async.create_task(function()
      async.await(async.create_task(function() async.sleep(60) end):set_name("inner"))
    end):set_name("outer")
    turns()
    local text = testing.tree()
    assert.matches("<Task pending name='outer'.-\n.-  <Task pending name='inner'", text)
    assert.matches("sleeping", text, 1, true)
    task:cancel()
    assert.is_false(pcall(async.await, task))
  end)
end)

describe("lunation.testing", function()
  it("has nothing that the documentation does not name", function()
    local names = {}
    for name in pairs(testing) do names[#names + 1] = name end
    table.sort(names)
    assert.equal("clock explore leaks sites stream_pair tree wait_all_blocked", table.concat(names, " "))
  end)
end)

-- What each thread of spec/c/threads_spec.c runs in a Lua state of its own: a little of everything that libuv or the
-- system shares between the threads of a process. The global `from_thread(value)` is the spec's: it is answered by a
-- thread that posts to this state's loop. Returns how many things were seen to work.
local async = require "lunation"
local net = require "lunation.net"

local done = 0
local function check(condition, what)
  if not condition then error(what, 2) end
  done = done + 1
end

local function echo(conn)
  local _ <close> = conn
  for line in conn:lines("L") do conn:write(line) end
end

local function client(port, number)
  local conn <close> = net.connect("127.0.0.1", port)
  for i = 1, 5 do
    local text = ("%d:%d:%s"):format(number, i, ("x"):rep(i * 1000))
    conn:write(text, "\n")
    check(conn:read("l") == text, "echo")
  end
end

local function streams()
  local server <close> = net.listen("127.0.0.1", 0)
  local serving = async.create_task(function() server:serve(echo) end)
  local port = server:address().port
  async.map({ 1, 2, 3 }, function(number) client(port, number) end)
  serving:cancel()
  async.wait { serving }
end

-- Requests of the thread pool, which all threads share; the last ones are cancelled while they are in it.
local function names()
  for _ = 1, 3 do check(#net.getaddrinfo("localhost", 80) > 0, "getaddrinfo") end
  local tasks = {}
  for i = 1, 8 do tasks[i] = async.create_task(net.getaddrinfo, "localhost", 80) end
  async.sleep(0)
  for _, task in ipairs(tasks) do task:cancel() end
  local ended = async.wait(tasks)
  check(#ended == #tasks, "cancelled requests")
end

local function clocks()
  local ok, e = async.pcall(async.wait_for, function() async.sleep(5) end, 0.005)
  check(not ok and async.isinstance(e, async.TimeoutError), "timeout")
  local event = async.Event()
  async.get_running_loop():call_later(0.002, function() event:set() end)
  event:wait()
  check(event:is_set(), "event")
end

local function errors()
  local loop, reports = async.get_running_loop(), 0
  loop:set_exception_handler(function() reports = reports + 1 end)
  local class = async.exception("OwnError")
  async.create_task(function() error(class("lost")) end)
  local task = async.create_task(function() error(class("found")) end)
  local ok, e = async.pcall(async.await, task)
  check(not ok and async.isinstance(e, class) and task:traceback(), "error")
  while reports == 0 do
    collectgarbage()
    async.sleep(0.001)
  end
  loop:set_exception_handler(nil)
  check(reports == 1, "report")
end

-- Dispositions belong to the process: all threads take and give back the same one.
local function signals()
  local loop = async.get_running_loop()
  for _ = 1, 5 do
    loop:add_signal_handler("SIGWINCH", function() end)
    async.sleep(0)
    check(loop:remove_signal_handler("SIGWINCH"), "signal handler")
  end
end

local function posts()
  for i = 1, 5 do check(from_thread(i) == i, "post") end
end

async.run(function()
  async.gather({ streams, names, clocks, errors, signals, posts }, { cancel_on_error = true })
end)
collectgarbage()
return done

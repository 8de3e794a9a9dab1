-- TCP on loopback: a server with several clients; lines, numbers, blocks, half close, limits, refusals.
local async = require "lunation"
local net = require "lunation.net"
local runner <close> = async.Runner { debug = sweep.debug }

local function echo(stream)
  for line in stream:lines() do
    stream:write("e ", line, "\n")
  end
end

-- Serving ends with an error if there is no memory for a connection; when there is some again it may begin again.
local refused = false
local _ <close> = setmetatable({}, { __close = function()
  if refused then error("attempt to serve again was refused") end
end })

local function serve(server)
  local ok, e = pcall(server.serve, server, echo)
  if not ok and tostring(e):find("not enough memory", 1, true) then
    for _ = 1, 50 do
      if pcall(string.rep, "x", 100) then break end -- a burst is over
    end
    ok, e = pcall(server.serve, server, echo)
    refused = tostring(e):find("served already", 1, true) ~= nil
  end
  if not ok then error(e, 0) end
end

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local server <close> = net.listen("127.0.0.1", 0)
  local port = server:address().port
  local tg <close> = async.TaskGroup()
  tg:create_task(serve, server)
  async.gather({
    function()
      local s <close> = net.connect("127.0.0.1", port, { timeout = 5 })
      assert(tostring(s) and s:peer().port == port and s:sock().family == "inet")
      s:write("a\n", "b\n", 3, "\n")
      assert(s:read("l") == "e a" and s:read("L") == "e b\n")
      s:shutdown()
      assert(s:read("a") == "e 3\n" and s:read() == nil)
    end,
    function()
      local s <close> = net.connect("127.0.0.1", port)
      s:write(("x"):rep(70000), "\n")
      pcall(s.read_until, s, "\n", 100)
    end,
    function()
      local s <close> = net.connect("127.0.0.1", port)
      s:write("12 13\n")
      assert(s:read(2) == "e " and s:read("n") == 12 and s:read_some(10))
      pcall(async.wait_for, s.read_some, 0.0001)
    end,
  }, { cancel_on_error = true })
  server:close()
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local server <close> = net.listen("127.0.0.1", 0)
  assert(tostring(server))
  local client = async.create_task(net.connect, "127.0.0.1", server:address().port)
  local stream <close> = server:accept()
  async.await(client):close()
  assert(stream:read("a") == "")
  local waiting = async.create_task(server.accept, server)
  async.sleep(0)
  waiting:cancel()
  async.wait { waiting }
  server:close()
  pcall(net.connect, "127.0.0.1", 1)
end)

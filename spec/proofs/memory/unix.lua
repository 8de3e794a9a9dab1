-- Unix sockets under abstract names: a server with clients, counts, refusals; connecting to a list of addresses.
local async = require "lunation"
local net = require "lunation.net"
local runner <close> = async.Runner { debug = sweep.debug }

local name = ("\0lunation-sweep-%s"):format(tostring({}))

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local server <close> = net.listen_unix(name, { backlog = 4, limit = 100 })
  assert(server:address().path == name and tostring(server))
  local serving = async.create_task(server.serve, server, function(s)
    for line in s:lines() do s:write(line:upper(), "\n") end
  end)
  local client <close> = net.connect_unix(name, { timeout = 5, limit = 100 })
  assert(client:peer().path == name and client:sock().family == "unix")
  client:write("a line\n")
  assert(client:read() == "A LINE")
  assert(server:stats().live == 1)
  client:close()
  server:close()
  async.await(serving)
  pcall(net.connect_unix, name)
  pcall(net.connect_unix, "/tmp/" .. ("n"):rep(108))
  pcall(net.listen_unix, "/no/such/folder/s", { mode = 384, unlink = true })
  pcall(net.connect_unix, "/nowhere", { timeout = 0 })
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local server <close> = net.listen("127.0.0.1", 0)
  local list = { "127.0.0.3", "::1", "127.0.0.1" }
  local stream <close> = net.connect(list, server:address().port, { happy_eyeballs_delay = 5 })
  server:accept():close()
  assert(stream:read("a") == "")
  server:close()
  pcall(net.connect, { "127.0.0.3", "127.0.0.4" }, 1)
end)

-- Datagrams on loopback: options, refusals, groups, an iterator that ends, names of addresses.
local async = require "lunation"
local net = require "lunation.net"
local runner <close> = async.Runner { debug = sweep.debug }

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local here <close> = net.udp { host = "127.0.0.1", reuse_address = true, reuse_port = true, ttl = 3 }
  local port = here:address().port
  local there <close> = net.udp { connect = { "127.0.0.1", port }, broadcast = true }
  assert(there:peer().port == port and here:peer() == nil and tostring(here))
  local echo = async.create_task(function()
    for data, from in here:packets() do here:send(data:upper(), from) end
  end)
  there:send("one")
  assert(there:recv() == "ONE")
  there:send("two", "127.0.0.1", port)
  local data, from = there:recv(2)
  assert(data == "TW" and from.truncated == 3)
  here:close()
  async.await(echo)
  pcall(there.send, there, ("x"):rep(65508))
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local s <close> = net.udp { multicast_interface = "lo", multicast_ttl = 0, multicast_loop = true }
  s:join("239.255.7.7", "127.0.0.1")
  s:leave("239.255.7.7", "127.0.0.1")
  pcall(s.leave, s, "239.255.7.7", "127.0.0.1")
  pcall(s.join, s, "::1")
  pcall(net.udp, { multicast_interface = "no-such-if" })
  pcall(net.udp, { host = "192.0.2.1" })
  local waiting = async.create_task(s.recv, s)
  async.sleep(0)
  waiting:cancel()
  async.wait { waiting }
  local closed = async.create_task(s.recv, s)
  async.sleep(0)
  s:close()
  async.wait { closed }
  assert(closed:exception())
  pcall(s.address, s)
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local host, service = net.getnameinfo({ host = "127.0.0.1", port = 7 }, { numeric_host = true, numeric_service = true })
  assert(host == "127.0.0.1" and service == "7")
  pcall(net.getnameinfo, { host = "localhost" })
end)

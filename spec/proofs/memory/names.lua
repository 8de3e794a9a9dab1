-- Names: looked up, connected to, cancelled on the way.
local async = require "lunation"
local net = require "lunation.net"
local runner <close> = async.Runner { debug = sweep.debug }

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  assert(net.getaddrinfo("127.0.0.1", 80)[1].port == 80)
  assert(net.getaddrinfo("localhost", nil, { family = "inet" })[1].family == "inet")
  local server <close> = net.listen("localhost", 0)
  local stream <close> = net.connect("localhost", server:address().port, { timeout = 5 })
  local t = async.create_task(net.getaddrinfo, "localhost")
  async.sleep(0)
  t:cancel()
  async.wait { t }
end)

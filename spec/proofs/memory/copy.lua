-- Copies from stream to stream and to an object, peeks, and short I/O; what a copy that was refused memory has not
-- passed on can still be read.
local async = require "lunation"
local memory = require "lunation.memory"
local net = require "lunation.net"
local probe = require "lunation.probe"
local runner <close> = async.Runner { debug = sweep.debug }

local text = ("0123456789"):rep(100)

-- In memory, where nothing depends on the system.
runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local front, back = memory.pair()
  local _ <close> = front
  local _ <close> = back
  local far, near = memory.pair { max_write = 300 }
  local _ <close> = far
  local _ <close> = near
  front:write(text)
  front:shutdown()
  assert(back:peek(3) == "012" and back:peek():sub(1, 3) == "012")
  assert(back:copy_to(far, { max = 10 }) == 10)
  local pieces = {}
  local sink = { write = function(_, piece) pieces[#pieces + 1] = piece end }
  assert(back:copy_to(sink, { max = 90 }) == 90 and table.concat(pieces) == text:sub(11, 100))
  local ok, e = pcall(back.copy_to, back, { write = function() error("no") end })
  assert(not ok and e)
  local copy = async.create_task(back.copy_to, back, far, { shutdown = true })
  local got = near:read("a")
  assert(got == text:sub(1, 10) .. text:sub(101))
  assert(async.await(copy) == 900)
  pcall(back.copy_to, back, 1)
end)

-- On sockets, in pieces.
runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local server <close> = net.listen("127.0.0.1", 0)
  local client = async.create_task(net.connect, "127.0.0.1", server:address().port)
  local peer <close> = server:accept()
  local stream <close> = async.await(client)
  probe.short_io(400)
  local echo = async.create_task(peer.copy_to, peer, peer, { shutdown = true })
  stream:write(text)
  stream:shutdown()
  assert(stream:read("a") == text)
  assert(async.await(echo) == #text)
  probe.short_io()
end)

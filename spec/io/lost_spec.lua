-- Objects that Lua forgets: it drops one without a word when it has no memory to call its finaliser. Here they lose their
-- finaliser by hand, and the loop goes on and ends without them. What touches their memory then is seen by ASan.
local helper = require "spec.helper"

-- Each makes, in a running loop, objects that something in C knows of.
local kinds = {
  { "streams in memory", "return { require('lunation.memory').pair() }" },
  { "a pair of sockets", "return { core.socketpair() }" },
  { "the ends of a pipe", "return { core.pipe('rw') }" },
  { "a socket for datagrams", "return { net.udp { host = '127.0.0.1' } }" },
  { "a server", "return { net.listen('127.0.0.1', 0) }" },
  { "a server of a Unix socket", "return { net.listen_unix('\\0' .. os.tmpname()) }" },
  {
    "a server and both ends of a connection",
    [[
      local server = net.listen("127.0.0.1", 0)
      local client = net.connect("127.0.0.1", server:address().port)
      return { server, client, (server:accept()) }
    ]],
  },
  { "a child", "return { core.spawn('/bin/sleep', 'sleep\\0' .. '100\\0') }" },
  { "a file", "return { async.fs.open('/dev/null', 'r') }" },
  { "a watcher", "return { async.fs.watch('.') }" },
  { "a listener for signals", "return { async.signal.listen('USR1') }" },
}

local program = [[
local async = require "lunation"
local net = require "lunation.net"
local core = require "lunation.process.core"
local function make() %s end
local function drop()
  local finalisers = {}
  for _, object in ipairs(make()) do
    local meta = debug.getmetatable(object)
    finalisers[meta] = finalisers[meta] or assert(meta.__gc, "it has no finaliser")
    meta.__gc = nil
  end
end
async.run(function()
  drop()
  collectgarbage()
  collectgarbage()
  async.sleep(0.01)
  for i = 1, 2000 do local _ = ("x"):rep(i) .. i end
end)
print "ended"
]]

describe("the loop outlives, and survives the loss of", function()
  for _, kind in ipairs(kinds) do
    it(kind[1] .. " #real #nosweep", function()
      local text = program:gsub("%%s", function() return kind[2] end)
      local out, err, code = helper.execute(text, { env = { ASAN_OPTIONS = "detect_leaks=0" } })
      assert.equal("ended\n", out)
      assert.equal("", err)
      assert.equal(0, code)
    end)
  end
end)

-- Streams with TLS for specs: contexts from certificates, pairs of streams with both ends of a handshake, and a relay
-- through which the bytes on the wire are seen, counted and cut.
local async = require "lunation"
local memory = require "lunation.memory"

local secure = {}

-- secure.shake(a, b, client, server): start_tls at both ends, a the client; options as start_tls takes them. Throws
-- the client's error, or else the server's.
function secure.shake(a, b, client, server)
  local options = { server = true }
  for k, v in pairs(server) do options[k] = v end
  local other = async.create_task(b.start_tls, b, options)
  local _ <close> = async.defer(function(e)
    if e ~= nil then other:cancel() end
    async.wait { other }
  end)
  a:start_tls(client)
  async.await(other)
end

-- How a handshake ends at both ends of a pair in memory -> the client's error or nil, the server's or nil.
function secure.outcome(client, server, options)
  local a, b = memory.pair(options)
  local _ <close> = a
  local _ <close> = b
  local merged = { server = true }
  for k, v in pairs(server) do merged[k] = v end
  local errors = {}
  async.gather {
    function() errors[1] = select(2, async.pcall(a.start_tls, a, client)) end,
    -- In TLS 1.3 a client learns from its first read that the server has not taken its certificate.
    function() errors[2] = select(2, async.pcall(b.start_tls, b, merged)) end,
  }
  local function of(e) return e ~= a and e ~= b and e or nil end
  return of(errors[1]), of(errors[2])
end

-- secure.pair(client, server, options) -> a, b: both ends, on a pair in memory.
function secure.pair(client, server, options)
  local a, b = memory.pair(options)
  local _ <close> = async.defer(function(e)
    if e == nil then return end
    a:close()
    b:close()
  end)
  secure.shake(a, b, client, server)
  return a, b
end

-- A relay between two streams: relay.a and relay.b are the ends to be used; `up` and `down` count the bytes from a to b
-- and from b to a; see(direction, bytes), if given, gets them and returns what goes on. cut(direction, how) ends one,
-- "eof", or both, "reset". Closable.
function secure.relay(see)
  local a, left = memory.pair()
  local right, b = memory.pair()
  local relay = { a = a, b = b, up = 0, down = 0 }
  local function pass(from, to, direction)
    return async.create_task(function()
      pcall(function()
        for bytes in function() return from:read_some() end do
          if see then bytes = see(direction, bytes) end
          relay[direction] = relay[direction] + #bytes
          to:write(bytes)
        end
      end)
      pcall(to.shutdown, to)
    end)
  end
  local running = { pass(left, right, "up"), pass(right, left, "down") }
  function relay.cut()
    for _, task in ipairs(running) do task:cancel() end
    async.wait(running)
  end
  return setmetatable(relay, { __close = function()
    for _, s in ipairs { a, b, left, right } do s:close() end
    for _, task in ipairs(running) do task:cancel() end
    async.wait(running)
  end })
end

return secure

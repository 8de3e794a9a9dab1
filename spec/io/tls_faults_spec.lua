-- What breaks in the middle: a handshake and a short exchange, cut at every byte of either direction by either end, by
-- an end of the stream, a reset, or an error of writing. Nobody hangs, nothing that was not sent is read, nothing is
-- left, and an end that was not said is never taken for one.
local async = require "lunation"
local memory = require "lunation.memory"
local certificates = require "spec.support.certificates"
local helper = require "spec.helper"
local secure = require "spec.support.secure"

local tls = async.tls
local contexts = {}

setup(function()
  local made <close> = certificates.make("client")
  for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
    local client = made:pair "client"
    client.ca, client.server_name, client.max_version = made:path "ca.pem", "localhost", version
    local server = made:pair "server"
    server.ca, server.min_version = made:path "ca.pem", "TLSv1.2"
    contexts[version] = { client = tls.context(client), server = { context = tls.context(server), server = true } }
  end
end)

-- The exchange at both ends: what each has read, and how it ended, "end" or the error.
local function client_side(s, context, got)
  local ok, e = async.pcall(function()
    s:start_tls(context)
    s:write("ping\n")
    got[1] = s:read("l")
    s:shutdown()
    got[2] = s:read("a")
  end)
  return ok and "end" or e
end

local function server_side(s, context, got)
  local ok, e = async.pcall(function()
    s:start_tls(context)
    got[1] = s:read("l")
    s:write("pong\n")
    got[2] = s:read("a")
    s:shutdown()
  end)
  return ok and "end" or e
end

-- Runs it over a, b -> how it ended for the client, for the server, what they got.
local function exchange(a, b, version)
  local _ <close> = a
  local _ <close> = b
  local context = contexts[version]
  local got = { {}, {} }
  local ends = async.wait_for(function()
    return async.gather {
      function()
        local how = client_side(a, context.client, got[1])
        -- Who fails closes, as programs do; the other end is not to wait for ever.
        if how ~= "end" then a:close() end
        return how
      end,
      function()
        local how = server_side(b, context.server, got[2])
        if how ~= "end" then b:close() end
        return how
      end,
    }
  end, 10 * helper.slow)
  return ends[1], ends[2], got
end

-- How many bytes go up and down in an exchange without faults.
local function sizes(version)
  local relay <close> = secure.relay()
  local first, second, got = exchange(relay.a, relay.b, version)
  assert.equal("end", first)
  assert.equal("end", second)
  assert.same({ { "pong", "" }, { "ping", "" } }, got)
  return relay.up, relay.down
end

-- Each byte once in so many runs; the others in the next.
local turn = 0
local function positions(last)
  turn = turn + 1
  local step = helper.slow > 3 and 61 or 11
  local n = turn % step - step
  return function()
    n = n + step
    return n <= last and n or nil
  end
end

-- Both are made when what happens to the stream at byte n is known; signatures and tickets differ by some bytes in length.
local SLACK = 32
local FAULTS = {
  { "the client reads the end", "down", function(n) return { a = { fail_read = { at = n, error = "EOF" } } } end },
  { "the client reads a reset", "down", function(n) return { a = { fail_read = { at = n } } } end },
  { "the client cannot write", "up", function(n) return { a = { fail_write = { at = n } } } end },
  { "the server reads the end", "up", function(n) return { b = { fail_read = { at = n, error = "EOF" } } } end },
  { "the server reads a reset", "up", function(n) return { b = { fail_read = { at = n } } } end },
  { "the server cannot write", "down", function(n) return { b = { fail_write = { at = n } } } end },
}

for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
  describe(version .. ": at any byte", function()
    for _, fault in ipairs(FAULTS) do
      local what, direction, options = table.unpack(fault)
      it(what .. " #nosweep", function()
        local up, down = sizes(version)
        local last = direction == "up" and up or down
        for n in positions(last + SLACK) do
          local pair = options(n)
          pair.max_read = n % 2 == 0 and 50 or nil
          local a, b = memory.pair(pair)
          local first, second, got = exchange(a, b, version)
          for side, how in ipairs { first, second } do
            local at = ("%s, at byte %d of %d: %s"):format(side == 1 and "client" or "server", n, last, tostring(how))
            if how ~= "end" then
              assert.is_true(async.isinstance(how, async.OSError), at)
              assert.is_string(how.code, at)
              assert.is_string(how.syscall, at)
            end
            assert.is_true(got[side][1] == nil or got[side][1] == (side == 1 and "pong" or "ping"), at)
            assert.is_true(got[side][2] == nil or got[side][2] == "", at)
          end
          -- The last record of a direction says that it ends. Who could not read all of it must not believe in an end.
          local reader = what:find("^the client reads") and first or what:find("^the server reads") and second
          if reader and n < last - SLACK then assert.are_not.equal("end", reader, "at byte " .. n .. " of " .. last) end
          if n >= last + SLACK then assert.equal("end", first) end
        end
      end)
    end
  end)
end

describe("silence at any byte", function()
  it("costs the limit of the handshake and nothing else #real #nosweep", function()
    local _, down = sizes("TLSv1.3")
    for n = 0, down, helper.slow > 3 and 397 or 97 do
      local passed = 0
      local relay <close> = secure.relay(function(direction, bytes)
        if direction == "up" then return bytes end
        local keep = math.max(0, math.min(#bytes, n - passed))
        passed = passed + keep
        return bytes:sub(1, keep)
      end)
      local server = async.create_task(async.pcall, relay.b.start_tls, relay.b, contexts["TLSv1.3"].server)
      local ok, e = async.pcall(async.wait_for, function()
        relay.a:start_tls(contexts["TLSv1.3"].client)
        return relay.a:read(1)
      end, 0.02 * helper.slow)
      assert.is_false(ok)
      assert.equal("TimeoutError", e.name)
      relay.a:close()
      relay.b:close()
      async.wait { server }
    end
  end)
end)

-- A child process at the other end of pipes, which at each byte of what it hears or says ends, is killed, closes its end
-- or falls silent: what was said before is read, then the end; writing is an EPIPE at worst; nobody hangs, no child and
-- no descriptor is left.
local async = require "lunation"
local faults = require "spec.support.peers_faults"
local helper = require "spec.helper"
local peers = require "spec.support.peers"
local process = async.process

local HEARD, SAID = faults.said_by "client", faults.said_by "server"

-- What the child does at that byte, and how it ends then.
local FAULTS = {
  exit = { "exit 3", 3 },
  killed = { "kill -s KILL $$", "SIGKILL" },
  ["closed input"] = { "exec <&-; echo alive", 0 },
  ["closed output"] = { "exec >&- 2>&-; cat >/dev/null", 0 },
}

local function spawn(script, ...)
  return process.spawn("sh", { "-c", script, "sh", ... }, { stdin = "pipe", stdout = "pipe", stderr = "null" })
end

local function ended(child, how)
  local code, signal = child:wait()
  assert.equal(how, code or signal)
end

local function each(words, fn)
  peers.keeps_descriptors(function()
    for n = 0, #words do
      local _ <close> = async.timeout(5 * helper.slow)
      fn(n)
    end
  end)
  assert.equal(0, async.get_running_loop():stats().requests)
end

-- Writes all of it byte by byte, as far as that goes; the error.
local function speak(stream)
  for byte in HEARD:gmatch(".") do
    local ok, e = async.pcall(stream.write, stream, byte)
    if not ok then return e end
  end
end

describe("a child at the other end of pipes #real", function()
  for name, fault in pairs(FAULTS) do
    it("after it has heard so many bytes: " .. name, function()
      each(HEARD, function(n)
        local child <close> = spawn("head -c $1 >/dev/null; " .. fault[1], n)
        local e = speak(child.stdin)
        -- Who has closed its input is found out by the writer, sooner or later.
        if name ~= "closed output" then
          while not e and child.stdin do
            async.sleep(0.0005)
            e = select(2, async.pcall(child.stdin.write, child.stdin, "x"))
            if not async.isinstance(e, async.OSError) then e = nil end
          end
        end
        assert(e == nil or e.code == "EPIPE" or e.code == "ECONNRESET", tostring(e))
        child.stdin:close()
        assert.equal(name == "closed input" and "alive\n" or "", child.stdout:read("a"))
        ended(child, fault[2])
      end)
    end)

    it("after it has said so many bytes: " .. name, function()
      each(SAID, function(n)
        local child <close> = spawn('printf %s "$1"; ' .. fault[1], SAID:sub(1, n))
        local tail = name == "closed input" and "alive\n" or ""
        local parts = {}
        for piece in function() return child.stdout:read_some(7) end do parts[#parts + 1] = piece end
        assert.equal(SAID:sub(1, n) .. tail, table.concat(parts))
        assert.is_nil(child.stdout:read("l"))
        child.stdin:close()
        ended(child, fault[2])
      end)
    end)
  end

  it("that falls silent: a deadline ends the wait, closing ends the child", function()
    local ns = {}
    for n = 1, #SAID, 2 do ns[#ns + 1] = n end
    peers.keeps_descriptors(async.map, ns, function(n)
      local child = spawn('printf %s "$1"; exec sleep 100', SAID:sub(1, n))
      local e = helper.thrown(function()
        local _ <close> = child
        assert.equal(SAID:sub(1, n), child.stdout:read(n))
        local _ <close> = async.timeout(0.05)
        child.stdout:read_some()
      end)
      assert.is_true(async.isinstance(e, async.TimeoutError), tostring(e))
      ended(child, "SIGKILL")
    end)
  end)

  it("that takes nothing: the writer waits, within bounds, until a deadline", function()
    local child <close> = spawn("exec sleep 100")
    local before, written = peers.resident(), 0
    local e = helper.thrown(function()
      local _ <close> = async.timeout(0.2)
      while true do
        child.stdin:write(("x"):rep(10000))
        written = written + 10000
      end
    end)
    assert.is_true(async.isinstance(e, async.TimeoutError), tostring(e))
    assert.is_true(written < 1000000 and written > 60000, written)
    assert.is_true(peers.resident() - before < 4000)
  end)

  it("is run to its end by `run`, whatever it does with its input", function()
    for _, fault in pairs(FAULTS) do
      for _, n in ipairs { 0, 1, 10 } do
        local result = process.run("sh", { "-c", ("head -c %d >/dev/null; %s"):format(n, fault[1]) }, {
          input = ("x"):rep(300000), stderr = "null", timeout = 20 * helper.slow,
        })
        assert.equal(fault[2], result.code or result.signal)
      end
    end
  end)
end)

-- The memory sweep finds what is planted in its own programs, and names program, mode, point and fault; and it
-- replays a point by the command that it prints.
local command = require "spec.support.command"

local sweep = command.libdir .. "/spec/c/sweep_memory"

-- Program, a mode in which its fault shows, the point, and what is said of it. Where a sanitizer sees it first, the
-- process ends with its status.
local FAULTS = {
  { "double_free", "once", 3, "block freed twice %(48 bytes, request 2%)" },
  { "leak", "ever", 3, "leak: 1 blocks, 48 bytes; the first has 48 bytes %(request 2%)" },
  { "crash", "once", 2, "crash: Segmentation fault, in the program", "exit status 1, in the program" },
  { "overrun", "ever", 3, "block written behind its end %(32 bytes, request 2%)" },
  { "stale", "once", 3, "block written to after it was freed %(48 bytes, request 2%)", "exit status 1, in the program" },
  { "descriptor", "burst", 2, "descriptor %d+ was left open" },
  { "handle", "once", 3, "handles of libuv left open: timer" },
  { "hang", "ever", 2, "it does not come to an end, in the program" },
  { "spoil", "once", 2, "a second run in the same state fails: " },
}

local function line_of(text, start)
  for line in text:gmatch("[^\n]+") do
    if line:sub(1, #start) == start then return line end
  end
end

describe("a planted fault under refused memory", function()
  local stdout, code

  setup(function()
    local _
    stdout, _, code = command.run { sweep, "--planted", "--limit", "2" }
  end)

  for _, fault in ipairs(FAULTS) do
    local name, mode, point, text, other = table.unpack(fault)
    it("is found: " .. name, function()
      local start = ("FAILED planted.%s, mode %s, point %d: "):format(name, mode, point)
      local line = assert(line_of(stdout, start), "not found: " .. start .. "\n" .. stdout)
      local said = line:sub(#start + 1)
      assert.is_true((said:find(text) or other and said:find(other)) ~= nil, line)
    end)
  end

  it("makes the sweep fail, with a summary", function()
    assert.equal(1, code, stdout)
    assert.truthy(stdout:find("\nreplay: "), stdout)
    assert.truthy(stdout:match("\nmemory sweep: %d+ points, %d+ failures, seed %d+, %d+%.%d s\n$"), stdout)
    assert.is_nil(stdout:match(", 0 failures"), stdout)
  end)

  it("shows at the replayed point, and not at the one before", function()
    local start = ("replay: %s --planted --program planted.double_free --mode once --point "):format(sweep)
    local replay = assert(line_of(stdout, start .. "3"), stdout):match("^replay: (.*)$")
    local out, _, status = command.run { "sh", "-c", replay }
    assert.equal(1, status, out)
    assert.truthy(line_of(out, "FAILED planted.double_free, mode once, point 3: block freed twice"), out)
    out, _, status = command.run { "sh", "-c", (replay:gsub("3$", "2")) }
    assert.equal(0, status, out)
    assert.truthy(out:find("2: 4 requests, 1 refused, then: .*not enough memory\n"), out)
    assert.truthy(out:find("memory sweep: 1 points, 0 failures", 1, true), out)
  end)
end)

describe("the memory sweep", function()
  it("passes over one program, and counts its points", function()
    local out, _, status = command.run { sweep, "--program", "queues", "--every", "10", "--seed", "1" }
    assert.equal(0, status, out)
    assert.truthy(out:match("\nqueues: %d+ requests, %d+ points\n"), out)
    assert.truthy(out:match("\nmemory sweep: [1-9]%d* points, 0 failures, seed 1, "), out)
  end)

  it("refuses what it does not know", function()
    for _, words in ipairs { { "--no-such" }, { "--mode", "never" }, { "--program", "none" }, { "--point", "1" } } do
      local out, err, status = command.run { sweep, table.unpack(words) }
      assert.equal(2, status, out)
      assert.truthy(err:find("usage: sweep_memory", 1, true), err)
    end
  end)
end)

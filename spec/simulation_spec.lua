-- The simulation (spec/simulation/, spec/proofs/simulation.lua): the same seed gives the same events, a range of seeds
-- passes, and planted faults are found, with the line that replays them.
local command = require "spec.support.command"
local helper = require "spec.helper"

local function simulate(...)
  local words = { command.lunation, "spec/proofs/simulation.lua", ... }
  words.env = { LUNATION_LONG = "0" }
  words.limit = 60 * math.max(1, helper.slow // 2)
  local stdout, stderr, code = command.run(words)
  assert.equal("", stderr)
  return stdout, code
end

describe("the simulation", function()
  it("passes and prints what a proof has to print", function()
    local text, code = simulate("--seed", "7", "--runs", "3")
    assert.equal(0, code, text)
    assert.truthy(text:match("\ndigest: %x+\nsimulation: 3 points, 0 failures, seed 7, %d+%.%d s\n$"), text)
  end)

  it("gives the same events for the same seed, others for another", function()
    local function trace(seed) return (simulate("--seed", seed, "--runs", "1", "--trace"):gsub("[^\n]*\n$", "")) end
    local first = trace "1"
    assert.truthy(first:find("0%.%d+ dial link 1\n"), first)
    assert.equal(first, trace "1")
    assert.not_equal(first:match("digest: %x+"), trace("2"):match("digest: %x+"))
  end)

  local plants = {
    { "lost", "was not answered, over a connection that held" },
    { "double", "was answered twice" },
    { "flip", "is not what was read from byte" },
    { "leak", "1 sleepers left" },
    { "clock", "two runs differ at event" },
  }
  for _, row in ipairs(plants) do
    local plant, found = row[1], row[2]
    it("finds a planted fault: " .. plant, function()
      local text, code = simulate("--runs", "5", "--plant", plant)
      assert.equal(1, code, text)
      assert.truthy(text:find(found, 1, true), text)
      local seed = text:match("\nreplay: lunation spec/proofs/simulation%.lua %-%-seed (%d) %-%-runs 1 %-%-trace")
      assert.truthy(seed, text)
      assert.truthy(select(1, simulate("--seed", seed, "--runs", "1", "--plant", plant)):find(found, 1, true))
    end)
  end
end)

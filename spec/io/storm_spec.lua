-- A storm over everything in io/, see spec/support/storm.lua: whatever is drawn, nothing that is not expected is thrown
-- or reported, and afterwards nothing is left. LUNATION_LONG=1: many more seeds, from STORM_SEED on, which also replays
-- one.
local async = require "lunation"
local certificates = require "spec.support.certificates"
local children = require "spec.support.children"
local command = require "spec.support.command"
local helper = require "spec.helper"
local operations = require "spec.support.storm_operations"
local storm = require "spec.support.storm"

local FIRST = math.tointeger(tonumber(os.getenv "STORM_SEED")) or 1
local SEEDS = os.getenv "LUNATION_LONG" == "1" and 200 or helper.scaled(6, 2)

describe("a storm #real #nosweep", function()
  local certs
  setup(function() certs = certificates.make() end)
  teardown(function() certs:remove() end)

  local function rage(seed, steps)
    local dir = command.temp_dir()
    local _ <close> = async.defer(function() command.remove_dir(dir) end)
    return helper.without_sites(function()
      return storm.run { seed = seed, tasks = 20, steps = steps, dir = dir, certificates = certs, patience = 35 }
    end)
  end

  it("leaves no descriptor", function()
    rage(FIRST, 20)
    async.fs.watch("/tmp"):close() -- a loop keeps what watches files, once it was needed
    local before = children.descriptors()
    rage(FIRST + 1, 20)
    local left = helper.eventually(function() return children.descriptors() <= before end) or
      command.run { "sh", "-c", "ls -l /proc/$PPID/fd /proc/$(cut -d' ' -f4 /proc/$PPID/stat)/fd" }
    assert.is_true(left)
  end)

  for seed = FIRST, FIRST + SEEDS - 1 do
    it("of seed " .. seed .. " leaves nothing and throws nothing new", function() rage(seed, 50) end)
  end

  it("of finalisers that close what a call has in hand does no harm", function()
    local closers = 'local closers = require "spec.support.storm_closers" print(closers.run(closers.kinds()))'
    local stdout, stderr, code = helper.command(closers, { limit = 100 })
    assert.equal(0, code, stderr)
    assert.is_true(tonumber(stdout) > 500, stdout)
  end)

  it("draws every call", function()
    local random, drawn = storm.random(1), {}
    local world = setmetatable({}, { __index = operations.World })
    for _ = 1, 5000 do drawn[world:draw(random)] = true end
    for _, name in ipairs(operations.names()) do assert.is_true(drawn[name], name) end
  end)

  it("finds an error that is not expected", function()
    assert.is_false(storm.expected(async.exception "Surprise" "x"))
    assert.is_false(storm.expected(async.OSError("x", { code = "EFAULT" })))
    assert.is_false(storm.expected "attempt to index a nil value")
    assert.is_false(storm.expected(async.RuntimeError "no running event loop"))
    assert.is_true(storm.expected(async.OSError("x", { code = "EPIPE" })))
  end)

  it("finds what is left behind", function()
    local left
    local draw = operations.World.draw
    local _ <close> = async.defer(function() operations.World.draw = draw end)
    local function leave() left = left or async.get_running_loop():call_later(1000, print) end
    function operations.World.draw() return "leave", leave end
    local dir = command.temp_dir()
    local e = helper.thrown(storm.run,
      { seed = 1, tasks = 1, steps = 1, dir = dir, certificates = certs, patience = 0.01 })
    command.remove_dir(dir)
    left:cancel()
    assert.truthy(e:find("callbacks 1 (before: 0)", 1, true), e)
  end)
end)

-- The model fuzz itself (spec/model/): a small range of seeds passes, planted faults are found and made small, and the
-- driver prints what a proof has to print. The faults are planted in the model; a difference is one from either side.
local helper = require "spec.helper"

local function campaign(options)
  return helper.plain(([[
local fuzz = require "spec.model.fuzz"
if %q ~= "" then fuzz.plant[%q] = true end
local small
local ops, programs = fuzz.campaign { seed = %d, ops = %d, failed = function(seed, prog, d)
  small = fuzz.shrink(prog, d)
  print("seed " .. seed)
  fuzz.show(prog, io.write)
end }
print(("%%d operations in %%d programs, small %%s"):format(ops, programs, small))
]]):format(options.plant or "", options.plant or "", options.seed, options.ops), { limit = 60 * helper.slow })
end

describe("the model fuzz", function()
  it("finds no difference in a range of seeds", function()
    local ops = helper.scaled(30000, 3000)
    local text = campaign { seed = 1, ops = ops }
    assert.truthy(text:match("^%d+ operations in %d+ programs, small nil\n$"), text)
    assert.is_true(tonumber(text:match("^%d+")) >= ops)
  end)

  it("is the same again with the same seed", function()
    helper.plain [[
      local fuzz = require "spec.model.fuzz"
      for seed = 1, 20 do
        local a, b = fuzz.program(seed), fuzz.program(seed)
        eq(fuzz.text(a), fuzz.text(b))
        local _, n, one = fuzz.both(a)
        local _, _, two = fuzz.both(b)
        eq(table.concat(one.events, "\n"), table.concat(two.events, "\n"))
        eq(n, #two.events)
      end
      assert(fuzz.text(fuzz.program(1)) ~= fuzz.text(fuzz.program(2)))
    ]]
  end)

  -- What each fault is, and a word that a small program that shows it has to contain. (A cancel may be the teardown's.)
  local faults = {
    { "lock_forgets", "a lock that forgets its waiters when the chosen one is cancelled", ":cancel(" },
    { "cancel_overtakes", "a cancel that overtakes a value", "async." },
    { "gather_cancels_first", "a combinator that cancels only its first child", "{" },
    { "queue_drops", "an item that goes with the cancelled getter", ":get" },
    { "timers_turned", "equal deadlines in the wrong order", "" },
    { "uncancel_keeps", "uncancel that leaves the request", ":uncancel()" },
    { "shield_leaks", "a shield that lets the cancel through", "async.shield" },
    { "timeout_keeps", "a timeout that does not take its request back", "" },
    { "group_goes_on", "a group whose failure does not stop the others", "async.TaskGroup" },
    { "notification_lost", "a notification that is lost with the task that it hit", ":notify" },
    { "gather_hides", "an error behind the first that nobody hears of", "async." },
    { "await_suspends", "an await of what is done that suspends", "async." },
    { "borrowed_is_cancelled", "a cancel that ends what others wait for", "async." },
  }

  for _, fault in ipairs(faults) do
    local name, what, word = table.unpack(fault)
    it("finds " .. what, function()
      local text = campaign { plant = name, seed = 1, ops = 150000 }
      local small = tonumber(text:match("small (%d+)\n$"))
      assert.truthy(small, "not found: " .. text)
      assert.is_true(small <= 12, text)
      assert.truthy(text:find("async, log", 1, true), text)
      assert.truthy(text:find(word, 1, true), text)
      assert.truthy(text:find("engine:", 1, true), text)
    end)
  end
end)

describe("the driver of the model fuzz", function()
  local command = require "spec.support.command"
  local function driver(...)
    return command.run { command.lunation, "spec/proofs/model.lua", limit = 60 * helper.slow, ... }
  end

  it("ends with the figures of a proof, also under the command", function()
    local stdout, stderr, code = driver("--ops", "500", "--seed", "7")
    assert.equal("", stderr)
    assert.equal(0, code)
    local ops, programs = stdout:match("^model fuzz: (%d+) operations in (%d+) programs\n")
    assert.is_true(tonumber(ops) >= 500 and tonumber(programs) > 1)
    assert.truthy(stdout:match("\nmodel: " .. ops .. " points, 0 failures, seed 7, %d+%.%d s\n$"), stdout)
  end)

  it("runs one program with a seed and one operation, of the size that is asked for", function()
    local stdout, _, code = driver("--seed", "3", "--ops", "1", "--size", "10")
    assert.equal(0, code)
    assert.truthy(stdout:find(" in 1 programs", 1, true), stdout)
  end)

  it("prints what fails and how to replay it", function()
    local stdout, _, code = driver("--plant", "timeout_keeps", "--ops", "5000")
    assert.equal(1, code)
    local seed = stdout:match("\nseed (%d+): the sides differ")
    assert.truthy(seed, stdout)
    local replay = "replay: lunation spec/proofs/model.lua --seed " .. seed .. " --ops 1 --plant timeout_keeps\n"
    assert.truthy(stdout:find(replay, 1, true), stdout)
    assert.truthy(stdout:match("\nmodel: %d+ points, [1-9]%d* failures, seed 1, %d+%.%d s\n$"), stdout)
    local again, _, status = driver("--seed", seed, "--ops", "1", "--plant", "timeout_keeps")
    assert.equal(1, status)
    assert.truthy(again:find(" points, 1 failures, seed " .. seed, 1, true), again)
  end)

  it("refuses arguments that it does not know", function()
    for _, words in ipairs { { "--sede", "3" }, { "--ops", "many" } } do
      local _, stderr, code = driver(table.unpack(words))
      assert.equal(1, code)
      assert.truthy(stderr:find(words[1] == "--ops" and "integer expected, got many" or "unknown argument --sede", 1,
        true), stderr)
    end
  end)
end)

-- Faults planted on purpose, one in each program of spec/planted: `lunation test` must find it, with the options that
-- its case names, and say the file and the line; and it must find nothing in NAME_sound.lua, the same program without
-- the fault, with the same options. Lines are marked in the programs: HERE is where the tool must point.
local command = require "spec.support.command"
local helper = require "spec.helper"

local FOLDER = "spec/planted"

local function words(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

-- Runs `lunation test` on a file of spec/planted -> stdout and stderr, exit code.
local function run(file, options, handler)
  local spec = { command.lunation, "test", "-C", FOLDER, "-o", handler or "plainTerminal",
    limit = 30 * math.max(1, helper.slow // 2) }
  for _, word in ipairs(words(options)) do spec[#spec + 1] = word end
  spec[#spec + 1] = file
  local stdout, stderr, code = command.run(spec)
  return stdout .. stderr, code
end

-- "file.lua:N" of the line that ends with the comment `-- MARK`.
local function place(name, mark)
  local number = 0
  for line in io.lines(FOLDER .. "/" .. name .. ".lua") do
    number = number + 1
    if line:find("-- " .. mark .. "$") then return name .. ".lua:" .. number end
  end
  error("no line of " .. name .. " is marked " .. mark)
end

local function contains(text, part)
  if not text:find(part, 1, true) then error(("%q is missing in\n%s"):format(part, text), 2) end
end

-- The time limit is in real seconds, so slow builds get more of them.
local function scale(options)
  return (options:gsub("%-%-timeout=([%d.]+)", function(n) return "--timeout=" .. tonumber(n) * helper.slow end))
end

-- Each: the program, the options, what has to be said; MADE, HERE, THROWN stand for the places marked so. `counts`:
-- what busted's line of results says.
local cases = {
  { "leaked_task", "", "left behind:", "task <Task pending", "made at HERE",
    counts = "1 success / 1 failure / 0 errors" },
  { "leaked_task", "--virtual-time", "left behind:", "task <Task pending", "made at HERE" },
  { "leaked_timer", "", "left behind:", "timer <Handle timer", "made at HERE" },
  { "leaked_timer", "--virtual-time", "left behind:", "made at HERE" },
  { "leaked_stream", "", "left behind:", "handle", "made at HERE", counts = "0 successes / 1 failure / 0 errors" },
  { "leaked_server", "", "left behind:", "handle", "made at HERE", counts = "0 successes / 1 failure / 0 errors" },
  { "leaked_by_setup", "", "left behind:", "task <Task pending", "made at HERE", "Error -> leaked_by_setup.lua @ 4" },
  { "forgotten_exception", "", "Task exception was never retrieved: ValueError: cannot save one", "made at HERE",
    "THROWN: in function", counts = "0 successes / 1 failure / 0 errors" },
  { "lost_wakeup", "--timeout=0.5", "the time limit of", "waits for 1 of its children", "HERE: in method 'wait'",
    "waits for a Future", counts = "1 success / 0 failures / 1 error" },
  { "lost_wakeup", "--virtual-time", "nothing is left to wait for", "waits for 1 of its children",
    "HERE: in method 'wait'", counts = "1 success / 0 failures / 1 error" },
  { "busy_loop", "--timeout=0.5", "HERE: TimeoutError: the time limit of",
    counts = "1 success / 0 failures / 1 error" },
  { "busy_loop", "--timeout=0.5 --virtual-time", "HERE: TimeoutError: the time limit of" },
  { "stubborn_loop", "--timeout=0.5", "TimeoutError: the time limit of", "stubborn_loop.lua @ 5",
    counts = "1 success / 0 failures / 1 error" },
  { "open_clock", "", "left behind:", "a virtual clock", "open_clock.lua @ 6",
    counts = "1 success / 1 failure / 0 errors" },
  { "swallowed_cancel", "--sweep=cancel", "at HERE, cancelled: the cancel was swallowed by Task-",
    "replay: lunation test --sweep=cancel --sweep-point=2", "sweep (cancel): 2 points in 1 tests, 1 failures" },
  { "lock_not_released", "--sweep=cancel", "at HERE, cancelled: a lock or permit was not given back",
    "sweep (cancel): 1 points in 1 tests, 1 failures" },
  { "lock_not_released", "--sweep=throw", "at HERE, an error thrown: a lock or permit was not given back" },
  { "server_not_closed", "--sweep=cancel", "at HERE, cancelled: ", "made at MADE" },
  { "server_not_closed", "--sweep=throw", "at HERE, an error thrown: ", "made at MADE" },
  { "child_not_ended", "--sweep=cancel", "at HERE, cancelled: left behind:", "made at MADE" },
  { "child_not_ended", "--sweep=throw --virtual-time", "at HERE, an error thrown: left behind:", "made at MADE" },
  { "order_dependence", "--shuffle-tasks=20 --seed=1", "HERE: Expected objects to be equal", "seed: ",
    "replay: lunation test --seed=", "(run " },
  { "callback_error", "", "Exception in callback", "HERE: attempt to index a nil value",
    counts = "0 successes / 1 failure / 0 errors" },
}

describe("a planted fault", function()
  for _, case in ipairs(cases) do
    local name, options = case[1], scale(case[2])

    it(name .. " is found: " .. options, function()
      local text, code = run(name .. ".lua", options)
      assert.equal(1, code, text)
      for i = 3, #case do
        contains(text, (case[i]:gsub("%f[%u][HMT][%u]+%f[%U]", function(mark)
          return (mark == "HERE" or mark == "MADE" or mark == "THROWN") and place(name, mark) or nil
        end)))
      end
      if case.counts then contains(text, case.counts) end
    end)

    it(name .. " is not found where it is not: " .. options, function()
      local text, code = run(name .. "_sound.lua", options)
      assert.equal(0, code, text)
      contains(text, "1 success / 0 failures / 0 errors")
    end)
  end

  for _, handler in ipairs { "TAP", "junit", "json", "gtest", "utfTerminal" } do
    it("is told by " .. handler, function()
      for _, name in ipairs { "leaked_task", "forgotten_exception" } do
        local text, code = run(name .. ".lua", "", handler)
        assert.equal(1, code, text)
        contains(text, "made at " .. place(name, "HERE"))
      end
    end)
  end

  it("that only some orders show passes in the usual one", function()
    local text, code = run("order_dependence.lua", "")
    assert.equal(0, code, text)
  end)

  it("that only a sweep shows passes without", function()
    for _, name in ipairs { "swallowed_cancel", "lock_not_released", "server_not_closed", "child_not_ended" } do
      local text, code = run(name .. ".lua", "")
      assert.equal(0, code, text)
    end
  end)
end)

describe("the command to replay", function()
  -- Runs what the tool has printed, in a shell, with our command in the place of `lunation`.
  local function replay(text)
    local line = text:match "replay: lunation ([^\n]*)"
    assert(line, text)
    local stdout, stderr, code = command.run { "sh", "-c", '"$L" ' .. line .. " -o plainTerminal",
      env = { L = command.lunation }, limit = 60 }
    return stdout .. stderr, code
  end

  -- What is said about the failure, without what differs with the number of runs.
  local function failure(text)
    text = text:match "Failure %->.*":gsub(" %(run %d+ of %d+%)", ""):gsub("\nshuffle:.*", "\n")
    return (text:gsub("order_dependence%.lua:5: order", "order"))
  end

  it("fails again under the seed that is named, again and again", function()
    local first = run("order_dependence.lua", "--shuffle-tasks=20")
    local seed = first:match "\nseed: (%d+)"
    assert(seed, first)
    for _ = 1, 3 do
      local text, code = replay(first)
      assert.equal(1, code, text)
      contains(text, "seed: " .. seed)
      contains(text, place("order_dependence", "HERE"))
      assert.equal(failure(first), failure(text))
    end
  end)

  it("fails again at the point that is named", function()
    for _, name in ipairs { "swallowed_cancel", "lock_not_released", "child_not_ended" } do
      local first = run(name .. ".lua", "--sweep=cancel")
      local text, code = replay(first)
      assert.equal(1, code, text)
      contains(text, first:match "point %d+ at [^,]*, cancelled")
    end
  end)

  it("passes once the fault is gone", function()
    local first = run("lock_not_released.lua", "--sweep=cancel")
    local text, code = replay((first:gsub("%f[%w_]lock_not_released%.lua\n", "lock_not_released_sound.lua\n")))
    assert.equal(0, code, text)
    contains(text, "1 success")
  end)
end)

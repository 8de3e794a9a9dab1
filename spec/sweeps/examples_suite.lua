-- The examples as tests, for `lunation test --sweep=cancel` and `--sweep=throw`: each program is the body of one test, so
-- it is cut at every one of its awaits, and must leave nothing behind.
--
-- A program's end is that of `async.run`: the tasks that are left are cancelled and awaited. So it is here, after each.
--
-- Passed over: 06_cancellation shows what swallowing a cancellation does, which is what the sweep would find; in 27_chat
-- people wait for each other, also for one who was cut off.
--
-- What an example prints goes nowhere: spec/examples_spec.lua compares that. An example that names the stock interpreter
-- makes loops of its own, which it cannot inside of ours, signals are the process's business, and no virtual clock waits
-- for children: those run there alone.
local async = require "lunation"
local probe = require "lunation.probe"

local FOLDER = "scripts/examples/"

local function contents(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

-- Globals for one run: as they are, but printing goes nowhere.
local function quiet()
  local sink = setmetatable({ write = function(self) return self end, flush = function(self) return self end },
    { __index = io.stdout })
  local quiet_io = setmetatable({ stdout = sink, stderr = sink, write = function() return sink end }, { __index = io })
  return setmetatable({ print = function() end, io = quiet_io, arg = { [0] = "example" } }, { __index = _G })
end

describe("example", function()
  local known

  before_each(function()
    known = {}
    for _, task in ipairs(async.all_tasks()) do known[task] = true end
  end)

  after_each(function()
    local left = {}
    for _, task in ipairs(async.all_tasks()) do
      if not known[task] and task ~= async.current_task() then table.insert(left, 1, task) end
    end
    for _, task in ipairs(left) do task:cancel() end
    if #left > 0 then async.wait(left) end
    for _, row in ipairs(probe.live()) do
      if row.kind == "timer" then row.object:cancel() end -- it would go with the loop
    end
  end)

  for path in assert(io.popen("ls " .. FOLDER .. "[0-9]*.lua")):lines() do
    local text = contents(path)
    local alone = text:match("^[^\n]*"):find("lua5.4", 1, true) or text:find("signal", 1, true)
      or text:find("async.process", 1, true)
    if not alone then
      local passed_over = path:find("06_cancellation", 1, true) or path:find("27_chat", 1, true)
      it(passed_over and path .. " #nosweep" or path, function() assert(load(text, "@" .. path, "t", quiet()))() end)
    end
  end
end)

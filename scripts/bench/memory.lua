-- How much memory does a sleeping task keep resident? With the C function async.sleep as its
-- body, and with a Lua function that sleeps. The stack reserve, a guard against a defect of
-- some builds of Lua 5.4.4, has a price here, so the bar is for a build without it: give the
-- word "noreserve" when the program runs in one (scripts/bench/all does both).

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TASKS = 200000
local BAR = 1400

local reserve = arg[1] ~= "noreserve"
local build = reserve and "" or ", no stack reserve"

local function nap()
    async.sleep(3600)
    return true
end

-- The tasks live on until the program ends: memory given back by the first kind would
-- hide what the second needs. No list of them is kept, the loop holds them anyway.
local function bytes_per_task(...)
    collectgarbage()
    local before = bench.limits.resident()
    for _ = 1, TASKS do
        async.create_task(...)
    end
    async.sleep(0)
    async.sleep(0)
    collectgarbage()
    return (bench.limits.resident() - before) / TASKS
end

local bar = not reserve and BAR or nil
bench.report("memory: async.sleep as a task" .. build,
    bytes_per_task(async.sleep, 3600), "B", bar)
bench.report("memory: Lua function that sleeps" .. build, bytes_per_task(nap), "B", bar)

-- A task that died early would have cost nothing.
assert(#async.all_tasks() == 2 * TASKS + 1)

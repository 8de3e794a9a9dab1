-- What does it cost to stop a sleeping task and to learn that it has stopped? One at a time, as
-- a caller does it who wants to be sure, and a batch cancelled first, awaited after. The
-- CancelledError that await throws is caught, and counts.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local BATCH, BATCHES = 1000, 50

local function sleepers()
    local tasks = {}
    for i = 1, BATCH do
        tasks[i] = async.create_task(async.sleep, 3600)
    end
    async.sleep(0)
    async.sleep(0)
    return tasks
end

local function cancel_each(tasks)
    for i = 1, BATCH do
        tasks[i]:cancel()
        assert(not pcall(async.await, tasks[i]))
    end
end

local function cancel_all(tasks)
    for i = 1, BATCH do
        tasks[i]:cancel()
    end
    for i = 1, BATCH do
        assert(not pcall(async.await, tasks[i]))
    end
end

bench.measure {
    {
        name = "cancel + await a sleeping task, one at a time",
        bar = 15,
        ops = BATCH,
        batches = BATCHES,
        setup = sleepers,
        run = cancel_each,
    },
    {
        name = "cancel + await a sleeping task, 1,000 at a time",
        bar = 15,
        ops = BATCH,
        batches = BATCHES,
        setup = sleepers,
        run = cancel_all,
    },
    {
        name = "spawn + sleep + cancel + await",
        ops = BATCH,
        batches = BATCHES,
        run = function()
            cancel_all(sleepers())
        end,
    },
}

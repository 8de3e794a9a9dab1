-- What does a task cost from create_task to await, when it does nothing? In batches that fit
-- the caches and recycle their coroutines, and 200,000 at once, where none can be reused
-- before the last has been made.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local function no_op() end

local function spawn_and_await(count)
    local tasks = {}
    for i = 1, count do
        tasks[i] = async.create_task(no_op)
    end
    for i = 1, count do
        async.await(tasks[i])
    end
end

bench.measure {
    {
        name = "spawn + await a no-op task, batches of 1,000",
        bar = 6,
        ops = 300 * 1000,
        run = function()
            for _ = 1, 300 do
                spawn_and_await(1000)
            end
        end,
    },
    {
        name = "spawn + await a no-op task, 200,000 at once",
        bar = 20,
        ops = 200000,
        run = function()
            spawn_and_await(200000)
        end,
    },
}

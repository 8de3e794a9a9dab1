-- Do a million sleeping tasks fit? They are spawned, all asleep at once, cancelled and joined.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TASKS = 1000000
local BAR_SECONDS = 10

local function life_of_a_million()
    local tasks = {}
    for i = 1, TASKS do
        tasks[i] = async.create_task(async.sleep, 3600)
    end
    async.sleep(0)
    async.sleep(0)
    for i = 1, TASKS do
        tasks[i]:cancel()
    end
    local _, pending = async.wait(tasks)
    assert(#pending == 0 and tasks[1]:cancelled() and tasks[TASKS]:cancelled())
end

bench.report("1,000,000 sleeping tasks: spawn, cancel, join",
    bench.seconds(life_of_a_million), "s", BAR_SECONDS)
bench.report("million: peak resident", bench.limits.peak() / 1e6, "MB")

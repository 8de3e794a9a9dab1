-- What does one switch cost? 1,000 tasks take turns by sleep(0), so a turn is a wake-up, a
-- resume and a yield; starting and joining the tasks is under 1 % of what is measured.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TASKS, TURNS = 1000, 1000

local function take_turns()
    for _ = 1, TURNS do
        async.sleep(0)
    end
end

bench.measure {
    {
        name = "sleep(0) in a round of 1,000 tasks",
        bar = 1.5,
        ops = TASKS * TURNS,
        run = function()
            local tasks = {}
            for i = 1, TASKS do
                tasks[i] = async.create_task(take_turns)
            end
            for i = 1, TASKS do
                async.await(tasks[i])
            end
        end,
    },
}

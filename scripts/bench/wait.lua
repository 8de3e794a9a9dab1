-- What does wait(FIRST_COMPLETED) cost over 1,000 tasks of which one ends? The call has to look
-- at all of them and to list 999 as pending, so it is the whole call that counts; the task
-- that ends is spawned within the measure and stands at another place each time.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TASKS, CALLS = 1000, 500

local function no_op() end

local tasks = {}
for i = 1, TASKS do
    tasks[i] = async.create_task(async.sleep, 3600)
end
async.sleep(0)

bench.measure {
    {
        name = "wait(FIRST_COMPLETED) over 1,000 tasks, a call",
        bar = 600,
        ops = CALLS,
        run = function()
            local opts = { return_when = async.FIRST_COMPLETED }
            for call = 1, CALLS do
                local place = call * 7 % TASKS + 1
                local sleeper = tasks[place]
                tasks[place] = async.create_task(no_op)
                local done, pending = async.wait(tasks, opts)
                assert(#done == 1 and #pending == TASKS - 1)
                tasks[place] = sleeper
            end
        end,
    },
}

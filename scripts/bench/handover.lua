-- What does it cost to hand control to another task through a future made for the occasion?
-- Two tasks play ping-pong; one hand-over is a new future, its set_result, and an await that
-- suspends.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TIMES = 200000

local turn

local function player(me, other)
    for _ = 1, TIMES do
        async.await(turn[me])
        turn[me] = async.Future()
        turn[other]:set_result()
    end
end

bench.measure {
    {
        name = "hand-over between two tasks, fresh futures",
        bar = 5,
        ops = 2 * TIMES,
        run = function()
            turn = { async.Future(), async.Future() }
            local first = async.create_task(player, 1, 2)
            local second = async.create_task(player, 2, 1)
            turn[1]:set_result()
            async.await(first)
            async.await(second)
        end,
    },
}

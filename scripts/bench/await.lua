-- What does an await cost that finds its result there? It returns without suspending, but for
-- every 128th, which gives way.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local TIMES = 1000000

local finished = async.Future()
finished:set_result(42)

bench.measure {
    {
        name = "await a finished future",
        bar = 1,
        ops = TIMES,
        run = function()
            local await = async.await
            for _ = 1, TIMES do
                await(finished)
            end
        end,
    },
}

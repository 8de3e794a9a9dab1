-- Can done-callbacks set one another off a million times in a row? Each future's callback gives
-- the next its result; nothing may recurse.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local LINKS = 1000000
local BAR_SECONDS = 10

local function run_through()
    local futures = {}
    for i = 1, LINKS do
        futures[i] = async.Future()
    end
    for i = 1, LINKS - 1 do
        futures[i]:add_done_callback(function(future)
            futures[i + 1]:set_result(future:result() + 1)
        end)
    end
    futures[1]:set_result(1)
    assert(async.await(futures[LINKS]) == LINKS)
end

bench.report("chain of 1,000,000 done-callbacks", bench.seconds(run_through), "s", BAR_SECONDS)
bench.report("callbacks: peak resident", bench.limits.peak() / 1e6, "MB")

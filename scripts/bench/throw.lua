-- What does an error cost that crosses an await? A task is spawned and throws, its awaiter
-- catches: with a value at hand, with the string of error(), which names its line, and with
-- an error object made on the spot. The trace that is recorded on the way counts.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local BATCH, BATCHES = 1000, 50

local at_hand = async.ValueError("at hand")

local function case(name, throw)
    return {
        name = "task that throws " .. name .. ", caught",
        bar = 20,
        ops = BATCH * BATCHES,
        run = function()
            for _ = 1, BATCHES do
                local tasks = {}
                for i = 1, BATCH do
                    tasks[i] = async.create_task(throw)
                end
                for i = 1, BATCH do
                    assert(not pcall(async.await, tasks[i]))
                end
            end
        end,
    }
end

bench.measure {
    case("an object at hand", function() error(at_hand) end),
    case("a string", function() error("made here") end),
    case("a new ValueError", function() error(async.ValueError("made here")) end),
}

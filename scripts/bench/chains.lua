-- Can 100,000 tasks stand in one line, each awaiting the next? They are made, cancelled at the
-- head, which awaits them all, or at the tail, which all await, or finished; nothing may
-- recurse, and no step may walk the line, or the program takes minutes. Both orders of making
-- them: tail first, the one awaited is already waiting; head first, it has not started.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local LINKS = 100000
local BAR_SECONDS = 2 -- a quadratic step would take many times that

local await = async.await

-- Returns the line, from its tail at [1] to its head at [LINKS], and the future that the tail
-- awaits.
local function tail_first()
    local line, gate = {}, async.Future()
    line[1] = async.create_task(await, gate)
    for i = 2, LINKS do
        line[i] = async.create_task(await, line[i - 1])
    end
    async.sleep(0)
    async.sleep(0)
    return line, gate
end

local function head_first()
    local line, gate = {}, async.Future()
    for i = LINKS, 1, -1 do
        line[i] = async.create_task(function()
            return await(line[i - 1] or gate)
        end)
    end
    async.sleep(0)
    async.sleep(0)
    return line, gate
end

local function expect_cancelled(line)
    local ok, e = pcall(await, line[LINKS])
    assert(not ok and async.isinstance(e, async.CancelledError), e)
    assert(line[1]:cancelled() and line[LINKS]:cancelled())
end

local endings = {
    {
        "head cancelled",
        function(line)
            line[LINKS]:cancel("stop")
            expect_cancelled(line)
        end,
    },
    {
        "tail cancelled",
        function(line)
            line[1]:cancel("stop")
            expect_cancelled(line)
        end,
    },
    {
        "finished",
        function(line, gate)
            gate:set_result("through")
            assert(await(line[LINKS]) == "through")
        end,
    },
}

local orders = { { "tail first", tail_first }, { "head first", head_first } }

for _, order in ipairs(orders) do
    local order_name, make = table.unpack(order)
    for _, ending in ipairs(endings) do
        local ending_name, finish = table.unpack(ending)
        bench.report(("chain of 100,000, %s: %s"):format(order_name, ending_name),
            bench.seconds(function()
                finish(make())
            end), "s", BAR_SECONDS)
    end
end
bench.report("chains: peak resident", bench.limits.peak() / 1e6, "MB")

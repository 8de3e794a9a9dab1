-- Does a completion in as_completed cost the same however many there are? 1,000 and 10,000
-- tasks, their creation included; were a completion O(n), the second would cost ten times
-- the first. A little more it does cost: the caches hold 1,000 tasks, not 10,000.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local function no_op() end

local function complete(count, times)
    for _ = 1, times do
        local tasks, seen = {}, 0
        for i = 1, count do
            tasks[i] = async.create_task(no_op)
        end
        for task in async.as_completed(tasks) do
            task:result()
            seen = seen + 1
        end
        assert(seen == count)
    end
end

local function case(count, times)
    return {
        name = ("as_completed over %d tasks, a completion"):format(count),
        ops = count * times,
        run = function()
            complete(count, times)
        end,
    }
end

local few, many = table.unpack(bench.measure { case(1000, 200), case(10000, 20) })
bench.report("as_completed: 10,000 against 1,000", many / few, "x", 3)

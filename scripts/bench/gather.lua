-- What does a child of a gather cost, from its creation to its place in the results? Given as
-- functions, which gather makes tasks of, and as tasks made before.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local CHILDREN, TIMES = 10000, 20

local function child()
    return 1
end

local function gather_all(make)
    for _ = 1, TIMES do
        local children = {}
        for i = 1, CHILDREN do
            children[i] = make(child)
        end
        assert(#async.gather(children) == CHILDREN)
    end
end

bench.measure {
    {
        name = "gather of 10,000 functions, per child",
        bar = 6,
        ops = CHILDREN * TIMES,
        run = function()
            gather_all(function(fn) return fn end)
        end,
    },
    {
        name = "gather of 10,000 tasks, per child",
        bar = 6,
        ops = CHILDREN * TIMES,
        run = function()
            gather_all(async.create_task)
        end,
    },
}

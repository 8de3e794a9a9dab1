-- What does an item cost on its way from a producer to a consumer through a bounded queue?
-- One put and one get; both sides wait in turn whenever the queue is full or empty.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local ITEMS = 500000

local function produce(queue)
    for i = 1, ITEMS do
        queue:put(i)
    end
end

local function consume(queue)
    for i = 1, ITEMS do
        if queue:get() ~= i then
            error("out of order")
        end
    end
end

local function pass_items(size)
    local queue = async.Queue(size)
    local producer = async.create_task(produce, queue)
    local consumer = async.create_task(consume, queue)
    async.await(producer)
    async.await(consumer)
end

bench.measure {
    {
        name = "item through Queue(100), put + get",
        bar = 1.5,
        ops = ITEMS,
        run = function()
            pass_items(100)
        end,
    },
    {
        name = "item through Queue(1), put + get",
        ops = ITEMS,
        run = function()
            pass_items(1)
        end,
    },
}

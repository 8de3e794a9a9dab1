-- What does a timer cost that never fires, beside a million others? Deadlines fall anywhere
-- among the live ones, so the place in the heap is a different one each time.

local async = require "lunation"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local LIVE, TIMES, KINDS = 1000000, 300000, 4096

local function never() end

local loop = async.get_running_loop()
local delays = {}
math.randomseed(1)
for i = 1, KINDS do
    delays[i] = 1000 + 4000 * math.random()
end

local function start_and_cancel()
    for i = 1, TIMES do
        loop:call_later(delays[i % KINDS + 1], never):cancel()
    end
end

local case = {
    name = "timer started + cancelled, none live",
    ops = TIMES,
    run = start_and_cancel,
}
bench.measure { case }

local live = {}
for i = 1, LIVE do
    live[i] = loop:call_later(1000 + 4000 * math.random(), never)
end

case.name, case.bar = "timer started + cancelled, 1,000,000 live", 6
bench.measure { case }

for i = 1, LIVE do
    live[i]:cancel()
end

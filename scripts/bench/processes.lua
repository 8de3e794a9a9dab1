-- What does a child cost, and is anything left of a thousand of them, however they end?

local async = require "lunation"
local process = require "lunation.process"
local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")

local CHILDREN = 1000
local AT_A_TIME = 20

-- Children that were not reaped, and descriptors.
local function left()
    local n, children = 0, assert(io.open("/proc/thread-self/children"))
    for _ in children:read("a"):gmatch("%d+") do
        n = n + 1
    end
    children:close()
    local descriptors = 0
    for fd = 0, 999 do
        local file = io.open("/proc/self/fdinfo/" .. fd)
        if file then
            file:close()
            descriptors = descriptors + 1
        end
    end
    return n, descriptors
end

local list = {}
for i = 1, CHILDREN do
    list[i] = i
end

local function ended()
    process.run("true")
end

local function killed()
    local child <close> = process.spawn("sleep", { 1000 }, { stdin = "null", stdout = "pipe" })
    child:kill("KILL")
    child:wait()
end

local function cancelled(_, i)
    local task = async.create_task(process.run, "sleep", { 1000 })
    async.sleep(i % 7 * 0.0005)
    task:cancel()
    async.wait { task }
end

local function dropped()
    local child <close> = process.spawn("sleep", { 1000 }, { stdin = "null", stdout = "pipe" })
    assert(child)
end

ended()
local _, before = left()
for _, case in ipairs {
    { "run to their end", ended },
    { "spawned and killed", killed },
    { "runs cancelled", cancelled },
    { "spawned and closed", dropped },
} do
    local loop = async.get_running_loop()
    local start = loop:time()
    local cpu = bench.seconds(async.map, list, case[2], { limit = AT_A_TIME })
    local name = ("1,000 processes %s"):format(case[1])
    bench.report(name .. ": wall", (loop:time() - start) * 1e6 / CHILDREN, "us each")
    bench.report(name .. ": CPU of ours", cpu * 1e6 / CHILDREN, "us each")
end

-- The last ones are reaped within a moment.
local zombies, descriptors
for _ = 1, 1000 do
    zombies, descriptors = left()
    if zombies == 0 then
        break
    end
    async.sleep(0.001)
end
bench.report("4,000 processes: zombies left", zombies, "", 0)
bench.report("4,000 processes: descriptors left", descriptors - before, "", 0)

-- What every program in this directory shares: the clock, five interleaved runs, one row of
-- the table. A program begins with
--
--     local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")
--
-- All times are CPU time, and the unit is P, the cost of one bare lua_resume + lua_yieldk +
-- continuation driven from C (limits.c). P is measured anew before every run of every
-- operation, because a busy or throttled machine slows both alike.

local RUNS = 5
local PAIRS = 400000 -- some 20 ms: long against the clock's grain, short against the drift

local here = arg[0]:match("^.*/") or "./"
local bench = {}

package.cpath = here .. "../../build/bench/?.so;" .. package.cpath
local found, limits = pcall(require, "bench_limits")
if not found then
    io.stderr:write(
        "bench: the C limits are not built; scripts/bench/all --build builds them:\n  ",
        tostring(limits):gsub("\n.*", ""), "\n")
    os.exit(2)
end
bench.limits = limits

function bench.median(values)
    table.sort(values)
    return values[(#values + 1) // 2]
end

local function verdict(value, bar)
    if not bar then
        return ""
    end
    return value <= bar and "ok" or "OVER"
end

local function print_row(name, measured, ratio, bar, word)
    local line = ("%-52s %12s %10s %12s  %s"):format(name, measured, ratio, bar, word)
    print((line:gsub("%s+$", "")))
    io.stdout:flush() -- a program that dies later still shows what it had measured
end

-- A cost in ns and in P, and the most P that it may be. No bar: for information.
function bench.row(name, ns, ratio, bar)
    print_row(name, ("%.1f ns"):format(ns), ("%.2f P"):format(ratio),
        bar and ("<= %g P"):format(bar) or "", verdict(ratio, bar))
end

-- A figure with a unit of its own: bytes, seconds, a factor. No bar: for information.
function bench.report(name, value, unit, bar)
    local shown = (value < 100 and "%.2f %s" or "%.0f %s"):format(value, unit)
    local limit = bar and ("<= %g %s"):format(bar, unit) or ""
    print_row(name, shown, "", limit, verdict(value, bar))
end

-- CPU seconds of fn(...).
function bench.seconds(fn, ...)
    collectgarbage()
    local start = limits.cpu()
    fn(...)
    return limits.cpu() - start
end

-- One run of an operation: `batches` times `setup`, which is not measured, and `run` of what
-- setup returned, which is. Returns ns per operation. The collector starts each run from a
-- clean heap and is left alone within it.
local function run_once(case)
    local batches = case.batches or 1
    local setup = case.setup or function() end
    local total = 0
    collectgarbage()
    for _ = 1, batches do
        local state = setup()
        local start = limits.cpu()
        case.run(state)
        total = total + (limits.cpu() - start)
    end
    return total * 1e9 / (case.ops * batches)
end

-- Measures a list of operations, prints a row for each and returns their medians in ns.
--   name     what the row is called
--   ops      how many operations one call of run does
--   run      the operation, `ops` times over
--   bar      the most P that one may cost; without it the row is for information
--   setup, batches   see run_once
function bench.measure(cases)
    local times, ratios, medians = {}, {}, {}
    for i in ipairs(cases) do
        times[i], ratios[i] = {}, {}
    end
    for n = 1, RUNS do
        for i, case in ipairs(cases) do
            collectgarbage()
            local pair = limits.pair(PAIRS)
            local ns = run_once(case)
            times[i][n], ratios[i][n] = ns, ns / pair
        end
    end
    for i, case in ipairs(cases) do
        medians[i] = bench.median(times[i])
        bench.row(case.name, medians[i], bench.median(ratios[i]), case.bar)
    end
    return medians
end

return bench

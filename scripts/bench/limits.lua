-- What do bare Lua and bare libuv cost here? The yardsticks that the other programs are
-- measured with, in the same unit. Runs under plain lua5.4 as well.

local bench = dofile((arg[0]:match("^.*/") or "./") .. "bench.lua")
local limits = bench.limits

-- A limit times itself and leaves its setup out, so it takes no part in bench.measure.
local function limit(name, fn, ...)
    local times, ratios = {}, {}
    for i = 1, 5 do
        local pair = limits.pair(400000)
        times[i] = fn(...)
        ratios[i] = times[i] / pair
    end
    bench.row(name, bench.median(times), bench.median(ratios))
end

limit("limit: resume + continuation + yield (P)", limits.pair, 1000000)
limit("limit: P over 1,000 coroutines in turn", limits.pair, 1000000, 1000)
limit("limit: P over 10,000 coroutines in turn", limits.pair, 1000000, 10000)
limit("limit: resume + yield without Lua code between", limits.c_pair, 1000000)
limit("limit: fresh coroutine, made, run, dropped", limits.fresh, 200000)
limit("limit: recycled coroutine, run", limits.recycled, 1000000)
limit("limit: luaL_ref + luaL_unref", limits.ref, 1000000)
limit("limit: one turn of uv_run that finds nothing", limits.uv_turn, 100000)
limit("limit: uv timer start + stop, 1,000 live", limits.uv_timer, 500000, 1000)
limit("limit: uv timer start + stop, 1,000,000 live", limits.uv_timer, 500000, 1000000)

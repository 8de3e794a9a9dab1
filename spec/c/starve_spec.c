/* SPDX-License-Identifier: MIT */
/*
 * starve_spec.c - what the bindings still do when memory is gone at the worst moment: a report
 * becomes one line, a task or a shield ends instead of hanging, a call that had begun gives
 * back what it took. That no allocation at all can do harm is the memory sweep's business; here
 * the moment is chosen and the outcome named.
 *
 * Each program is Lua in a state of its own, and has these functions: starve(on) refuses all
 * memory, refuse(old, new) refuses to make a block of `old` bytes one of `new` (old 0: any new
 * block of that size), raise(message, kind) raises a fault as a host's C code does.
 */
#include "../../bindings/lunl.h"
#include "lunation_lua.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- memory ---- */

static struct {
    size_t live;
    bool starving;
    size_t from, to; /* the growth that is refused; to 0: none */
    int refused;
} memory;

static void *allocate(void *ud, void *ptr, size_t old, size_t size)
{
    (void)ud;
    if (!ptr)
        old = 0; /* Lua tells a kind there */
    if (size == 0) {
        memory.live -= old;
        free(ptr);
        return NULL;
    }
    if (size > old && (memory.starving || (memory.to == size && memory.from == old))) {
        memory.refused++;
        return NULL;
    }
    void *block = realloc(ptr, size);
    assert_non_null(block);
    memory.live += size - old;
    return block;
}

static int l_starve(lua_State *L)
{
    memory.starving = lua_toboolean(L, 1);
    return 0;
}

static int l_refuse(lua_State *L)
{
    memory.from = (size_t)luaL_optinteger(L, 1, 0);
    memory.to = (size_t)luaL_optinteger(L, 2, 0);
    lua_pushinteger(L, memory.refused);
    memory.refused = 0;
    return 1;
}

/* ---- a host's fault ---- */

static lun_fault trouble;

static int l_raise(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    trouble = (lun_fault){.message = lua_tostring(L, 1), .kind = lua_tostring(L, 2)};
    lun_fault_raise(&S->loop->loop, &trouble);
    return 0;
}

/* ---- programs ---- */

/* On the virtual clock what hangs is an error. */
static const char prelude[] =
    "local async = require 'lunation'\n"
    "local loop\n"
    "local function main(fn)\n"
    "  local runner = async.Runner { clock = 'virtual' }\n"
    "  runner:run(function() loop = async.get_running_loop() fn() end)\n"
    "  runner:close()\n"
    "end\n"
    "local function eq(a, b)\n"
    "  if a ~= b then error(('expected %s, got %s'):format(a, b), 2) end\n"
    "end\n"
    "local function scarce(fn, ...)\n"
    "  local ok, e = pcall(fn, ...) starve(false)\n"
    "  eq(false, ok) eq('not enough memory', e)\n"
    "end\n";

static char output[4096]; /* what the program has written to stderr */

static void run(const char *text)
{
    static const luaL_Reg functions[] = {
        {"starve", l_starve}, {"refuse", l_refuse}, {"raise", l_raise}, {NULL, NULL}};
    char program[8192];
    int p[2], saved = dup(STDERR_FILENO);
    memset(&memory, 0, sizeof memory);
    lua_State *L = lua_newstate(allocate, NULL);
    luaL_openlibs(L);
    luaL_requiref(L, "lunation", luaopen_lunation, 0);
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pushinteger(L, sizeof(lun_timer_entry));
    lua_setglobal(L, "TIMER");
    lua_pushinteger(L, (lua_Integer)lun_join_size(0));
    lua_setglobal(L, "JOIN");
    lua_pushinteger(L, sizeof(lun_arm));
    lua_setglobal(L, "ARM");
    snprintf(program, sizeof program, "%s%s", prelude, text);
    assert_int_equal(pipe(p), 0);
    dup2(p[1], STDERR_FILENO);
    int status = luaL_dostring(L, program);
    memory.starving = false;
    memory.to = 0;
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(p[1]);
    ssize_t n = read(p[0], output, sizeof output - 1);
    output[n > 0 ? n : 0] = '\0';
    close(p[0]);
    if (status != LUA_OK)
        fail_msg("%s\n%s", luaL_tolstring(L, -1, NULL), output);
    lua_close(L);
    assert_int_equal(memory.live, 0);
}

/* ---- the tests ---- */

static void test_report_becomes_a_line(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local kept, seen = async.ValueError 'typed', 0\n"
        "  loop:set_exception_handler(function(_, c) seen = seen + 1 starve(true) local _ "
        "= {} end)\n"
        "  for _, e in ipairs { kept, 'text', 42 } do\n"
        "    loop:call_soon(error, e, 0) async.sleep(0) starve(false)\n"
        "  end\n"
        "  eq(3, seen)\n"
        "end)\n");
    assert_string_equal(output, "Exception in callback <error>: ValueError: typed\n"
                                "Exception in callback <error>: text\n"
                                "Exception in callback <error>\n");
}

/* There is not even memory to find out where it was thrown. */
static void test_callback_becomes_a_line(void **state)
{
    (void)state;
    run("main(function()\n"
        "  loop:call_soon(function() starve(true) error('text', 0) end)\n"
        "  loop:call_soon(starve, false)\n"
        "  async.sleep(0)\n"
        "end)\n");
    assert_string_equal(output, "Exception in callback: not enough memory\n");
}

static void test_host_fault(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local got = {}\n"
        "  loop:set_exception_handler(function(_, c) got[#got + 1] = c.message .. '/' .. "
        "c.kind end)\n"
        "  raise('message', 'kind') async.sleep(0)\n"
        "  raise(nil, 'kind') async.sleep(0)\n"
        "  eq('message/kind kind/kind', table.concat(got, ' '))\n"
        "  raise('lost', 'kind') starve(true) async.sleep(0) starve(false)\n"
        "end)\n");
    assert_string_equal(output, "lost\n");
}

/* It cannot copy what it follows: whoever waits for it is told, the work is not touched. */
static void test_shield_is_cancelled(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local work = async.Future()\n"
        "  local shield = async.shield(work)\n"
        "  work:set_result(1, 2, 3)\n"
        "  starve(true) async.sleep(0) starve(false)\n"
        "  local ok, e = pcall(async.await, shield)\n"
        "  eq(false, ok) eq('CancelledError', e.name)\n"
        "  eq(3, select('#', async.await(work)))\n"
        "end)\n");
    assert_string_equal(output, "");
}

static void test_task_that_cannot_start(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local ran = false\n"
        "  local task = async.create_task(function() ran = true end)\n"
        "  starve(true) async.sleep(0) starve(false)\n"
        "  scarce(async.await, task)\n"
        "  eq(false, ran) eq(true, task:done())\n"
        "  local thread = async.create_task(function() return 'lives' end)\n"
        "  scarce(function() starve(true) thread:get_coro() end)\n"
        "  eq('lives', async.await(thread))\n"
        "end)\n");
}

/* The array of timers is full and cannot grow: the call fails as a whole. */
static void test_no_room_for_a_timer(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local list = {}\n"
        "  for i = 1, 63 do list[i] = loop:call_later(3600, print) end\n"
        "  refuse(64 * TIMER, 128 * TIMER)\n"
        "  local before = loop:stats()\n"
        "  local never = async.Future()\n"
        "  local started = false\n"
        "  scarce(loop.call_later, loop, 1, print)\n"
        "  scarce(async.sleep, 1)\n"
        "  scarce(async.timeout, 1)\n"
        "  scarce(async.wait_for, never, 1)\n"
        "  scarce(async.wait_for, function() started = true end, 1)\n"
        "  scarce(async.wait, { never }, { timeout = 1 })\n"
        "  scarce(function() for _ in async.as_completed({ never }, { timeout = 1 }) do "
        "end end)\n"
        "  async.sleep(0)\n"
        "  eq(7, refuse()) eq(false, started) eq(false, never:done())\n"
        "  for _, name in ipairs { 'tasks', 'sleepers', 'timers', 'callbacks' } do\n"
        "    eq(before[name], loop:stats()[name])\n"
        "  end\n"
        "  eq('slept', async.sleep(0.001, 'slept'))\n"
        "  for _, handle in ipairs(list) do handle:cancel() end\n"
        "end)\n");
    assert_string_equal(output, "");
}

static void test_no_room_for_a_join(void **state)
{
    (void)state;
    run("main(function()\n"
        "  local futures, started = {}, 0\n"
        "  for i = 1, 37 do futures[i] = async.Future() end\n"
        "  local size = JOIN + 37 * ARM\n"
        "  for _, fn in ipairs { async.gather, async.wait, async.race, async.as_completed "
        "} do\n"
        "    refuse(0, size)\n"
        "    scarce(function() local r = fn(futures) if r then r() end end)\n"
        "    eq(1, refuse())\n"
        "  end\n"
        "  refuse(0, size)\n"
        "  scarce(async.map, futures, function() started = started + 1 end)\n"
        "  refuse()\n"
        "  async.sleep(0) eq(0, started)\n"
        "end)\n");
    assert_string_equal(output, "");
}

static void test_dump(void **state)
{
    (void)state;
    run("main(function()\n"
        "  scarce(function() starve(true) async.dump() end)\n"
        "  eq(true, collectgarbage 'isrunning')\n"
        "end)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_becomes_a_line),
        cmocka_unit_test(test_callback_becomes_a_line),
        cmocka_unit_test(test_host_fault),
        cmocka_unit_test(test_shield_is_cancelled),
        cmocka_unit_test(test_task_that_cannot_start),
        cmocka_unit_test(test_no_room_for_a_timer),
        cmocka_unit_test(test_no_room_for_a_join),
        cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

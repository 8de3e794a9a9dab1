/* SPDX-License-Identifier: MIT */
/*
 * threads_spec.c - several Lua states with loops of their own in several threads at once, beside
 * one on the main thread: they share nothing. The thread sanitizer's build is where this program
 * says most.
 *
 * Law: cmocka is the main thread's; threads count what went wrong.
 */
#include "../../bindings/lunl.h"
#include "lunation_lua.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 4 };

static int rounds(void)
{
    const char *text = getenv("LUNATION_LONG");
    return text && strcmp(text, "1") == 0 ? 50 : 2;
}

/* ---- from_thread: awaits an answer that another thread posts ---- */

typedef struct answer {
    lun_post post;
    lun_future *f;
    pthread_t thread;
} answer;

static void on_answer(lun_post *p, lun_loop *loop)
{
    (void)loop;
    lun_future_settle(lun_container(p, answer, post)->f, LUN_OK);
}

static void *give_answer(void *ud)
{
    answer *a = ud;
    LUN_ASSERT(lun_loop_post(a->f->loop, &a->post));
    return NULL;
}

static int on_answered(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lun_future *on;
    answer *a = lua_touserdata(L, (int)ctx);
    lunl_resumed(L, lunl_S(L), &on);
    pthread_join(a->thread, NULL);
    lua_settop(L, 1);
    return 1;
}

static int from_thread(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, 1);
    answer *a = lua_newuserdatauv(L, sizeof *a, 0);
    *a = (answer){.post.run = on_answer};
    a->f = lunl_new_future(L, S->loop, LUNL_KIND_FUTURE, sizeof *a->f, 2);
    a->f->guest |= LUNL_NO_VALUES;
    if (pthread_create(&a->thread, NULL, give_answer, a) != 0)
        return luaL_error(L, "no thread");
    lun_task_wait(t, a->f, true);
    return lunl_suspend(L, S, 2, on_answered);
}

/* ---- one Lua state ---- */

static lua_State *open_state(void)
{
    static const luaL_Reg functions[] = {{"from_thread", from_thread}, {NULL, NULL}};
    lua_State *L = luaL_newstate();
    LUN_ASSERT(L);
    luaL_openlibs(L);
    luaL_requiref(L, "lunation", luaopen_lunation, 0);
    lua_settop(L, 0);
    lua_pushglobaltable(L);
    lunl_register(L, functions);
    lua_settop(L, 0);
    return L;
}

/* Runs the program once; how many things it saw to work, 0 after an error, which is printed. */
static int run_program(lua_State *L)
{
    int done = 0;
    if (luaL_dofile(L, "spec/support/threads.lua") == LUA_OK)
        done = (int)lua_tointeger(L, -1);
    else
        fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
    lua_settop(L, 0);
    return done;
}

static int lived(int times)
{
    lua_State *L = open_state();
    int least = run_program(L);
    for (int i = 1; i < times && least > 0; i++)
        if (run_program(L) != least)
            least = 0;
    lua_close(L);
    return least;
}

/* ---- the tests ---- */

typedef struct worker {
    pthread_t thread;
    lua_State *L; /* handed on from thread to thread */
    int done;
} worker;

static void *work(void *ud)
{
    worker *w = ud;
    for (int i = 0; i < rounds(); i++) {
        w->done = lived(2);
        if (w->done == 0)
            break;
    }
    return NULL;
}

static void test_states_in_threads(void **state)
{
    worker w[THREADS];
    (void)state;
    int expected = lived(1);
    assert_true(expected > 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    /* This one has what a main thread has: interruption by SIGINT. */
    for (int i = 0; i < rounds(); i++)
        assert_int_equal(lived(2), expected);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].done, expected);
    }
}

static void *open_one(void *ud)
{
    ((worker *)ud)->L = open_state();
    return NULL;
}

static void *run_one(void *ud)
{
    worker *w = ud;
    w->done = run_program(w->L);
    return NULL;
}

static void *close_one(void *ud)
{
    lua_close(((worker *)ud)->L);
    return NULL;
}

/* A state belongs to one thread at a time, not to one for ever. */
static void test_state_goes_from_thread_to_thread(void **state)
{
    static void *(*const lives[])(void *) = {open_one, run_one, run_one, close_one};
    worker w[THREADS];
    (void)state;
    for (size_t life = 0; life < sizeof lives / sizeof *lives; life++) {
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&w[i].thread, NULL, lives[life], &w[i]), 0);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(w[i].thread, NULL);
            assert_true(life != 1 || w[i].done > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states_in_threads),
        cmocka_unit_test(test_state_goes_from_thread_to_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

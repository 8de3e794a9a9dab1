/* SPDX-License-Identifier: MIT */
/*
 * core_init_spec.c - a loop that cannot be made: libuv refuses at each step, and nothing is
 * left behind. The program puts itself between the core and libuv.
 */
#include "core_help.h"

#include <dirent.h>
#include <dlfcn.h>

static const char *refused; /* the function that fails, or NULL */
static bool inside;         /* libuv calls these functions itself */
static int mutexes;

#define REFUSE(name) (refused && !inside && strcmp(refused, name) == 0)

int uv_loop_init(uv_loop_t *uv)
{
    union {
        void *found;
        int (*call)(uv_loop_t *);
    } real = {dlsym(RTLD_NEXT, "uv_loop_init")};
    if (REFUSE("uv_loop_init"))
        return UV_EMFILE;
    inside = true;
    int err = real.call(uv);
    inside = false;
    return err;
}

int uv_async_init(uv_loop_t *uv, uv_async_t *async, uv_async_cb cb)
{
    union {
        void *found;
        int (*call)(uv_loop_t *, uv_async_t *, uv_async_cb);
    } real = {dlsym(RTLD_NEXT, "uv_async_init")};
    return REFUSE("uv_async_init") ? UV_ENFILE : real.call(uv, async, cb);
}

int uv_mutex_init(uv_mutex_t *mutex)
{
    union {
        void *found;
        int (*call)(uv_mutex_t *);
    } real = {dlsym(RTLD_NEXT, "uv_mutex_init")};
    if (REFUSE("uv_mutex_init"))
        return UV_EAGAIN;
    mutexes++;
    return real.call(mutex);
}

void uv_mutex_destroy(uv_mutex_t *mutex)
{
    union {
        void *found;
        void (*call)(uv_mutex_t *);
    } real = {dlsym(RTLD_NEXT, "uv_mutex_destroy")};
    mutexes--;
    real.call(mutex);
}

static int open_descriptors(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int init(lun_loop *loop, uv_loop_t *uv, const char *function)
{
    refused = function;
    int err = lun_loop_init(loop, uv, &(lun_policy){0});
    refused = NULL;
    return err;
}

static void test_own(void **state)
{
    lun_loop loop;
    open_real(&loop); /* what libuv opens once for the process is open from now on */
    close_loop(&loop);
    int open = open_descriptors();
    mutexes = 0;
    assert_int_equal(init(&loop, NULL, "uv_loop_init"), UV_EMFILE);
    assert_int_equal(init(&loop, NULL, "uv_async_init"), UV_ENFILE);
    assert_int_equal(init(&loop, NULL, "uv_mutex_init"), UV_EAGAIN);
    assert_int_equal(open_descriptors(), open);
    assert_int_equal(mutexes, 0);
    open_real(&loop);
    assert_true(mutexes > 0);
    close_loop(&loop);
}

static void on_tick(uv_timer_t *t)
{
    ++*(int *)t->data;
}

/* A host's loop is as it was, and goes on. */
static void test_host(void **state)
{
    lun_loop loop;
    uv_loop_t uv;
    uv_timer_t tick;
    int ticks = 0;
    assert_int_equal(uv_loop_init(&uv), 0);
    uv_timer_init(&uv, &tick);
    tick.data = &ticks;
    uv_timer_start(&tick, on_tick, 1, 0);
    mutexes = 0;
    assert_int_equal(init(&loop, &uv, "uv_async_init"), UV_ENFILE);
    assert_int_equal(init(&loop, &uv, "uv_mutex_init"), UV_EAGAIN);
    assert_int_equal(mutexes, 0);
    assert_int_equal(ticks, 0); /* it has not run meanwhile */
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(ticks, 1);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

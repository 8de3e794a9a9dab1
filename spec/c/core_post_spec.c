/* SPDX-License-Identifier: MIT */
/*
 * core_post_spec.c - the world outside a loop: posts from other threads, wake-ups, I/O
 * beside busy tasks, a host's own uv loop, closing with things in flight.
 */
#include "core_help.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

static lun_loop loop;

static void on_guard(lun_timer *t, lun_loop *l)
{
    lun_fatal(__FILE__, __LINE__, "the loop did not stop in time");
}

/* Runs the real loop until it is stopped; a loop that hangs ends the program. */
static void run_guarded(void)
{
    lun_timer guard;
    lun_timer_init(&guard, on_guard);
    assert_int_equal(lun_timer_start(&loop, &guard, lun_loop_time(&loop) + 20000ull * MS),
                     0);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    lun_timer_stop(&loop, &guard);
}

/* ---- posts ---- */

typedef struct letter {
    lun_post post;
    int from, number;
} letter;

enum { THREADS = 4, LETTERS = 2000 };

static struct {
    int next[THREADS], count, expected;
    bool in_order, foreign;
    pthread_t home;
} got;

static void on_letter(lun_post *p, lun_loop *l)
{
    letter *t = lun_container(p, letter, post);
    if (t->number != got.next[t->from]++)
        got.in_order = false;
    if (!pthread_equal(pthread_self(), got.home))
        got.foreign = true;
    free(t); /* the memory is the poster's until here */
    if (++got.count == got.expected)
        lun_loop_stop(l);
}

typedef struct poster {
    pthread_t thread;
    int id;
    bool slowly;
    int sent;
} poster;

static void *post_all(void *ud)
{
    poster *p = ud;
    for (int i = 0; i < LETTERS; i++) {
        letter *t = malloc(sizeof *t);
        *t = (letter){.post.run = on_letter, .from = p->id, .number = i};
        if (!lun_loop_post(&loop, &t->post)) {
            free(t);
            break;
        }
        p->sent++;
        if (p->slowly && i % 100 == 0)
            usleep(100); /* so that the loop goes idle in between */
    }
    return NULL;
}

static void begin_posts(poster *p, int expected)
{
    memset(&got, 0, sizeof got);
    got.in_order = true;
    got.home = pthread_self();
    got.expected = expected;
    for (int i = 0; i < THREADS; i++) {
        p[i] = (poster){.id = i, .slowly = i & 1};
        assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
    }
}

static void end_posts(poster *p)
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(p[i].thread, NULL);
    assert_true(got.in_order);
    assert_false(got.foreign);
}

static void test_posts(void **state)
{
    poster p[THREADS];
    open_real(&loop);
    begin_posts(p, THREADS * LETTERS);
    run_guarded();
    end_posts(p);
    assert_int_equal(got.count, THREADS * LETTERS);
    close_loop(&loop);
}

static void body_for_ever(ctask *c)
{
    if (c->thrown)
        lun_task_finish(&c->t, LUN_CANCELLED);
    else
        lun_task_yield(&c->t);
}

/* A task that always gives way starves nobody. */
static void test_posts_beside_a_busy_task(void **state)
{
    poster p[THREADS];
    ctask busy;
    open_real(&loop);
    ctask_init(&busy, &loop, body_for_ever);
    begin_posts(p, THREADS * LETTERS);
    run_guarded();
    end_posts(p);
    lun_task_cancel(&busy.t);
    run_turn(&loop);
    assert_state(&busy, LUN_CANCELLED);
    close_loop(&loop);
}

/* Before a run, from the loop's own thread, and from within a post. */
static int replies;

static void on_reply(lun_post *p, lun_loop *l)
{
    if (++replies < 3)
        assert_true(lun_loop_post(l, p));
    else
        lun_loop_stop(l);
}

static void test_post_from_a_post(void **state)
{
    lun_post p = {.run = on_reply};
    open_real(&loop);
    replies = 0;
    assert_true(lun_loop_post(&loop, &p));
    run_guarded();
    assert_int_equal(replies, 3);
    close_loop(&loop);
}

/* What was posted before the end is run; what comes later is refused and stays the
 * caller's. */
static void test_post_and_close(void **state)
{
    lun_post p = {.run = on_reply}, late = {.run = on_reply};
    open_real(&loop);
    replies = 5;
    assert_true(lun_loop_post(&loop, &p));
    close_loop(&loop);
    assert_int_equal(replies, 6);
    assert_false(lun_loop_post(&loop, &late));
    assert_int_equal(replies, 6);
}

/* On the virtual clock nothing else is left to happen: what a post does still counts. */
static void on_stop_post(lun_post *p, lun_loop *l)
{
    lun_loop_stop(l);
}

static int heard;

static bool hear(lun_handler *h, lun_loop *l, lun_fault *f)
{
    heard++;
    return true;
}

static lun_fault trouble;

static void on_raise_post(lun_post *p, lun_loop *l)
{
    lun_fault_raise(l, &trouble);
}

static void test_post_on_the_virtual_clock(void **state)
{
    lun_post stop = {.run = on_stop_post}, raise = {.run = on_raise_post};
    lun_handler handler = {.handle = hear};
    open_virtual(&loop);
    assert_true(lun_loop_post(&loop, &stop));
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    lun_handler_push(&loop, &handler);
    heard = 0;
    trouble = (lun_fault){.kind = "odd"};
    assert_true(lun_loop_post(&loop, &raise));
    run_dry(&loop);
    assert_int_equal(heard, 1);
    lun_handler_drop(&handler);
    close_loop(&loop);
}

/* Posts that race with closing: each is run or refused, none is lost. */
static void test_posts_race_with_close(void **state)
{
    for (int round = 0; round < 20; round++) {
        poster p[THREADS];
        open_real(&loop);
        begin_posts(p, 200 * (round + 1) % 3000 + 1);
        run_guarded();
        close_loop(&loop);
        end_posts(p);
        int sent = 0;
        for (int i = 0; i < THREADS; i++)
            sent += p[i].sent;
        assert_int_equal(sent, got.count);
    }
}

/* ---- wake-ups ---- */

static int woken;

static void on_woken(lun_loop *l)
{
    woken++;
    lun_loop_stop(l);
}

static void test_wakeup(void **state)
{
    open_real(&loop);
    loop.woken = on_woken;
    woken = 0;
    lun_loop_wakeup(&loop);
    run_guarded();
    assert_int_equal(woken, 1);
    loop.woken = NULL;
    close_loop(&loop);
}

static void on_signal(int number)
{
    lun_loop_wakeup(&loop);
}

static void *send_signal(void *home)
{
    usleep(5000);
    pthread_kill(*(pthread_t *)home, SIGUSR1);
    return NULL;
}

/* In a signal handler, while the loop waits. */
static void test_wakeup_from_a_signal(void **state)
{
    struct sigaction act = {.sa_handler = on_signal}, before;
    pthread_t thread, home = pthread_self();
    open_real(&loop);
    loop.woken = on_woken;
    woken = 0;
    sigaction(SIGUSR1, &act, &before);
    pthread_create(&thread, NULL, send_signal, &home);
    run_guarded();
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(woken, 1);
    loop.woken = NULL;
    close_loop(&loop);
}

/* ---- I/O and timers beside busy tasks ---- */

static int answered;

static void on_readable(uv_poll_t *poll, int status, int events)
{
    char c;
    uv_os_fd_t fd;
    uv_fileno((uv_handle_t *)poll, &fd);
    assert_int_equal(read(fd, &c, 1), 1);
    answered++;
    lun_future_settle(poll->data, LUN_OK);
}

static void body_await_and_stop(ctask *c)
{
    if (c->pc == 0) {
        lun_task_wait(&c->t, c->aim, false);
        return;
    }
    lun_loop_stop(c->t.done.loop);
    ctask_return(c);
}

static void body_write(ctask *c)
{
    if (c->pc == 0)
        assert_int_equal(lun_task_sleep(&c->t, lun_loop_deadline(&loop, 0.003)), 0);
    else {
        assert_int_equal(write(*(int *)c->ud, "x", 1), 1); /* the timer was not starved */
        ctask_return(c);
    }
}

static void test_io_beside_a_busy_task(void **state)
{
    int p[2];
    uv_poll_t poll;
    lun_future f;
    ctask busy[3], reader, writer;
    open_real(&loop);
    assert_int_equal(pipe(p), 0);
    lun_future_init(&f, &loop, &lun_future_kind);
    uv_poll_init(loop.uv, &poll, p[0]);
    poll.data = &f;
    uv_poll_start(&poll, UV_READABLE, on_readable);
    for (int i = 0; i < 3; i++)
        ctask_init(&busy[i], &loop, body_for_ever);
    ctask_init(&reader, &loop, body_await_and_stop);
    reader.aim = &f;
    ctask_init(&writer, &loop, body_write);
    writer.ud = &p[1];
    run_guarded();
    assert_int_equal(answered, 1);
    for (int i = 0; i < 3; i++)
        lun_task_cancel(&busy[i].t);
    run_turn(&loop);
    uv_close((uv_handle_t *)&poll, NULL);
    close_loop(&loop);
    close(p[0]);
    close(p[1]);
}

/* With work at hand, I/O is looked at every 61 turns at least. */
static void test_polls_are_counted(void **state)
{
    ctask busy;
    open_virtual(&loop);
    ctask_init(&busy, &loop, body_yield);
    busy.n = 6200;
    run_dry(&loop);
    assert_true(loop.count.polls >= 100);
    assert_true(loop.count.polls <= 110); /* and not much oftener: a look is dear */
    close_loop(&loop);
}

/* Virtual time with a handle that is live: no jump can help, so it waits for real. */
static void on_handle_gone(lun_post *p, lun_loop *l)
{
    l->count.handles--;
}

/* The first look at I/O finds nothing; during the second one something comes. */
static int looks;

static void on_look(uv_prepare_t *prepare)
{
    if (++looks == 2)
        lun_loop_post(&loop, prepare->data);
}

static void test_virtual_clock_waits_for_a_handle(void **state)
{
    lun_post p = {.run = on_handle_gone};
    uv_prepare_t prepare;
    open_virtual(&loop);
    loop.count.handles = 1;
    looks = 0;
    uv_prepare_init(loop.uv, &prepare);
    uv_prepare_start(&prepare, on_look);
    prepare.data = &p;
    run_dry(&loop);
    assert_int_equal(loop.count.handles, 0);
    assert_true(looks >= 2);
    uv_close((uv_handle_t *)&prepare, NULL);
    close_loop(&loop);
}

/* ---- a host's own loop ---- */

static void test_host_loop(void **state)
{
    uv_loop_t uv;
    uv_idle_t mine;
    ctask c;
    assert_int_equal(uv_loop_init(&uv), 0);
    uv_idle_init(&uv, &mine); /* the host's own handle lives through it */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lun_loop_init(&loop, &uv, &(lun_policy){0}), 0);
        assert_ptr_equal(loop.uv, &uv);
        ctask_init(&c, &loop, body_await_and_stop);
        lun_future f;
        lun_future_init(&f, &loop, &lun_future_kind);
        c.aim = &f;
        run_turn(&loop);
        lun_future_settle(&f, LUN_OK);
        run_guarded();
        assert_state(&c, LUN_OK);
        close_loop(&loop);
    }
    uv_close((uv_handle_t *)&mine, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0); /* we have left nothing in it */
}

/* ---- several loops ---- */

static void body_sleep_a_little(ctask *c)
{
    if (c->pc < 20)
        assert_int_equal(lun_task_sleep(&c->t, lun_loop_deadline(c->t.done.loop, 1e-4)), 0);
    else {
        lun_loop_stop(c->t.done.loop);
        ctask_return(c);
    }
}

static void *run_alone(void *ud)
{
    lun_loop mine;
    ctask c;
    LUN_ASSERT(lun_loop_init(&mine, NULL, &(lun_policy){0}) == 0);
    ctask_init(&c, &mine, body_sleep_a_little);
    LUN_ASSERT(lun_loop_run(&mine) == LUN_RAN_STOPPED);
    LUN_ASSERT(c.t.done.state == LUN_OK && mine.count.tasks == 0);
    LUN_ASSERT(lun_loop_close(&mine) == 0);
    return NULL;
}

/* Loops in different threads share nothing. */
static void test_loops_in_threads(void **state)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, run_alone, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

/* ---- opening and closing ---- */

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (dir && readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Lowers the limit so that `n` more descriptors can be opened. */
static void allow_descriptors(struct rlimit limit, int n)
{
    int fd[16];
    limit.rlim_cur = 0;
    for (int i = 0; i <= n; i++)
        limit.rlim_cur = (rlim_t)(fd[i] = dup(STDIN_FILENO));
    for (int i = 0; i <= n; i++)
        close(fd[i]);
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* With too few descriptors it says so, and leaves none open but those that libuv itself
 * loses. */
static void test_no_descriptors(void **state)
{
    struct rlimit before;
    uv_loop_t uv;
    int err, n = 0;
    run_alone(NULL); /* what libuv opens once for the process is open now */
    getrlimit(RLIMIT_NOFILE, &before);
    do {
        int open = open_descriptors();
        allow_descriptors(before, n);
        int uv_err = uv_loop_init(&uv);
        setrlimit(RLIMIT_NOFILE, &before);
        if (uv_err == 0)
            uv_loop_close(&uv);
        int lost = open_descriptors() - open;
        allow_descriptors(before, n);
        err = lun_loop_init(&loop, NULL, &(lun_policy){0});
        setrlimit(RLIMIT_NOFILE, &before);
        assert_int_equal(err, uv_err);
        if (err == 0)
            close_loop(&loop);
        assert_int_equal(open_descriptors(), open + 2 * lost);
        n++;
    } while (err != 0);
    assert_true(n > 1);
}

static void test_open_close_many(void **state)
{
    run_alone(NULL);
    int open = open_descriptors();
    for (int i = 0; i < 200; i++) {
        open_real(&loop);
        close_loop(&loop);
    }
    assert_int_equal(open_descriptors(), open);
}

static int closed_handles;

static void on_closed(uv_handle_t *h)
{
    closed_handles++;
}

/* Handles that are closing when the loop closes get their callbacks. */
static void test_close_waits_for_handles(void **state)
{
    uv_timer_t t[3];
    open_real(&loop);
    closed_handles = 0;
    for (int i = 0; i < 3; i++) {
        uv_timer_init(loop.uv, &t[i]);
        uv_close((uv_handle_t *)&t[i], on_closed);
    }
    close_loop(&loop);
    assert_int_equal(closed_handles, 3);
}

/* ... and those that these callbacks close theirs. */
static void on_closed_close(uv_handle_t *h)
{
    closed_handles++;
    if (h->data)
        uv_close(h->data, on_closed_close);
}

static void test_close_waits_for_a_chain_of_handles(void **state)
{
    uv_timer_t t[3];
    open_real(&loop);
    closed_handles = 0;
    for (int i = 0; i < 3; i++) {
        uv_timer_init(loop.uv, &t[i]);
        t[i].data = i < 2 ? &t[i + 1] : NULL;
    }
    uv_close((uv_handle_t *)&t[0], on_closed_close);
    close_loop(&loop);
    assert_int_equal(closed_handles, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts),
        cmocka_unit_test(test_posts_beside_a_busy_task),
        cmocka_unit_test(test_post_from_a_post),
        cmocka_unit_test(test_post_and_close),
        cmocka_unit_test(test_post_on_the_virtual_clock),
        cmocka_unit_test(test_posts_race_with_close),
        cmocka_unit_test(test_wakeup),
        cmocka_unit_test(test_wakeup_from_a_signal),
        cmocka_unit_test(test_io_beside_a_busy_task),
        cmocka_unit_test(test_polls_are_counted),
        cmocka_unit_test(test_virtual_clock_waits_for_a_handle),
        cmocka_unit_test(test_host_loop),
        cmocka_unit_test(test_loops_in_threads),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_open_close_many),
        cmocka_unit_test(test_close_waits_for_handles),
        cmocka_unit_test(test_close_waits_for_a_chain_of_handles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

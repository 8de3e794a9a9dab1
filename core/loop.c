/* SPDX-License-Identifier: MIT */
/*
 * loop.c - turns: look at I/O and timers, drain a snapshot, deliver faults.
 */
#include "loop.h"

#include <math.h>
#include <string.h>

enum {
    TURNS_PER_POLL = 61,     /* with work at hand, I/O is looked at so often at least */
    POLL_INTERVAL = 1000000, /* ... or after so many nanoseconds */
    CLOCK_SKIP = 8,          /* short turns share one reading of the clock */
    LONG_TURN = 16,          /* jobs that are worth a reading of their own */
    NEAR = 20000,            /* a deadline so near, in ns, makes each turn read the clock */
    FAULTS_PER_TURN = 1000,  /* a handler that reports for ever does not starve tasks */
    NANOSECONDS_PER_MS = 1000000
};

uint64_t lun_loop_time(lun_loop *loop)
{
    if (!loop->virtual_clock)
        loop->now = uv_hrtime() + loop->skew;
    return loop->now;
}

uint64_t lun_loop_deadline(lun_loop *loop, double seconds)
{
    uint64_t now = lun_loop_time(loop);
    if (!(seconds > 0))
        return now;
    double ns = ceil(seconds * 1e9);
    return ns >= 9e18 || (uint64_t)ns > LUN_NEVER - now ? LUN_NEVER : now + (uint64_t)ns;
}

/* xorshift64*, https://doi.org/10.18637/jss.v102.i05 on the family; fast and replayable. */
uint64_t lun_loop_random(lun_loop *loop)
{
    uint64_t x = loop->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    loop->random = x;
    return x * 0x2545F4914F6CDD1Dull;
}

void lun_loop_set_order(lun_loop *loop, bool shuffle, uint64_t seed)
{
    loop->shuffle = shuffle;
    loop->seed = seed;
    /* The generator must not start at zero, and near seeds must not start alike. */
    loop->random = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
}

void lun_loop_set_clock(lun_loop *loop, enum lun_clock clock)
{
    uint64_t now = lun_loop_time(loop);
    loop->virtual_clock = clock != LUN_CLOCK_REAL;
    loop->held_clock = clock == LUN_CLOCK_HELD;
    loop->skew = now - uv_hrtime();
    loop->polled_at = now;
    /* It was set for another skew. */
    uv_timer_stop(&loop->alarm);
    loop->alarm_at = LUN_NEVER;
}

void lun_loop_set_time(lun_loop *loop, uint64_t now)
{
    LUN_ASSERT(loop->virtual_clock && now >= loop->now);
    loop->now = now;
}

void *lun_loop_alloc(lun_loop *loop, size_t size)
{
    void *p = loop->allocator.alloc(loop->allocator.ud, NULL, 0, size);
    if (p)
        loop->count.bytes += size;
    return p;
}

void lun_loop_free(lun_loop *loop, void *p, size_t size)
{
    if (!p)
        return;
    loop->count.bytes -= size;
    loop->allocator.alloc(loop->allocator.ud, p, size, 0);
}

static void on_alarm(uv_timer_t *alarm)
{
    lun_loop *loop = alarm->data;
    loop->alarm_at = LUN_NEVER;
    /* It may come before the poll that it is to end: libuv 1.44 runs timers first. */
    if (loop->running)
        uv_stop(alarm->loop);
}

/* Runs what other threads have posted, oldest first. */
static void on_async(uv_async_t *async)
{
    lun_loop *loop = async->data;
    uv_mutex_lock(&loop->mutex);
    lun_post *newest = loop->posts, *oldest = NULL;
    loop->posts = NULL;
    uv_mutex_unlock(&loop->mutex);
    while (newest) {
        lun_post *p = newest;
        newest = p->next;
        p->next = oldest;
        oldest = p;
    }
    while (oldest) {
        lun_post *p = oldest;
        oldest = p->next;
        p->run(p, loop);
    }
    if (loop->woken)
        loop->woken(loop);
}

bool lun_loop_post(lun_loop *loop, lun_post *p)
{
    uv_mutex_lock(&loop->mutex);
    bool open = !loop->closed;
    if (open) {
        p->next = loop->posts;
        loop->posts = p;
        /* Inside the lock, so that closing cannot take the handle away in between. */
        uv_async_send(&loop->async);
    }
    uv_mutex_unlock(&loop->mutex);
    return open;
}

void lun_loop_wakeup(lun_loop *loop)
{
    uv_async_send(&loop->async);
}

static int init_uv(lun_loop *loop, uv_loop_t *uv)
{
    int err = 0;
    loop->own = uv == NULL;
    loop->uv = uv ? uv : &loop->own_uv;
    if ((err = uv_mutex_init(&loop->mutex)) != 0)
        return err;
    if (loop->own && (err = uv_loop_init(loop->uv)) != 0)
        goto destroy_mutex;
    if ((err = uv_async_init(loop->uv, &loop->async, on_async)) != 0)
        goto close_loop;
    loop->async.data = loop;
    uv_timer_init(loop->uv, &loop->alarm);
    loop->alarm.data = loop;
    return 0;
close_loop:
    if (loop->own)
        uv_loop_close(loop->uv);
destroy_mutex:
    uv_mutex_destroy(&loop->mutex);
    return err;
}

int lun_loop_init(lun_loop *loop, uv_loop_t *uv, const lun_policy *policy)
{
    memset(loop, 0, sizeof *loop);
    loop->allocator = policy->allocator.alloc ? policy->allocator : lun_allocator_default;
    loop->virtual_clock = policy->virtual_clock;
    lun_loop_set_order(loop, policy->shuffle, policy->seed);
    loop->ready_end = &loop->ready;
    lun_list_init(&loop->faults);
    lun_list_init(&loop->handlers);
    loop->alarm_at = LUN_NEVER;
    loop->now = loop->virtual_clock ? 0 : uv_hrtime();
    return init_uv(loop, uv);
}

static void on_own_closed(uv_handle_t *handle)
{
    ((lun_loop *)handle->data)->own_handles--;
}

int lun_loop_close(lun_loop *loop)
{
    LUN_ASSERT(!loop->running);
    uv_mutex_lock(&loop->mutex);
    loop->closed = true;
    uv_mutex_unlock(&loop->mutex);
    on_async(&loop->async);
    loop->own_handles = 2;
    uv_close((uv_handle_t *)&loop->alarm, on_own_closed);
    uv_close((uv_handle_t *)&loop->async, on_own_closed);
    while (loop->own_handles > 0 || loop->count.requests > 0 ||
           (loop->own && uv_loop_alive(loop->uv)))
        uv_run(loop->uv, UV_RUN_ONCE);
    int err = loop->own ? uv_loop_close(loop->uv) : 0;
    lun_timers_fini(&loop->timers, &loop->allocator);
    lun_loop_free(loop, loop->shuffle_buf, loop->shuffle_room * sizeof *loop->shuffle_buf);
    loop->shuffle_buf = NULL;
    loop->ready = NULL;
    loop->ready_end = &loop->ready;
    /* The mutex stays, it holds nothing: a late post locks it to hear that the loop is closed. */
    return err;
}

void lun_loop_unqueue(lun_loop *loop, lun_job *job)
{
    for (lun_job **at = &loop->rest; *at; at = &(*at)->next) {
        if (*at == job) {
            *at = job->next;
            return;
        }
    }
    for (lun_job **at = &loop->ready; *at; at = &(*at)->next) {
        if (*at != job)
            continue;
        *at = job->next;
        loop->n_ready--;
        if (!*at)
            loop->ready_end = at;
        return;
    }
}

void lun_loop_stop(lun_loop *loop)
{
    loop->stopping = true;
}

void lun_loop_break(lun_loop *loop)
{
    loop->stopping = loop->breaking = true;
}

/* Sets or stops the one uv timer; uv counts whole milliseconds of its cached time. */
static void set_alarm(lun_loop *loop, uint64_t when)
{
    if (when == loop->alarm_at)
        return;
    loop->alarm_at = when;
    if (when == LUN_NEVER) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    uv_update_time(loop->uv);
    uint64_t due = (when - loop->skew + NANOSECONDS_PER_MS - 1) / NANOSECONDS_PER_MS,
             now = uv_now(loop->uv);
    uv_timer_start(&loop->alarm, on_alarm, due > now ? due - now : 0, 0);
}

static void poll(lun_loop *loop, uv_run_mode mode)
{
    loop->count.polls++;
    loop->turns_left = TURNS_PER_POLL;
    if (loop->polls)
        loop->polls(loop);
    loop->polling = true;
    uv_run(loop->uv, mode);
    loop->polling = false;
    if (!loop->virtual_clock)
        loop->polled_at = lun_loop_time(loop);
}

static void poll_now_and_then(lun_loop *loop)
{
    if (loop->turns_left-- == 0 || loop->now - loop->polled_at >= POLL_INTERVAL)
        poll(loop, UV_RUN_NOWAIT);
}

/* Nothing is ready: waits for I/O or the next deadline. False: nothing can ever happen. */
static bool wait_idle(lun_loop *loop)
{
    uint64_t next = lun_timers_next(&loop->timers), until = next;
    if (loop->idle && loop->idle(loop, &until))
        return true;
    if (!loop->virtual_clock) {
        if (until > lun_loop_time(loop)) {
            set_alarm(loop, until);
            poll(loop, UV_RUN_ONCE);
        } else {
            /* Timers that are due again and again are work at hand like any other. */
            poll_now_and_then(loop);
        }
        return true;
    }
    poll(loop, UV_RUN_NOWAIT);
    if (loop->ready || loop->stopping || !lun_list_alone(&loop->faults))
        return true;
    if (next <= loop->now)
        return true;
    if (loop->count.requests == 0 && next != LUN_NEVER && !loop->held_clock) {
        loop->now = next;
        return true;
    }
    if (loop->count.requests == 0 && loop->count.handles == 0)
        return loop->dry && loop->dry(loop);
    poll(loop, UV_RUN_ONCE);
    return true;
}

/* Between two turns with work at hand: I/O now and then, the clock as often as it pays. */
static void look_around(lun_loop *loop)
{
    uint64_t next = lun_timers_next(&loop->timers);
    bool near = next != LUN_NEVER && next < loop->now + NEAR;
    if (loop->virtual_clock) {
        if (loop->turns_left-- == 0)
            poll(loop, UV_RUN_NOWAIT);
        return;
    }
    if (near || loop->clock_skip-- == 0 || loop->last_turn >= LONG_TURN) {
        loop->clock_skip = CLOCK_SKIP;
        lun_loop_time(loop);
    }
    poll_now_and_then(loop);
}

/* Room for a snapshot of `n` jobs; false says no memory. */
static bool shuffle_reserve(lun_loop *loop, uint32_t n)
{
    if (n <= loop->shuffle_room)
        return true;
    size_t size = sizeof *loop->shuffle_buf;
    void *buf = loop->allocator.alloc(loop->allocator.ud, loop->shuffle_buf,
                                      loop->shuffle_room * size, n * size);
    if (!buf)
        return false;
    loop->shuffle_buf = buf;
    loop->shuffle_room = n;
    return true;
}

/* Puts the tasks of a snapshot into an order drawn from the seed; other jobs keep their places. */
static lun_job *shuffled(lun_loop *loop, lun_job *first, uint32_t n)
{
    if (n < 2 || !shuffle_reserve(loop, n))
        return first; /* without memory to be random with, first in, first out is an order, too */
    lun_job **jobs = loop->shuffle_buf;
    n = 0;
    for (lun_job *j = first; j; j = j->next)
        jobs[n++] = j;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t r = (uint32_t)(lun_loop_random(loop) % i);
        if (jobs[i - 1]->run != loop->task_step || jobs[r]->run != loop->task_step)
            continue;
        lun_job *swap = jobs[i - 1];
        jobs[i - 1] = jobs[r];
        jobs[r] = swap;
    }
    for (uint32_t i = 0; i < n; i++)
        jobs[i]->next = i + 1 < n ? jobs[i + 1] : NULL;
    return jobs[0];
}

/* What a broken-off turn left goes before what it added. */
static void put_back(lun_loop *loop)
{
    lun_job *first = loop->rest, *last = first;
    if (!first)
        return;
    loop->rest = NULL;
    for (loop->n_ready++; last->next; last = last->next)
        loop->n_ready++;
    last->next = loop->ready;
    if (!loop->ready)
        loop->ready_end = &last->next;
    loop->ready = first;
}

static void drain(lun_loop *loop)
{
    lun_job *job = loop->ready;
    loop->last_turn = loop->n_ready;
    loop->ready = NULL;
    loop->ready_end = &loop->ready;
    loop->n_ready = 0;
    loop->count.turns++;
    if (loop->shuffle)
        job = shuffled(loop, job, loop->last_turn);
    while (job && !loop->breaking) {
        /* Kept in the loop: a job that leaves by a long jump must not take the rest with it. */
        loop->rest = job->next;
        job->run(job);
        if (!lun_list_alone(&loop->faults) && !loop->breaking)
            lun_faults_deliver(loop, FAULTS_PER_TURN);
        job = loop->rest;
    }
    put_back(loop);
}

void lun_loop_left(lun_loop *loop)
{
    loop->stopping = loop->breaking = false;
    loop->running = false;
    put_back(loop);
}

enum lun_ran lun_loop_run(lun_loop *loop)
{
    enum lun_ran ran = LUN_RAN_STOPPED;
    LUN_ASSERT(!loop->closed);
    loop->running = true;
    put_back(loop);
    loop->breaking = false;
    for (;;) {
        if (loop->ready || loop->stopping || !lun_list_alone(&loop->faults)) {
            look_around(loop);
        } else if (!wait_idle(loop)) {
            ran = LUN_RAN_DRY;
            break;
        }
        if (lun_timers_next(&loop->timers) <= loop->now)
            lun_timers_fire(loop, &loop->timers, loop->now);
        drain(loop);
        if (!loop->breaking && !lun_list_alone(&loop->faults))
            lun_faults_deliver(loop, FAULTS_PER_TURN);
        if (loop->stopping)
            break;
    }
    lun_loop_left(loop);
    return ran;
}

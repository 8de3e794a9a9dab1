/* SPDX-License-Identifier: MIT */
/*
 * core_script.h - tasks told as a list of what they do, for the specs of requests to stop.
 */
#ifndef CORE_SCRIPT_H
#define CORE_SCRIPT_H

#include "core_help.h"

/* One loop and one pending future for all, so that a spec is its story and nothing else. */
static lun_loop loop;
static lun_future f;

static inline void begin(void)
{
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
}

static inline void end(void)
{
    run_dry(&loop);
    if (!lun_future_done(&f))
        assert_true(lun_list_alone(&f.waiters));
    close_loop(&loop);
}

/* A step each: what is done at step k, and whether a cancellation was thrown when it began.
 */
typedef enum act { END, WAIT, OWN, SLEEP, YIELD } act;

typedef struct script {
    ctask c;
    act acts[8];
    bool threw[8];
    lun_future *got[8];
} script;

static inline void body_script(ctask *c)
{
    script *s = lun_container(c, script, c);
    LUN_ASSERT(c->pc < 8);
    s->threw[c->pc] = c->thrown;
    s->got[c->pc] = c->on;
    switch (s->acts[c->pc]) {
    case WAIT:
    case OWN:
        lun_task_wait(&c->t, c->aim, s->acts[c->pc] == OWN);
        break;
    case SLEEP:
        assert_int_equal(lun_task_sleep(&c->t, loop.now + 10), 0);
        break;
    case YIELD:
        lun_task_yield(&c->t);
        break;
    case END:
        lun_task_finish(&c->t, c->thrown ? LUN_CANCELLED : LUN_OK);
    }
}

static inline void play(script *s, const act *acts, size_t size)
{
    memset(s, 0, sizeof *s);
    ctask_init(&s->c, &loop, body_script);
    s->c.aim = &f;
    LUN_ASSERT(size <= sizeof s->acts);
    memcpy(s->acts, acts, size);
}

#define PLAY(s, ...) play(s, (const act[]){__VA_ARGS__}, sizeof((const act[]){__VA_ARGS__}))

static inline bool cancel(script *s)
{
    return lun_task_cancel(&s->c.t);
}

#endif

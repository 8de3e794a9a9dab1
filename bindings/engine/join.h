/* SPDX-License-Identifier: MIT */
/*
 * join.h - what join.c (gather, wait) and race.c (as_completed, map, race) share: a join of the
 * core with the list of its children, its deadline, and how it is waited for.
 */
#ifndef LUNL_JOIN_H
#define LUNL_JOIN_H

#include "../lunl.h"

/*
 * The join of a combinator, with the deadline of the whole. User value 1 of the userdata is the list
 * of the children, which therefore outlive the arms.
 */
typedef struct lunl_join {
    const lunl_type *type; /* first word */
    lun_join *join;        /* owned; NULL once closed */
    lun_loop *loop;        /* borrowed; the children's metatables keep it */
    lun_timer timer;       /* idle if there is no deadline */
    uint32_t in_time;      /* once expired: the number of the last completion before that */
    bool expired;
    bool busy;  /* iterator: a task is suspended in it */
    bool ended; /* iterator: that task is to close it */
} lunl_join;

extern const lunl_type lunl_join_type; /* of joins that no script sees */

/* The length of the list at `arg`; TypeError if it is no table. */
uint32_t lunl_check_list(lua_State *L, int arg);
/* Field `timeout` of the options table or nil at `arg`: seconds, or infinity. */
double lunl_opt_timeout(lua_State *L, int arg);
/* Pushes nil, in the place of the list of children, and a join with room for `n` of them. */
lunl_join *lunl_join_new(lua_State *L, lunl_loop *loop, const lunl_type *type, uint32_t n,
                         uint32_t need, uint8_t rule);
/* The table on top (popped) becomes the list at `children`, below the join. */
void lunl_join_children(lua_State *L, int children);
/*
 * Pushes the list of children and the join for the `n` awaitables of the list at `arg`; checks
 * them all before it makes a task of any.
 */
lunl_join *lunl_join_open(lua_State *L, lunl_loop *loop, const lunl_type *type, int arg,
                          uint32_t n, uint32_t need, uint8_t rule);
/* Puts those that had ended before into the order in which they ended. */
void lunl_join_sort(lua_State *L, lunl_join *g);
/* The join is over, though nothing has ended, in `seconds` from now; infinity: never. */
void lunl_join_deadline(lua_State *L, lunl_join *g, double seconds);
/* RuntimeError if a child waits for `t`, which is about to wait for all of them. */
void lunl_join_refuse_cycle(lua_State *L, lunl_join *g, lun_task *t);
/* Suspends `t` until the join is met, which it is not yet. */
int lunl_join_wait(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g, lua_KContext ctx,
                   lua_KFunction k);
/* In the continuation: the task; throws the CancelledError that the join has passed on. */
lun_task *lunl_join_resumed(lua_State *L, lunl_state *S, lunl_join *g);
/* Cancels the children that are left; the join now waits for all of them. */
void lunl_join_break(lua_State *L, lunl_state *S, lunl_join *g);
/*
 * The first results of all children, in order: the list of children at `children` becomes the
 * list of results, pushed. If a child stopped the join, its error is thrown, unless `errors`:
 * then errors are results, and a table of them alone is pushed as well. How many were pushed.
 */
int lunl_join_results(lua_State *L, lunl_join *g, int children, bool errors);
/* Drops the arms and the timer; harmless if done before. */
void lunl_join_close(lunl_join *g);

#endif

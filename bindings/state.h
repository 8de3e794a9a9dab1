/* SPDX-License-Identifier: MIT */
/*
 * state.h - what state.c, value.c, await.c and the engine's own rooms share and nobody else needs.
 */
#ifndef LUNL_STATE_H
#define LUNL_STATE_H

#include "lunl.h"

/* Finished coroutines that are kept for the next tasks. */
#if defined(LUN_CHAOS)
enum { LUNL_POOL = 1 };
#else
enum { LUNL_POOL = 1024 };
#endif

/* The record of this Lua state; made if there is none. */
lunl_state *lunl_make_state(lua_State *L);
lunl_state *lunl_get_state(lua_State *L);

/* Takes the hook off L; in the chaos build the one that it began with comes back: chaos.c. */
void lunl_reset_hook(lua_State *L);

/* A loop of this state runs on this thread from now on; what did before. */
lunl_state *lunl_make_hot(lunl_state *S);

/*
 * Holding in parts, for hot paths: the slot that is next, its taking after the anchor was set,
 * its freeing after the anchor was cleared. Nothing may be held or released in between.
 */
uint32_t lunl_next_slot(lua_State *L, lunl_state *S);

static inline void lunl_take_slot(lunl_state *S, uint32_t slot, lunl_task *task)
{
    if (slot == S->free_slot)
        S->free_slot = (uint32_t)(S->slots[slot].task >> 1);
    else
        S->n_slots = slot;
    S->slots[slot].task = (uintptr_t)task;
    S->n_held++;
}

static inline void lunl_free_slot(lunl_state *S, uint32_t slot)
{
    S->slots[slot].task = (uintptr_t)S->free_slot << 1 | 1;
    S->free_slot = slot;
    S->n_held--;
}

/* lunl_hold of the value at `idx`, from a function of ours. */
static inline uint32_t lunl_hold_at(lua_State *L, lunl_state *S, int idx, lunl_task *task)
{
    uint32_t slot = lunl_next_slot(L, S);
    lua_pushvalue(L, idx);
    lua_rawseti(L, lua_upvalueindex(2), slot);
    lunl_take_slot(S, slot, task);
    return slot;
}

/* lunl_release from a function of ours. */
static inline void lunl_release_fast(lua_State *L, lunl_state *S, uint32_t slot)
{
    lua_pushboolean(L, 0);
    lua_rawseti(L, lua_upvalueindex(2), slot);
    lunl_free_slot(S, slot);
}

/* Stores the error on top (popped) and its failure record as what `f`, pending, ended with. */
enum lun_state lunl_store_error(lua_State *L, int idx, lun_future *f);
/* The same for a caller that knows whether it is a CancelledError. */
enum lun_state lunl_store_failure(lua_State *L, int idx, lun_future *f, bool cancelled);

/*
 * Makes the failure record of the future at `idx` with the trace of `L` from `level` on; `object`:
 * the error at `error` is an error object. */
void lunl_record_failure(lua_State *L, int idx, lun_future *f, int error, bool object,
                         int level);

/* The KeyboardInterrupt at `error` is to leave the run call, as soon as the step has ended. */
void lunl_note_interrupt(lua_State *L, lunl_state *S, lun_loop *loop, int error);

/* Turns lost failures into reports now. */
void lunl_flush_lost(lua_State *L, lunl_state *S, lunl_loop *loop);

/* Lets the record go that was last delivered, which would keep its future alive. */
void lunl_forget_origin(lua_State *L, lunl_state *S);

/*
 * Pushes the value that stands for the `n` values from `first` on; the bits of lun_future.guest
 * that say how. It may allocate, so finalisers may run: look at the future again afterwards.
 */
uint16_t lunl_pack(lua_State *L, int first, int n);

/* What user value 2 of a future is, apart from its failure record: get (pushes) and set (pops). */
void lunl_push_second(lua_State *L, int idx, lun_future *f);
void lunl_set_second(lua_State *L, int idx, lun_future *f);

/* The frames of L1 from `level` on as text lines into `buf`; how much was written. */
size_t lunl_trace_text(lua_State *L1, int level, char *buf, size_t size);
/* The same for a task's coroutine, whose outermost level is the body: without asking. */
size_t lunl_trace_task(lua_State *L1, int level, char *buf, size_t size);

/* Pushes where the task at `idx` was made (debug), or nil. */
void lunl_push_source(lua_State *L, int idx, lunl_task *t);

/* Opens the room of failure records. */
void lunl_open_value(lua_State *L);

/* Pushes tostring of the future at `idx`, and for that the parts of a task: name, fn, wait_for. */
void lunl_push_future_text(lua_State *L, int idx);
void lunl_push_task_parts(lua_State *L, int idx, lunl_task *t);
extern const luaL_Reg lunl_task_methods[];

/* Task parts shared by task.c and taskface.c. */

/* What the table of notes of a task holds (LUNL_NOTES): its function, its name, its coroutine if
 * somebody has it, and where it was made (debug). */
enum { LUNL_NOTE_FN = 1, LUNL_NOTE_NAME, LUNL_NOTE_CORO, LUNL_NOTE_SOURCE };

void lunl_open_body(lua_State *L);
int lunl_create_task(lua_State *L);
bool lunl_bind_coroutine(lua_State *L, lunl_state *S, lunl_task *t);
uint16_t lunl_note_source(lua_State *L, int idx);
/* A yield of the stock table with n values on top: -1 suspended, else go on with so many. */
int lunl_foreign_yield(lunl_state *S, lunl_task *t, int n);
/* The task goes on behind such a yield: how many values it gets. */
int lunl_foreign_resume(lunl_state *S, lunl_task *t);
/* lunl_push_cancelled and lunl_push_error for a caller that is no function of ours. */
void lunl_push_cancelled_of(lua_State *L, lunl_state *S, lunl_task *t);
void lunl_push_error_of(lua_State *L, lunl_state *S, int idx, lun_future *f);
/*
 * `t` is about to get the outcome of the future at `idx`. If that was cancelled through `t`, all
 * who look at it see the message of t's request.
 */
void lunl_share_message(lua_State *L, lunl_state *S, lunl_task *t, int idx, lun_future *f);
/* Replaces the message on top, or nil, by a CancelledError with it. */
void lunl_make_cancelled(lua_State *L);
/* The unfinished task that a slot holds, or NULL. */
static inline lunl_task *lunl_slot_task(const lunl_state *S, uint32_t slot)
{
    uintptr_t p = S->slots[slot].task;
    if (p == 0 || (p & 3) || lun_future_done(&((lunl_task *)p)->t.done))
        return NULL;
    return (lunl_task *)p;
}
/* The core's hooks. */
void lunl_asked(lun_loop *loop, lun_task *t);
void lunl_asking(lun_loop *loop, lun_task *t);

/* The step function of Lua tasks, and whether a task is one. */
void lunl_step(lun_job *job);
static inline bool lunl_is_lua_task(const lun_task *t)
{
    return t->job.run == lunl_step;
}

/* Closes an unfinished task by force: its closers run but cannot await. Reported by the caller. */
void lunl_task_destroy(lua_State *L, lunl_state *S, lunl_task *t);

/* A task in the queue of a closing loop: if it has ended, its slot goes. */
void lunl_let_go_queued(lua_State *L, lunl_state *S, lunl_task *t);

/*
 * Somebody gets the coroutine of the unfinished task at `idx` and might close it: what it waits
 * for is kept without it. Later waits see LUNL_KEEP_THREAD and do that by themselves.
 */
void lunl_keep_suspended(lua_State *L, lunl_state *S, int idx, lunl_task *t);
/*
 * The task at `idx` runs or is about to, and somebody has its coroutine: its user value 1 becomes
 * room for what it will wait for, so that waiting needs no memory for that.
 */
void lunl_make_frame(lua_State *L, int idx);

/* Drops the coroutines of the pool. */
void lunl_trim_pool(lua_State *L, lunl_state *S, uint32_t keep);

/* The unfinished tasks of `loop` as a C array of `*n`, oldest first, in a userdata on the stack. */
lunl_task **lunl_list_tasks(lua_State *L, lunl_state *S, lunl_loop *loop, uint32_t *n);

/* lua_resetthread under its names. */
int lunl_reset_thread(lua_State *co, lua_State *from);

/*
 * Runs the loop object at `idx` protected, until it stops; `ran` gets what it ran into. LUA_OK,
 * or another status with an error that left the base level on the stack. RuntimeError if a loop
 * runs in this state.
 */
int lunl_drive(lua_State *L, lunl_state *S, int idx, enum lun_ran *ran);
/* Calls the closure in registry slot `fn` with `ud` as the running loop; lua_pcall's status. */
int lunl_at_base(lua_State *L, lunl_state *S, int idx, int fn, void *ud);
/* lunl_check_loop for one that is to run: RuntimeError, too, for one that is just being closed. */
lunl_loop *lunl_check_runnable(lua_State *L, int arg);
/* RuntimeError if a loop runs. */
void lunl_check_idle(lua_State *L, lunl_state *S);
/* Runs it until the awaitable at `idx` is done; its results, or throws. */
int lunl_run_until(lua_State *L, lunl_state *S, int loop, int idx);
/* Throws the KeyboardInterrupt that left the run call, if there is one. */
void lunl_throw_interrupt(lua_State *L, lunl_state *S);
/* Throws what is to be said of a virtual clock with nothing left to wait for. */
_Noreturn void lunl_throw_dry(lua_State *L, lunl_loop *loop);
/* loop:close(): unfinished tasks are closed by force and reported. */
void lunl_close_loop(lua_State *L, lunl_state *S, int idx);
/* Seconds of loop:time() as a deadline. */
uint64_t lunl_deadline_at(double when);

/*
 * The loop's own metatables for its futures and tasks, and while one of them is referred to from
 * the registry: `keep` (the loop object is at `idx`) before anything is made in the loop; `let`
 * after a run, so that a loop in which nothing is left can be collected.
 */
void lunl_make_metatables(lua_State *L, lunl_loop *loop, int idx);
void lunl_loop_keep(lua_State *L, lunl_loop *loop, int idx);
void lunl_loop_let(lua_State *L, lunl_loop *loop);

/* New loop object from the options table at `opts` (0: none) on the stack. */
lunl_loop *lunl_new_loop(lua_State *L, int opts);

/* Adds a callback `cb` at absolute index to the future at `idx`; pushes the Handle. */
void lunl_add_callback(lua_State *L, lunl_loop *loop, int idx, lun_future *f, int cb);
int lunl_remove_callbacks(lua_State *L, lun_future *f, int cb);
/* Debug: says on stderr that the task or Handle at `idx` ran longer than it should have. */
void lunl_report_slow(lua_State *L, lunl_loop *loop, uint64_t began, int idx);
/* The loop closes: lets all its Handles go, and ended tasks that are still queued. */
void lunl_release_callbacks(lua_State *L, lunl_loop *loop);
void lunl_open_handle(lua_State *L);
/* Sets the fields handle, future and task of the report at `context` from the Handle at `idx`. */
void lunl_handle_context(lua_State *L, int idx, int context);
extern const luaL_Reg lunl_handle_methods[];

/*
 * engine/probe.c. An idle loop: true if somebody waits for just that. A task has ended with values
 * while a request was delivered to it. The error to be thrown at its resumption, pushed. The end.
 */
bool lunl_probe_idle(lunl_loop *loop);
/* Appends the Handles that have not run to the list on top; n: rows so far. The new count. */
lua_Integer lunl_list_callbacks(lua_State *L, lunl_loop *loop, lua_Integer n);
/* Pushes where the Handle at `idx` was made, or nil for anything else. */
void lunl_push_handle_source(lua_State *L, int idx);
void lunl_probe_swallowed(lunl_loop *loop, const lunl_task *t);
void lunl_probe_push_error(lua_State *L, lunl_loop *loop);
void lunl_probe_close(lua_State *L, lunl_loop *loop);
/* engine/alive.c: the functions of lunation.probe that only look. */
extern const luaL_Reg lunl_alive_functions[];

/*
 * interrupt.c, for signal handlers that throw in running code. Sets `hook` on L, to be called at
 * the next instruction; what was there goes into `before`, for lunl_uncover in the hook.
 */
struct lunl_hook {
    lua_Hook hook;
    int mask, count;
};
void lunl_cover(lua_State *L, lua_Hook hook, struct lunl_hook *before);
static inline void lunl_uncover(lua_State *L, const struct lunl_hook *before)
{
    lua_sethook(L, before->hook, before->mask, before->count);
}
bool lunl_on_main_thread(void);

/*
 * watchdog.c: `due` is called after so many real seconds, from the base of a poll; if Lua is busy
 * for another second, a TimeoutError is thrown in what runs. One at a time; `off` is harmless.
 */
void lunl_watchdog_on(lua_State *L, lunl_loop *loop, double seconds,
                      void (*due)(lunl_loop *loop));
void lunl_watchdog_off(lunl_loop *loop);

/* Closes the loop: nothing of it runs any more. The caller has ended all tasks. */
void lunl_loop_shut(lua_State *L, lunl_loop *loop);

#endif

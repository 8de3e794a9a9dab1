/* SPDX-License-Identifier: MIT */
/*
 * lunl.h - the toolkit that every binding file includes. Lua enters the house here, once.
 *
 * Laws of the border:
 *  1. Every C function that Lua can call is a closure with two upvalues: the state record and
 *     the table of held objects (lunl_register does it). lunl_S(L) is the first.
 *  2. The first word of every userdata of ours is the address of a static (its lun_kind or its
 *     lunl_type), so a check is a comparison and foreign userdata cannot pass.
 *  3. libuv's callbacks and the core's hooks never touch Lua: they store C facts and settle.
 *     Values are made in the coroutine that receives them, or at the base level of a drain.
 *  4. All waiting goes through lunl_suspend; all resuming through the step in task.c.
 *  5. References run from the waiter to what it waits for. What must live by itself (unfinished
 *     tasks, queued callbacks) is held: lunl_hold.
 *  6. The outcome of a future is its user value 1, and nothing else keeps it.
 *  7. State is finished before anything that may allocate: an allocation runs finalisers, and
 *     those may call any function of ours.
 */
#ifndef LUNL_H
#define LUNL_H

#include "../core/lunation.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdlib.h>

#if LUA_VERSION_NUM < 504
#error "Lunation needs Lua 5.4.3 or newer"
#endif

#ifndef LUN_STACK_RESERVE
#define LUN_STACK_RESERVE 128
#endif

typedef struct lunl_state lunl_state;
typedef struct lunl_loop lunl_loop;
typedef struct lunl_task lunl_task;

/* ---- types and checks ------------------------------------------------------------------- */

/* What a userdata that is no future is; its address is the first word of the userdata. */
typedef struct lunl_type {
    const char *name; /* as the user knows it: "Lock" */
} lunl_type;

/* The userdata at `idx` if its first word is `tag`, else NULL. */
static inline void *lunl_test(lua_State *L, int idx, const void *tag)
{
    /* The length is 0 for light userdata, whose pointer must not be followed. */
    void *p = lua_touserdata(L, idx);
    return p && lua_rawlen(L, idx) >= sizeof(void *) && *(const void **)p == tag ? p : NULL;
}

/* The same, or TypeError naming function and argument. */
void *lunl_check(lua_State *L, int idx, const lunl_type *type);

/*
 * New userdata of `size` zeroed bytes with `nuv` user values, `type` as its first word and the
 * metatable registered under `type` (lunl_newtype). On the stack; raises if there is no memory.
 */
void *lunl_new(lua_State *L, const lunl_type *type, size_t size, int nuv);

/*
 * Makes and registers the metatable of a type, and leaves it on the stack: __name, __index = a
 * table of `methods`, the `meta` methods (may be NULL), and a __metatable that hides it.
 */
void lunl_newtype(lua_State *L, const lunl_type *type, const luaL_Reg *methods,
                  const luaL_Reg *meta);

/* Sets functions into the table on top, each with the two upvalues of law 1. */
void lunl_register(lua_State *L, const luaL_Reg *functions);

/* The record of the state whose loop runs on this thread, or one in which nothing runs. */
extern _Thread_local lunl_state *lunl_hot __attribute__((tls_model("initial-exec")));

struct lunl_running {
    lua_State *running; /* the first field of lunl_state */
};

static inline lunl_state *lunl_S(lua_State *L)
{
    /* In a task this is known without asking Lua. */
    lunl_state *S = lunl_hot;
    if (((struct lunl_running *)S)->running == L)
        return S;
    return (lunl_state *)lua_touserdata(L, lua_upvalueindex(1));
}

/* Bad input: TypeError "bad argument #1 to 'sleep' (number expected, got nil)". */
_Noreturn void lunl_type_error(lua_State *L, int arg, const char *expected);
/* The same with a text of its own, and any class. */
_Noreturn void lunl_arg_error(lua_State *L, int arg, int cls, const char *fmt, ...);

/* TypeError for what is no number, or NaN. */
_Noreturn void lunl_bad_number(lua_State *L, int arg);

/* A number that is one (no string), not NaN; TypeError. */
static inline double lunl_check_number(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        double x = lua_tonumber(L, arg);
        if (x == x)
            return x;
    }
    lunl_bad_number(L, arg);
}
/* An integer in [least, most]: TypeError if it is none, ValueError out of range. */
lua_Integer lunl_check_integer(lua_State *L, int arg, lua_Integer least, lua_Integer most);
/* Seconds: a number; nil or none gives `none`. */
double lunl_opt_number(lua_State *L, int arg, double none);
const char *lunl_check_string(lua_State *L, int arg, size_t *len);
/* A function or a value with __call. */
void lunl_check_callable(lua_State *L, int arg);
bool lunl_callable(lua_State *L, int idx);
/* A table (an options table may be nil: then false). */
bool lunl_opt_table(lua_State *L, int arg);
/*
 * Field `name` of the options table at `arg` onto the stack, checked to be nil or of Lua type
 * `type` (LUA_TNONE: any); else TypeError naming argument and field. Its Lua type.
 */
int lunl_option(lua_State *L, int arg, const char *name, int type);

/* ---- errors ----------------------------------------------------------------------------- */

#define LUNL_CLASSES(X)                                                                    \
    X(BASE_ERROR, "BaseError", NONE)                                                       \
    X(CANCELLED_ERROR, "CancelledError", BASE_ERROR)                                       \
    X(KEYBOARD_INTERRUPT, "KeyboardInterrupt", BASE_ERROR)                                 \
    X(ERROR, "Error", BASE_ERROR)                                                          \
    X(TYPE_ERROR, "TypeError", ERROR)                                                      \
    X(VALUE_ERROR, "ValueError", ERROR)                                                    \
    X(RUNTIME_ERROR, "RuntimeError", ERROR)                                                \
    X(INVALID_STATE_ERROR, "InvalidStateError", ERROR)                                     \
    X(TIMEOUT_ERROR, "TimeoutError", ERROR)                                                \
    X(QUEUE_EMPTY, "QueueEmpty", ERROR)                                                    \
    X(QUEUE_FULL, "QueueFull", ERROR)                                                      \
    X(QUEUE_SHUT_DOWN, "QueueShutDown", ERROR)                                             \
    X(BROKEN_BARRIER_ERROR, "BrokenBarrierError", ERROR)                                   \
    X(INCOMPLETE_READ_ERROR, "IncompleteReadError", ERROR)                                 \
    X(LIMIT_OVERRUN_ERROR, "LimitOverrunError", ERROR)                                     \
    X(OS_ERROR, "OSError", ERROR)                                                          \
    X(SSL_ERROR, "SSLError", OS_ERROR)                                                     \
    X(HTTP_ERROR, "HTTPError", ERROR)                                                      \
    X(EXCEPTION_GROUP, "ExceptionGroup", ERROR)

enum lunl_class {
#define X(id, name, parent) LUNL_##id,
    LUNL_CLASSES(X)
#undef X
        LUNL_CLASS_COUNT
};

/* Error objects are tables whose metatable is their class; error.c. No S is needed for these. */

/* Pushes a new error object of a built-in class with that message (lua_pushfstring's formats). */
void lunl_error_new(lua_State *L, enum lunl_class cls, const char *fmt, ...);
/* Throws one. */
_Noreturn void lunl_throw(lua_State *L, enum lunl_class cls, const char *fmt, ...);
/*
 * Throws an OSError "syscall object: CODE" with code, errno and syscall set; `object` may be
 * NULL. `err` is libuv's negative code. UV_ENOMEM becomes Lua's own "not enough memory".
 */
_Noreturn void lunl_throw_uv(lua_State *L, int err, const char *syscall,
                             const char *object);
/* Pushes that OSError; for errors that are reported or decorated first. */
void lunl_error_uv(lua_State *L, int err, const char *syscall, const char *object);
/* Is the value an error object of that class, or of one derived from it? Never raises. */
bool lunl_error_is(lua_State *L, int idx, enum lunl_class cls);
/* All built-in classes that it belongs to, bit (1 << id) for each; 0 for what is no error object. */
lua_Integer lunl_error_bits(lua_State *L, int idx);
/* Sets field `name` (cause, context, ...) of the error object at `idx` to the value on top; pops. */
void lunl_error_set(lua_State *L, int idx, const char *name);
/* Pushes an ExceptionGroup; the list of errors is the table on top, which it replaces. */
void lunl_error_group(lua_State *L, const char *message);
/* Pushes what tostring would, or a stand-in if __tostring throws; never raises but for memory. */
const char *lunl_text(lua_State *L, int idx, size_t *len);

/* ---- the state record ------------------------------------------------------------------- */

struct lunl_slot {
    /* A held task, a coroutine of the pool + 2, 0, or the next free slot * 2 + 1. */
    uintptr_t task;
};

struct lunl_state {
    lua_State *running; /* first: where Lua of the task runs: its coroutine, or one in it */
    lua_State *main;    /* the only lua_State kept for long */
    lunl_loop *loop;    /* that runs now, or NULL */
    lua_State *L;       /* on which it runs */
    lunl_task *task;    /* whose step runs now, or NULL (callbacks) */
    bool outer_yieldable; /* every level outside of `running`, up to the task, can yield */
    uint32_t streak;      /* awaits in a row that did not suspend */
    struct lunl_slot *slots;
    uint32_t n_slots, room_slots, free_slot, n_held;
    int anchors;         /* registry reference: slot -> held object */
    int messages;        /* registry reference: slot -> cancel message of a task */
    lua_State *cancel_L; /* where the message of the cancel in progress lies */
    int cancel_msg;      /* its index there, 0 for none */
    uint32_t *pool;      /* the slots of finished coroutines, owned */
    uint32_t n_pool;
    uint64_t tasks_made; /* for Task-N */
    uint32_t owed; /* failed futures that nobody has looked at and that are not reported */
    bool ran;      /* Lua has run since the last collection for those */
    uint64_t collect_after; /* real nanoseconds: rationing of such collections */
    uint64_t trim_after; /* nanoseconds of a loop's clock: rationing of trims of the pool */
    volatile int interrupts;     /* SIGINTs and their like that came under this run */
    volatile int interrupted_by; /* number of the first of these signals */
    lun_task *main_task;         /* whom the first of them cancels, or NULL */
    bool interrupted;            /* a KeyboardInterrupt is leaving the run call */
    int interrupt;               /* registry reference: that error, or LUA_NOREF */
    int body, msgh; /* registry references: the closures at the bottom of every coroutine */
    int fail;       /* registry reference: ends a task at the base level */
    int drive, deliver;             /* registry references: what runs at the base level */
    int run_until, teardown, close; /* registry references: parts of run, see run.c */
    int message_index;              /* on L: room for a message that a task hands on */
    int origin;         /* registry slot: the failure record last delivered by an await */
    const void *thrown; /* what a task's message handler saw last, to be compared only */
    lua_Integer thrown_bits;  /* its lunl_error_bits */
    uint64_t origin_task;     /* number of the task that it was delivered to; 0: to none */
    const void *origin_error; /* its error, kept alive by it; NULL if there is none */
    int lost; /* registry reference: list of failure records to be reported */
    uint32_t n_lost, room_messages;
    uint64_t failures;        /* numbers failure records */
    lun_fault lost_fault;     /* queued while `lost` has members */
    lun_handler lost_handler; /* ... and turns them into reports */
    uint8_t closing, nested;  /* coroutine.close, resume in progress, one in another */
    bool hurry;               /* a second SIGINT came: the teardown has no grace */
    bool dies;                /* ... and the process may die of it: lunl_interrupt_kills */
    bool exiting, exit_close; /* os.exit was called inside a loop: interrupt.c */
    int exit_code;
    struct {
        /* Locks and permits taken and given back; closables of ours opened and closed. */
        uint64_t acquired, released, opened, closed;
    } events;
    lunl_task *exit_task; /* whose call that was; borrowed; NULL: none, or closed */
};

/* A Lua task: user values 1: arguments before the start, then the outcome; 2: see task.c. */
struct lunl_task {
    lun_task t;            /* first */
    uint64_t number : 40;  /* order of creation in this Lua state */
    uint64_t co_slot : 24; /* what holds its coroutine, 0 before the first step; once it
                              is done yet still queued: its own, to be released then */
};

/* The coroutine of a task that is not done, or NULL before its first step. */
static inline lua_State *lunl_task_co(const lunl_state *S, const lunl_task *t)
{
    return (lua_State *)(S->slots[t->co_slot].task & ~(uintptr_t)3);
}

/* Bits of lun_future.guest. */
enum lunl_guest {
    LUNL_NO_VALUES = 1, /* outcome: no value at all */
    LUNL_PACKED = 2,    /* user value 1 is a table with n: several values, or arguments */
    LUNL_MESSAGE = 4, /* pending task: messages[slot] is the message of its last request */
    LUNL_NOTES = 8,   /* task: user value 2 is a table, see task.c */
    LUNL_KEEP_THREAD = 16, /* somebody has the coroutine: not to be used again */
    LUNL_ONE_ARG = 32,     /* user value 1 is the only argument */
    LUNL_FOREIGN = 64,     /* suspended by the stock coroutine.yield */
    LUNL_OWED = 128,       /* counted in S->owed */
    LUNL_TRACED = 256,     /* failed: user value 2 is its failure record, see value.c */
    LUNL_MADE_ERROR = 512, /* cancelled: user value 1 is the CancelledError already */
    LUNL_TIMED_OUT = 1024, /* task: asked to stop by a timeout of its own, see timeout.c */
    LUNL_INJECTED = 2048,  /* task: the probe's error is to be thrown at its resumption */
    LUNL_AGAIN = 4096,     /* task waiting in a queue: it was woken in vain, see queue.c */
};

struct lunl_loop {
    const lunl_type *type; /* first word: a loop object is this userdata */
    lun_loop loop;
    lunl_state *S;
    lun_handler handler;    /* calls the Lua handler */
    lun_link callbacks;     /* the Handles that have not run, see handle.c */
    int mt_future, mt_task; /* registry references: metatables that keep this alive */
    bool closed, debug, in_handler;
    bool sites; /* tasks, Handles and handles remember where they were made, as in debug */
    /* It is being closed: closers and finalisers that run then must not do it again. */
    bool ending;
    double slow_callback_duration;
    double shutdown_grace;
    uint64_t
        interrupting; /* signals that interrupt a run as SIGINT does: bit (1 << (number - 1)) */
    void *signals; /* io/signal.c's own */
    void *io;      /* io/handle.c's own: struct lunl_io */
    struct {
        lun_link waiting, opens; /* rings of lunl_lane_job.link; NULL until the first */
        uint32_t running;        /* jobs of this loop that libuv's pool has */
        uint32_t overtaken;      /* how often the opens were, in a row */
    } lane;                      /* io/lane.c's own */
    struct lunl_probe *probe; /* engine/probe.c's own, NULL until it is used */
    void *watchdog;           /* watchdog.c's own */
};

extern const lunl_type lunl_loop_type;

static inline lunl_loop *lunl_loop_of(lun_loop *loop)
{
    return lun_container(loop, lunl_loop, loop);
}

/*
 * Holds the value on top, popping it: it lives until lunl_release. `task`: it is that task.
 * Raises if there is no memory, holding nothing.
 */
uint32_t lunl_hold(lua_State *L, lunl_state *S, lunl_task *task);
/* Pushes what slot holds. */
void lunl_push_held(lua_State *L, lunl_state *S, uint32_t slot);
/* Lets it go. Never raises. */
void lunl_release(lua_State *L, lunl_state *S, uint32_t slot);

/*
 * A full collection, unless there is no memory to call even a function that needs none: Lua
 * forgets a finaliser that it cannot call, and with it what that would have given back.
 */
void lunl_collect(lua_State *L);

/* The loop that runs in this Lua state, or RuntimeError "no running event loop". */
lunl_loop *lunl_running_loop(lua_State *L, lunl_state *S);
/* The loop object at `arg`, open, or RuntimeError / TypeError. */
lunl_loop *lunl_check_loop(lua_State *L, int arg);
/* Pushes the object of a loop. */
void lunl_push_loop(lua_State *L, lunl_loop *loop);

/* ---- futures, tasks, values -------------------------------------------------------------- */

extern const lun_kind lunl_future_kinds[];
enum { LUNL_KIND_FUTURE, LUNL_KIND_TASK, LUNL_KIND_SHIELD, LUNL_KIND_COUNT };

/* The Future or Task at `idx`, or NULL. */
static inline lun_future *lunl_to_future(lua_State *L, int idx)
{
    lun_future *f = (lun_future *)lua_touserdata(L, idx);
    if (!f || lua_rawlen(L, idx) < sizeof(lun_future))
        return NULL;
    uintptr_t k = (uintptr_t)f->kind - (uintptr_t)lunl_future_kinds;
    return k < LUNL_KIND_COUNT * sizeof(lun_kind) ? f : NULL;
}

/*
 * New pending future of `size` (>= sizeof(lun_future)) zeroed bytes with `nuv` >= 2 user values
 * on the stack; kind: LUNL_KIND_...
 */
lun_future *lunl_new_future(lua_State *L, lunl_loop *loop, int kind, size_t size, int nuv);

/*
 * New task that will call the function `nargs` places below the top with the values above it;
 * pops all of them, pushes the task. `extra` zeroed bytes follow the lunl_task. Held until done.
 */
lunl_task *lunl_spawn(lua_State *L, lunl_loop *loop, int nargs, size_t extra);

/*
 * The same for a caller that looks after the stack: function and arguments stay below the task.
 */
lunl_task *lunl_spawn_above(lua_State *L, lunl_loop *loop, int nargs, size_t extra);
/* The same for a function at absolute index `fn`, with its arguments behind it. */
lunl_task *lunl_spawn_of(lua_State *L, lunl_loop *loop, int fn, int nargs, size_t extra);

/* Is the value a future, a task, callable, or does it have __await? */
bool lunl_awaitable(lua_State *L, int idx);

/*
 * The future of the awaitable at absolute index `idx`: itself, or a new Task that takes its
 * place on the stack. TypeError for anything else, RuntimeError for a future of another loop.
 */
lun_future *lunl_ensure_future(lua_State *L, lunl_loop *loop, int idx);

/* Stores the `n` values from `first` on as the outcome of the future at `idx` (not settled yet). */
void lunl_store(lua_State *L, int idx, lun_future *f, int first, int n);
/* Pushes the stored values; how many. */
int lunl_push_values(lua_State *L, int idx, lun_future *f);
/* Pushes only the first stored value, or nil. */
void lunl_push_first(lua_State *L, int idx, lun_future *f);
/* Pushes the error of a failed or cancelled future and marks it as retrieved. */
void lunl_push_error(lua_State *L, int idx, lun_future *f);
/* Pushes it without marking. */
void lunl_peek_error(lua_State *L, int idx, lun_future *f);
/* The values on the stack, or throws the error: what awaiting a settled future gives. */
int lunl_outcome(lua_State *L, int idx, lun_future *f);
/*
 * Fails the future at `idx` with the error on top (popped): it is CANCELLED if the error is a
 * CancelledError. Not for unfinished tasks. The error's trace is the stack from `level` on.
 */
enum { LUNL_NO_TRACE = -1 };
/*
 * For a message handler: keeps the trace of the error at `error`, which is thrown again later;
 * `same`: on the same stack, which then adds nothing to the trace. */
void lunl_record_throw(lua_State *L, int error, bool same);
void lunl_fail(lua_State *L, int idx, lun_future *f, int level);
/* Marks the error as retrieved: it will not be reported. */
void lunl_seen(lunl_state *S, lun_future *f);

/*
 * Cancels the future or task at `idx` with the message at absolute index `msg` (0: none).
 * False if it was done.
 */
bool lunl_cancel(lua_State *L, lunl_state *S, lun_future *f, int idx, int msg);
/* The same for all children of a join, without a message. */
void lunl_cancel_join(lua_State *L, lunl_state *S, lun_join *j);

/* ---- suspending: await.c ------------------------------------------------------------------ */

/* Throws the RuntimeError that says why the calling function cannot suspend anything. */
_Noreturn void lunl_refuse(lua_State *L, lunl_state *S);

/*
 * The current task, if the calling C function may suspend it: RuntimeError outside a task, in a
 * foreign coroutine, or where Lua cannot yield. The first thing that a suspending function does.
 */
static inline lun_task *lunl_enter(lua_State *L, lunl_state *S)
{
    if (L != S->running || !S->outer_yieldable || !lua_isyieldable(L))
        lunl_refuse(L, S);
    return &S->task->t;
}

/*
 * Suspends the running task, for which one of lun_task_wait, lun_task_sleep, lun_task_yield,
 * lun_park_wait has just been called; goes on in `k` when the task runs again. To be called as
 * `return lunl_suspend(L, S, ctx, k);`. The stack of the C function stays as it is, so what is
 * waited for has to lie on it.
 */
int lunl_suspend(lua_State *L, lunl_state *S, lua_KContext ctx, lua_KFunction k);

/*
 * The first thing that a continuation does: throws the CancelledError if the task was
 * interrupted. `on` gets what it waited for (NULL after sleep, yield). The task. A park that was
 * granted: the grant is taken.
 */
lun_task *lunl_resumed(lua_State *L, lunl_state *S, lun_future **on);
/* The same without throwing: true in *interrupted says that lunl_throw_cancelled is due. */
lun_task *lunl_resumed_quietly(lua_State *L, lunl_state *S, lun_future **on,
                               bool *interrupted);
/* Throws the CancelledError of the running task, with the message of its last request. */
_Noreturn void lunl_throw_cancelled(lua_State *L, lunl_state *S);
/* Pushes it instead. */
void lunl_push_cancelled(lua_State *L, lunl_state *S);

/* Awaits the future at absolute index `idx` and returns its results: `return lunl_await(...)`. */
int lunl_await(lua_State *L, lunl_state *S, int idx, lun_future *f);

/*
 * Counts an await that did not have to suspend; true if it is the task's turn to give way (the
 * 128th in a row): then lun_task_yield and lunl_suspend before going on.
 */
static inline bool lunl_gives_way(lunl_state *S)
{
    return ++S->streak >= 128;
}

/* The await has moved `bytes`: one of 8 KiB counts twice, of 64 KiB nine times. */
static inline void lunl_moved(lunl_state *S, size_t bytes)
{
    S->streak += (uint32_t)(bytes / 8192);
}

/* ---- requests to libuv: op.c --------------------------------------------------------------- */

typedef struct lunl_op_kind {
    lun_op_kind op; /* first; its kind.cancel is lun_op_cancel_kind */
    /* Pushes the results in the awaiting coroutine, or throws; `op` is released by the caller. */
    int (*push)(lua_State *L, lun_op *op);
    const char *syscall; /* for the error text; NULL: push is called for failures, too */
} lunl_op_kind;

/*
 * A new op (see op.h) with its owner, a userdata that releases it at the latest when it is
 * collected, on top of the stack; or raises "not enough memory". After lunl_enter.
 */
void *lunl_op_new(lua_State *L, lunl_loop *loop, const lunl_op_kind *kind, size_t size);
/*
 * Awaits an op, whose owner is on top of the stack, that has begun with libuv's answer `begun`
 * (negative: it never started: throws); one that is done already gives its results at once.
 * `object` is the absolute index of the value that is kept alive and, if a string, named in
 * errors (0: none). `return lunl_op_await(...)`.
 */
int lunl_op_await(lua_State *L, lunl_state *S, lun_op *op, int begun, int object);

/* ---- reports ------------------------------------------------------------------------------- */

/*
 * Queues the context table on top (popped) for the loop's exception handler. `kind` is static.
 * Raises only if there is no memory.
 */
void lunl_report(lua_State *L, lunl_loop *loop, const char *kind);
/* Pushes the context that all reports about the task at absolute index `idx` begin with. */
void lunl_task_report(lua_State *L, int idx, const char *message);

/*
 * Calls the function `nargs` places below the top as a callback of the loop, from the base
 * level: an error goes to the exception handler with message "Exception in callback <fn>" and
 * the fields of the table at absolute index `context` (0: none). Pops function and arguments.
 */
void lunl_callback(lua_State *L, lunl_loop *loop, int nargs, const char *kind, int context);

/* Pushes "name@source:line" of the function at `idx`, or a text for another callable. */
void lunl_push_where(lua_State *L, int idx);

/*
 * SIGINT under run: interrupt.c. `begin` installs our handler if the disposition is the default
 * and this is the process's main thread; the first press cancels `main`. `end` puts back what was.
 * The same for the signals of loop->interrupting.
 */
void lunl_interrupt_begin(lunl_loop *loop, lun_task *main);
void lunl_interrupt_end(lunl_loop *loop);
/* Pushes the KeyboardInterrupt that says which signal it was. */
void lunl_error_interrupt(lua_State *L, const lunl_state *S);
/* The set in the field `signals` of the options table at `arg`, for lunl_loop.interrupting. */
uint64_t lunl_interrupt_option(lua_State *L, int arg);

/*
 * All that is left of a loop that closes are requests that nobody can take back from libuv's pool,
 * a lookup say: from here on SIGINT does what it did before the run. Where a second one has come
 * already and lunl_interrupt_kills was called, the process dies of it now.
 */
void lunl_interrupt_stuck(lunl_loop *loop);

/* The first thing in a teardown: closes the task that has called os.exit, which must not go on. */
void lunl_exit_unwind(lua_State *L, lunl_state *S);

/* Failures: future.c and trace.c. */

/* Pushes the text of the trace of a failed future at `idx`, with the awaits it crossed, or nil. */
void lunl_push_trace(lua_State *L, int idx, lun_future *f);
/* Pushes the text of the trace recorded when the error at `idx` left a task, or nil. */
void lunl_push_error_trace(lua_State *L, int idx);
/* Appends the frames of L1 from `level` on to the buffer as text lines, light (see facts 1.4). */
void lunl_trace_frames(lua_State *L1, int level, luaL_Buffer *b);

/* ---- engine/ and io/, as the other rooms see them ----------------------------------------- */

/* engine/fault.c: the exception handler's methods of the loop object; its place in the core. */
extern const luaL_Reg lunl_fault_methods[];
void lunl_fault_init(lunl_loop *loop);
/* engine/print.c: prints the report in the table at `ctx` to stderr, as the default handler does. */
void lunl_print_context(lua_State *L, int ctx);

/*
 * engine/timeout.c, for scopes that ask their own task to stop. Enter: the running task, kept in
 * user value 1 of the userdata on top; RuntimeError outside a task. Leave: RuntimeError unless
 * `t` runs. `what` names the scope.
 */
lun_task *lunl_scope_enter(lua_State *L, lunl_state *S, const char *what);
void lunl_scope_leave(lua_State *L, lunl_state *S, lun_task *t, const char *what);
/* The scope's request, with `before` of them when it began, is taken back. What is left. */
unsigned lunl_take_back(lun_task *t, unsigned before);
/*
 * engine/keep.c: the userdata at `idx`, whose address is `p`, lives until lunl_let_go or the end
 * of its loop, which is open. lunl_keep raises if there is no memory; the others never do.
 */
void lunl_keep(lua_State *L, lunl_loop *loop, int idx);
void lunl_push_kept(lua_State *L, lunl_loop *loop, const void *p);
void lunl_let_go(lua_State *L, lunl_loop *loop, const void *p);

/*
 * engine/probe.c, for tests. Where the calling Lua code is, "file:line", into `buf`: the innermost
 * line that is not the library's; false if there is none. Allocates nothing.
 */
enum { LUNL_SITE = 128 }; /* bytes for that */
bool lunl_site(lua_State *L, char *buf, size_t size);
/* Pushes that, or nil. */
void lunl_push_site(lua_State *L);
/* Appends what io/ has open to the list on top, each as lunl_probe_row; n: rows so far. */
lua_Integer lunl_list_handles(lua_State *L, lunl_loop *loop, lua_Integer n);
/* Sockets of `loop` read and write at most so many bytes in one go; SIZE_MAX: all that they can. */
void lunl_short_io(lua_State *L, lunl_loop *loop, size_t most_read, size_t most_write);
/* Closes the open handle that was listed with this id; false if there is none any more. */
bool lunl_close_listed(lunl_loop *loop, const void *id);
/* Appends a row {kind, text, where?, object?}; object: stack index or 0. The new count. */
lua_Integer lunl_probe_row(lua_State *L, lua_Integer n, const char *kind, const char *text,
                           const char *where, int object);

extern const luaL_Reg lunl_poll_methods[];   /* io/poll.c: add_reader, ... of the loop */
extern const luaL_Reg lunl_signal_methods[]; /* io/signal.c: add_signal_handler, ... */

/*
 * What loop close does before lun_loop_close, in this order: callbacks let go, then every handle
 * that is still open is closed (one with output left gets up to a second to send it).
 */
void lunl_polls_close(lua_State *L, lunl_loop *loop);
void lunl_signals_close(lua_State *L, lunl_loop *loop);
void lunl_handles_close(lunl_loop *loop);

#include "rooms.h"

#endif

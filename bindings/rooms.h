/* SPDX-License-Identifier: MIT */
/*
 * rooms.h - the openers of all rooms, which open.c calls; a part of lunl.h, which includes it.
 */
#ifndef LUNL_ROOMS_H
#define LUNL_ROOMS_H

/* Each adds its functions to the table on top. */
void lunl_open_error(lua_State *L);   /* error.c: classes, isinstance, exception */
void lunl_open_protect(lua_State *L); /* engine/protect.c: pcall, xpcall, defer */
void lunl_open_future(lua_State *L);  /* engine/future.c */
void lunl_open_task(lua_State *L);    /* engine/task.c */
void lunl_open_await(lua_State *L);   /* await.c: await, sleep */
void lunl_open_join(lua_State *L);    /* engine/join.c: gather, wait */
void lunl_open_race(lua_State *L);    /* engine/race.c: as_completed, map, race */
void lunl_open_timeout(lua_State *L); /* engine/timeout.c: timeout, timeout_at, wait_for */
void lunl_open_shield(lua_State *L);  /* engine/shield.c: shield */
void lunl_open_wrap(lua_State *L);    /* engine/wrap.c: wrap */
void lunl_open_group(lua_State *L);   /* engine/group.c: TaskGroup */
void lunl_open_sync(lua_State *L);    /* engine/sync.c */
void lunl_open_queue(lua_State *L);   /* engine/queue.c */
void lunl_open_loop(lua_State *L);    /* engine/loop.c, handle.c */
void lunl_open_run(lua_State *L);     /* engine/run.c: run, Runner */
void lunl_open_fault(lua_State *L);   /* engine/fault.c */
void lunl_open_dump(lua_State *L);    /* engine/dump.c: traceback, dump, print_exception */
void lunl_open_coroutine(lua_State *L); /* engine/coroutine.c: async.coroutine */
void lunl_open_require(lua_State *L);   /* engine/require.c: require */

/* Modules: each pushes its table. */
int luaopen_lunation_net(lua_State *L);    /* io/net.c */
int luaopen_lunation_tls(lua_State *L);    /* io/tls_face.c */
int luaopen_lunation_signal(lua_State *L); /* io/signal_wait.c */
int luaopen_lunation_tty(lua_State *L);    /* io/tty.c */
/* io/stdio.c: pushes "stdin", "stdout" or "stderr" of the running loop; raises. Returns 1. */
int lunl_push_stdio(lua_State *L, lunl_state *S, const char *name);
int luaopen_lunation_memory(lua_State *L);       /* io/memory.c */
int luaopen_lunation_fs_core(lua_State *L);      /* io/fs.c */
int luaopen_lunation_process_core(lua_State *L); /* io/process.c */
int luaopen_lunation_probe(lua_State *L);        /* engine/probe.c */

#endif

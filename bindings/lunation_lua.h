/* SPDX-License-Identifier: MIT */
/*
 * lunation_lua.h - the front door for hosts that bring a Lua state; the command is the first.
 *
 * A host opens the module, makes a Runner through it and runs a function; all that it needs
 * beyond the module's own Lua interface is here.
 */
#ifndef LUNATION_LUA_H
#define LUNATION_LUA_H

#include "lunation.h"

#include <lua.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens the module: what `require "lunation"` calls. Leaves its table on the stack. */
int luaopen_lunation(lua_State *L);

/*
 * Pushes a replacement for os.exit, for a Lua state in which the module was opened. Outside
 * of a loop it is the stock function. Inside it ends the run: the calling task does not go
 * on, and when the host has closed the loop, which unwinds all tasks, lunl_exiting says
 * what is due.
 */
void lunl_push_exit(lua_State *L);

/*
 * The running task shows itself (tostring, dump, reports) as the function at `idx`, which it is
 * about to call: for a main task of the host's own that only runs what it was given. Harmless
 * outside of a task.
 */
void lunl_show_as(lua_State *L, int idx);

/*
 * True if a script called that function inside a loop: the host ends the process with
 * `*code`, and closes the Lua state before if `*close`.
 */
bool lunl_exiting(lua_State *L, int *code, bool *close);

/*
 * The process is this state's: when a second SIGINT has come and the loop, closed, still waits for
 * what nobody can stop (a lookup that hangs), it dies of the signal instead of waiting.
 */
void lunl_interrupt_kills(lua_State *L);

/*
 * The number of a signal that a Runner's option `signals` may name, "SIGTERM" or "TERM"; 0: it may
 * not, or there is none. The KeyboardInterrupt that such a signal makes names it in its field
 * `signal`: a host that wants its parent to see that dies of it.
 */
int lunl_interrupt_number(const char *name);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: MIT */
/*
 * tty.c - the module tty: what a program asks about the terminal that it may be running in.
 */
#include "../lunl.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int check_fd(lua_State *L, int arg)
{
    return (int)lunl_check_integer(L, arg, 0, INT32_MAX);
}

/* --- tty.isatty(fd) -> boolean: whether the descriptor (0 for stdin, 1 stdout, 2 stderr) is a
 * terminal. Does not suspend. */
static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty(check_fd(L, 1)));
    return 1;
}

/* --- tty.size(fd) -> columns, rows of the terminal behind the descriptor; SIGWINCH tells when
 * they have changed. Throws OSError "tty.size fd: CODE", ENOTTY if it is none. Does not suspend. */
static int l_size(lua_State *L)
{
    struct winsize size;
    int fd = check_fd(L, 1);
    if (ioctl(fd, TIOCGWINSZ, &size) != 0) {
        int err = uv_translate_sys_error(errno);
        lunl_throw_uv(L, err, "tty.size", lua_pushfstring(L, "%d", fd));
    }
    lua_pushinteger(L, size.ws_col);
    lua_pushinteger(L, size.ws_row);
    return 2;
}

int luaopen_lunation_tty(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"isatty", l_isatty}, {"size", l_size}, {NULL, NULL}};
    lua_createtable(L, 0, 2);
    lunl_register(L, functions);
    return 1;
}

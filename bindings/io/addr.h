/* SPDX-License-Identifier: MIT */
/*
 * addr.h - addresses, of the internet and of Unix sockets: text and numbers to sockaddr and back,
 * and errors that name one.
 *
 * An address is as big as it needs to be: what keeps many of them keeps lunl_addr_room bytes, as
 * the last thing in its memory, and copies with lunl_addr_copy.
 */
#ifndef LUNL_IO_ADDR_H
#define LUNL_IO_ADDR_H

#include "../lunl.h"

#include <netinet/in.h>

enum {
    LUNL_ADDR_TEXT = 128, /* bytes for any address as text, port and zone included */
    LUNL_HOST_MAX = 253,  /* the longest name that DNS knows; longer ones libuv has cut */
    LUNL_PATH_MAX = 107   /* bytes of a Unix path, or of an abstract name behind its NUL */
};

typedef struct lunl_unix_addr {
    sa_family_t family; /* AF_UNIX */
    uint8_t len;        /* bytes of path; 0: it has no name */
    bool known;         /* the process at the other end is: */
    int pid;
    unsigned uid, gid;
    char path[LUNL_PATH_MAX + 1]; /* not terminated; an abstract name begins with NUL */
} lunl_unix_addr;

typedef union lunl_addr {
    struct sockaddr sa; /* sa_family AF_UNSPEC: none */
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    lunl_unix_addr un;
} lunl_addr;

/* A numeric address, with its zone; false if `host` is none (a name). */
bool lunl_addr_parse(lunl_addr *a, const char *host, int port);
/* The address of a Unix socket: 0, or UV_ENAMETOOLONG. */
int lunl_addr_unix(lunl_addr *a, const char *path, size_t len);
/* Takes over what the system gave; other families become "none". */
void lunl_addr_set(lunl_addr *a, const struct sockaddr *sa, socklen_t size);
/* An address of IPv4 in the clothes of IPv6, from a socket for both, becomes what it is. */
void lunl_addr_unmap(lunl_addr *a);
void lunl_addr_set_port(lunl_addr *a, int port);
/* Of a Unix socket: notes who is at the other end of the descriptor. */
void lunl_addr_credentials(lunl_addr *a, int fd);
/* What the system calls it; `sa` gets at most so many bytes as are returned. */
socklen_t lunl_addr_system(const lunl_addr *a, struct sockaddr_storage *sa);
/* The memory that it needs, and into which it is copied. */
size_t lunl_addr_room(const lunl_addr *a);
void lunl_addr_copy(lunl_addr *to, const lunl_addr *a);
/*
 * "127.0.0.1:80", "[::1]:80", "/run/x", "@abstract", "unix socket" for one without a name; `buf`
 * has LUNL_ADDR_TEXT bytes and is returned.
 */
const char *lunl_addr_text(const lunl_addr *a, char *buf);
/*
 * Pushes {host = "127.0.0.1", port = 80, family = "inet"}, "inet6" for IPv6; or {family = "unix",
 * path = , pid = , uid = , gid = } with what is known of it.
 */
void lunl_addr_push(lua_State *L, const lunl_addr *a);

/* A host at `arg`: a string without NULs of at most LUNL_HOST_MAX bytes. */
const char *lunl_check_host(lua_State *L, int arg);
/* The same for a string that is no argument itself, on top; errors name `arg`. */
const char *lunl_check_host_value(lua_State *L, int arg);
/* The path of a Unix socket at `arg`, of any length; NUL is for abstract names, in front. */
const char *lunl_check_socket_path(lua_State *L, int arg, size_t *len);

/* Pushes the OSError "syscall text: CODE" with its field `address`; text may be NULL. */
void lunl_error_addr(lua_State *L, int err, const char *syscall, const char *text);
/*
 * Throws what is wrong with the `noun` called `text`, which is not open in the running loop: the
 * OSError EBADF "what text: the noun is closed", or the RuntimeError that it is another loop's.
 */
_Noreturn void lunl_throw_unusable(lua_State *L, bool closed, const char *what,
                                   const char *noun, const char *text);

#endif

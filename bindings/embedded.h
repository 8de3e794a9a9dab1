/* SPDX-License-Identifier: MIT
 *
 * The Lua modules that travel inside the library.
 *
 * Every scripts/lunation/NAME.lua becomes a row here at build time (scripts/tools/embed.cmake
 * writes the table), so a host ships one library and no files. A row's name is what `require`
 * is asked for: scripts/lunation/repl.lua is "lunation.repl", scripts/lunation/net/init.lua is
 * "lunation.net". The code is the source text, not bytecode, and not terminated by a zero. */
#ifndef LUNL_EMBEDDED_H
#define LUNL_EMBEDDED_H

#include <stddef.h>

struct lunl_embedded {
    const char *name;          /* borrowed: static text */
    const unsigned char *code; /* borrowed: static bytes */
    size_t size;
};

/* In order of name; ends with a row whose name is NULL. */
extern const struct lunl_embedded lunl_embedded[];

#endif

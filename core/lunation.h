/* SPDX-License-Identifier: MIT */
/*
 * lunation.h - the only header that a C host without Lua names: the whole core.
 */
#ifndef LUNATION_H
#define LUNATION_H

#define LUNATION_VERSION "0.1.0"

/* What the core takes from outside comes first: C++ wants that out of the braces below. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "join.h"
#include "loop.h"

#ifdef __cplusplus
}
#endif

#endif

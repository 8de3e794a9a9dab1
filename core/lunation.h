/* SPDX-License-Identifier: MIT */
/*
 * lunation.h - the only header that a C host without Lua names: the whole core.
 */
#ifndef LUNATION_H
#define LUNATION_H

#define LUNATION_VERSION "0.1.0"

#include "join.h"
#include "loop.h"

#endif

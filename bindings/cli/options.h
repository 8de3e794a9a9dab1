/* SPDX-License-Identifier: MIT */
/*
 * options.h - the command's state: what its options say (cli/options.c) and how far it is (cli.c).
 */
#ifndef LUNL_CLI_OPTIONS_H
#define LUNL_CLI_OPTIONS_H

#include "lunation_lua.h"

enum cli_stage { STAGE_INIT, STAGE_OPTIONS, STAGE_SCRIPT, STAGE_OVER };

enum cli_outcome { FAILED, DONE, INTERRUPTED, EXITING };

struct cli_command {
    int argc;
    char **argv;
    int script; /* index of the script's name in argv; argc: none */
    bool executes, version, interactive, no_env, help, debug, virtual_time, seeded;
    lua_Integer seed;
    const char *signals;  /* names with commas between them, all of them good; or NULL */
    const char *bad_name; /* one in them that is not */
    /* How far the main task is. */
    enum cli_stage stage;
    int option;         /* next to be looked at in STAGE_OPTIONS */
    const char *global; /* -l: the variable that gets the result of the chunk that runs */
    bool load_failed;   /* the error is that a chunk was not loaded: no traceback */
    enum cli_outcome outcome;
    int signal; /* INTERRUPTED: by which */
    int exit_code;
    bool exit_close;
    lua_State *state; /* left open by an exit that does not close it */
};

extern const char cli_program[], cli_help[];

/* Reads all options; NULL, or the bad one. */
const char *cli_scan(struct cli_command *c);
/* Says what is wrong with it, and the help; the exit status. */
int cli_complain(const struct cli_command *c, const char *option);

enum { CLI_NAME = 32 }; /* bytes for the name of a signal */
/* The next of the names at *list into `buf`, CLI_NAME bytes, cut if it is none; false: no more. */
bool cli_next_name(const char **list, char *buf);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * options.c - reading the command line, and the help.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char cli_program[] = "lunation";

const char cli_help[] =
    "usage: lunation [options] [script [args]]\n"
    "       lunation [options] test [busted's arguments]   specs that await; test --help\n"
    "Available options are:\n"
    "  -e stat         execute string 'stat'\n"
    "  -i              interactive mode: not there yet\n"
    "  -l mod          require library 'mod' into global 'mod'\n"
    "  -l g=mod        require library 'mod' into global 'g'\n"
    "  -v, --version   show version information\n"
    "  -E              ignore environment variables\n"
    "  -W              turn warnings on\n"
    "  --debug         slow callbacks, forgotten errors and interrupts say where they come "
    "from\n"
    "  --virtual-time  the clock jumps to the next deadline when nothing else can happen\n"
    "  --seed N        run ready tasks in an order drawn from the number N\n"
    "  --signals LIST  signals such as TERM,HUP do what Ctrl-C does\n"
    "  --help          show this text\n"
    "  --              stop handling options\n"
    "  -               stop handling options and execute stdin\n";

/* `name` or `name=value` or `name value` at argv[*i]; the value, or NULL. */
static const char *long_value(struct cli_command *c, int *i, const char *name)
{
    const char *arg = c->argv[*i];
    size_t n = strlen(name);
    if (strncmp(arg, name, n) != 0)
        return NULL;
    if (arg[n] == '=')
        return arg + n + 1;
    return arg[n] == '\0' && *i + 1 < c->argc ? c->argv[++*i] : NULL;
}

bool cli_next_name(const char **list, char *buf)
{
    if (!*list)
        return false;
    size_t n = strcspn(*list, ","), kept = n < CLI_NAME - 1 ? n : CLI_NAME - 1;
    memcpy(buf, *list, kept);
    buf[kept] = '\0';
    *list = (*list)[n] ? *list + n + 1 : NULL;
    return true;
}

/* The option's list is good: every name is. */
static bool check_signals(struct cli_command *c, const char *list)
{
    static char name[CLI_NAME];
    c->signals = list;
    while (cli_next_name(&list, name))
        if (lunl_interrupt_number(name) == 0) {
            c->bad_name = name;
            return false;
        }
    return true;
}

/* Reads the long option at argv[*i]; false if it is none. */
static bool scan_long(struct cli_command *c, int *i)
{
    const char *arg = c->argv[*i], *value;
    bool *flag = strcmp(arg, "--debug") == 0          ? &c->debug
                 : strcmp(arg, "--virtual-time") == 0 ? &c->virtual_time
                 : strcmp(arg, "--help") == 0         ? &c->help
                 : strcmp(arg, "--version") == 0      ? &c->version
                                                      : NULL;
    if (flag) {
        *flag = true;
        return true;
    }
    value = long_value(c, i, "--signals");
    if (value)
        return check_signals(c, value);
    value = long_value(c, i, "--seed");
    if (!value)
        return false;
    char *end;
    errno = 0;
    c->seed = strtoll(value, &end, 10);
    c->seeded = true;
    return errno == 0 && end != value && *end == '\0';
}

/* Reads the short option at argv[*i]; false if it is none. */
static bool scan_short(struct cli_command *c, int *i)
{
    const char *arg = c->argv[*i];
    switch (arg[1]) {
    case 'e':
        c->executes = true;
        /* FALLTHROUGH */
    case 'l':
        if (arg[2] == '\0' && (++*i >= c->argc || c->argv[*i][0] == '-'))
            return false;
        return true;
    case 'i':
        c->interactive = c->version = true;
        return arg[2] == '\0';
    case 'v':
        c->version = true;
        return arg[2] == '\0';
    case 'E':
        c->no_env = true;
        return arg[2] == '\0';
    default:
        return arg[1] == 'W' && arg[2] == '\0';
    }
}

const char *cli_scan(struct cli_command *c)
{
    int i = 1;
    for (; i < c->argc; i++) {
        const char *arg = c->argv[i];
        if (arg[0] != '-' || arg[1] == '\0')
            break;
        if (strcmp(arg, "--") == 0) {
            i++;
            break;
        }
        if (!(arg[1] == '-' ? scan_long(c, &i) : scan_short(c, &i)))
            return arg;
    }
    c->script = i;
    return NULL;
}

int cli_complain(const struct cli_command *c, const char *option)
{
    bool valued = option[1] == 'e' || option[1] == 'l';
    bool seed = strncmp(option, "--seed", 6) == 0;
    if (seed)
        fprintf(stderr, "%s: '--seed' needs an integer\n", cli_program);
    else if (c->bad_name)
        fprintf(stderr, "%s: '--signals': '%s' is no signal that can end a run\n",
                cli_program, c->bad_name);
    else if (strcmp(option, "--signals") == 0)
        fprintf(stderr, "%s: '%s' needs argument\n", cli_program, option);
    else if (valued)
        fprintf(stderr, "%s: '%s' needs argument\n", cli_program, option);
    else
        fprintf(stderr, "%s: unrecognized option '%s'\n", cli_program, option);
    fputs(cli_help, stderr);
    return EXIT_FAILURE;
}

/* SPDX-License-Identifier: MIT */
/*
 * echo_load.c - the peer of the servers that scripts/bench/echo.lua compares: starts one, opens
 * connections to it, keeps them busy for a while and prints what that has cost the server.
 *
 *     echo_load MODE CONNECTIONS SECONDS COMMAND...
 *
 * COMMAND is started as a child, with the mode's way of serving (echo, sink, source) as its last
 * argument; it says its port in the first line that it prints. A fifth of the time passes
 * before anything is counted. Prints "UNITS CPU_NS WALL_NS": what the server has done, its CPU
 * time (all threads), the time. The modes:
 *
 *     small    ping-pong of 64 bytes on each connection; units are messages
 *     bulk     ping-pong of 64 KiB on each; units are chunks of 64 KiB, as below
 *     sink     the server reads what comes as fast as it can
 *     source   the server writes as fast as it can
 *     idle     nothing happens; prints "CONNECTIONS BYTES 0": by how much the server has grown
 *
 * Two things would decide more about the cost than the server does. Where the two run: on one core
 * the bytes are in its cache; so this program takes one core for itself and leaves the server the
 * others, if there are others. And how much is on the way: once a receiver is the slower one,
 * the system's buffers fill up to many MiB, more than the caches hold, and it has to pay for the
 * sending, too; so in sink and source this end has small buffers.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 64, CHUNK = 65536, EVENTS = 256, BUFFER = 262144 };

enum mode { MODE_SMALL, MODE_BULK, MODE_SINK, MODE_SOURCE, MODE_IDLE };

static const struct {
    const char *name, *serves;
} modes[] = {{"small", "echo"},
             {"bulk", "echo"},
             {"sink", "sink"},
             {"source", "source"},
             {"idle", "echo"}};

typedef struct connection {
    int fd;
    size_t out, in; /* bytes of the message that are still to go, to come */
} connection;

static enum mode mode;
static size_t size; /* of a message */
static uint64_t bytes;
static char data[CHUNK];
static pid_t server;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "echo_load: %s: %s\n", what, strerror(errno));
    if (server > 0)
        kill(server, SIGKILL);
    exit(2);
}

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        die("clock");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* This program takes the last core that it may use; *rest: the others. False: there are none. */
static bool take_core(cpu_set_t *rest)
{
    cpu_set_t own;
    int last = CPU_SETSIZE - 1;
    if (sched_getaffinity(0, sizeof *rest, rest) != 0 || CPU_COUNT(rest) < 2)
        return false;
    while (!CPU_ISSET(last, rest))
        last--;
    CPU_CLR(last, rest);
    CPU_ZERO(&own);
    CPU_SET(last, &own);
    return sched_setaffinity(0, sizeof own, &own) == 0;
}

/* Starts the server; its port. */
static int start_server(char **command)
{
    cpu_set_t rest;
    bool shared = !take_core(&rest);
    int out[2];
    char line[32] = "";
    if (pipe(out) != 0 || (server = fork()) < 0)
        die("fork");
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!shared && sched_setaffinity(0, sizeof rest, &rest) != 0)
            _exit(127);
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execvp(command[0], command);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof line - 1; n++) {
        if (read(out[0], line + n, 1) != 1) {
            errno = ECHILD;
            die(command[0]);
        }
        if (line[n] == '\n')
            break;
    }
    return atoi(line);
}

static int open_connection(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, buffer = BUFFER;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (mode == MODE_SINK || mode == MODE_SOURCE) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Sends what is left of the message; false: the socket is full. */
static bool push(connection *k)
{
    while (k->out > 0) {
        ssize_t n = send(k->fd, data, k->out, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            die("send");
        k->out -= (size_t)n;
        if (mode == MODE_SINK)
            bytes += (size_t)n;
    }
    return true;
}

/* Takes what is there, up to the end of the message; false: the socket is empty. */
static bool pull(connection *k)
{
    while (k->in > 0) {
        ssize_t n = recv(k->fd, data, k->in, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            die("recv");
        k->in -= (size_t)n;
        bytes += (size_t)n;
    }
    return true;
}

static void go_on(connection *k)
{
    for (int messages = 0; messages < 4; messages++) {
        if (mode != MODE_SOURCE && !push(k) && mode == MODE_SINK)
            return;
        if (mode != MODE_SINK && !pull(k))
            return;
        k->out = k->in = size;
        if (mode == MODE_SMALL || mode == MODE_BULK) {
            push(k); /* the next message; its answer takes a while */
            return;
        }
    }
}

static void run_until(int epoll, uint64_t end)
{
    struct epoll_event events[EVENTS];
    while (now(CLOCK_MONOTONIC) < end) {
        int n = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < n; i++)
            go_on(events[i].data.ptr);
    }
}

static long resident(void)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)server);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        die(path);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void idle(int port, int n)
{
    /* The first ones make what is made once. */
    for (int i = 0; i < 50; i++)
        open_connection(port);
    usleep(500000);
    long before = resident();
    for (int i = 0; i < n; i++)
        open_connection(port);
    usleep(1500000);
    printf("%d %ld 0\n", n, resident() - before);
}

static void busy(int port, int n, double seconds)
{
    clockid_t clock;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    connection *all = calloc((size_t)n, sizeof *all);
    if (!all || epoll < 0 || clock_getcpuclockid(server, &clock) != 0)
        die("start");
    for (int i = 0; i < n; i++) {
        uint32_t wanted = mode == MODE_SINK   ? EPOLLOUT
                          : mode == MODE_BULK ? EPOLLIN | EPOLLOUT | EPOLLET
                                              : EPOLLIN;
        struct epoll_event e = {.events = wanted, .data.ptr = &all[i]};
        all[i] = (connection){open_connection(port), size, size};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e) != 0)
            die("epoll_ctl");
    }
    for (int i = 0; i < n; i++)
        go_on(&all[i]);
    uint64_t ns = (uint64_t)(seconds * 1e9);
    run_until(epoll, now(CLOCK_MONOTONIC) + ns / 5);
    uint64_t bytes0 = bytes, cpu0 = now(clock), wall0 = now(CLOCK_MONOTONIC);
    run_until(epoll, wall0 + ns);
    uint64_t cpu = now(clock) - cpu0, wall = now(CLOCK_MONOTONIC) - wall0;
    printf("%.1f %llu %llu\n", (double)(bytes - bytes0) / (double)size,
           (unsigned long long)cpu, (unsigned long long)wall);
    free(all);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    char *command[16];
    int n = 0;
    if (argc < 5 || argc > 16)
        return 2;
    while (strcmp(argv[1], modes[mode].name) != 0) {
        if (mode++ == MODE_IDLE)
            return 2;
    }
    size = mode == MODE_SMALL ? SMALL : CHUNK;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 4; i < argc; i++)
        command[n++] = argv[i];
    command[n++] = (char *)modes[mode].serves;
    command[n] = NULL;
    int port = start_server(command);
    if (mode == MODE_IDLE)
        idle(port, atoi(argv[2]));
    else
        busy(port, atoi(argv[2]), atof(argv[3]));
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0;
}

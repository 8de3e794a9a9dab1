/* SPDX-License-Identifier: MIT */
/*
 * dump.c - looking inside: the trace of an error, an error in print, all tasks as a tree.
 *
 * The tree has waiters above what they wait for; a task that nobody waits for is a root.
 * Several may wait for one task, and joins may wait for many: each task is told of once,
 * under the first that is found, and named again under the others. Tasks that wait for each
 * other in a circle have no root and come last. The walk keeps its way back in the nodes:
 * no recursion.
 *
 * While the tree is drawn the collector stands still, so no finaliser can change it.
 */
#include "../state.h"
#include "print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    lunl_task *t;    /* held, since unfinished */
    uint32_t parent; /* the node from which the walk came here */
    bool begun;      /* its children are being asked for */
    bool awaited;    /* another task waits for it */
    bool shown;
};

struct place {
    const lunl_task *t;
    uint32_t node;
};

struct tree {
    uint32_t n;
    struct node *nodes;   /* in order of creation */
    struct place *places; /* in order of address */
    lunl_state *S;
    lunl_print out;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct node *)a)->t->number,
             y = ((const struct node *)b)->t->number;
    return x < y ? -1 : x > y;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct place *)a)->t,
              y = (uintptr_t)((const struct place *)b)->t;
    return x < y ? -1 : x > y;
}

/* Fills the tree, with its memory in two userdata on the stack. */
static void plant(lua_State *L, lunl_state *S, struct tree *tree)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i <= S->n_slots; i++)
        n += lunl_slot_task(S, i) != NULL;
    tree->S = S;
    tree->nodes = lua_newuserdatauv(L, (n + 1) * sizeof *tree->nodes, 0);
    tree->places = lua_newuserdatauv(L, (n + 1) * sizeof *tree->places, 0);
    tree->n = 0;
    for (uint32_t i = 1; i <= S->n_slots; i++) {
        lunl_task *t = lunl_slot_task(S, i);
        if (t)
            tree->nodes[tree->n++] = (struct node){.t = t};
    }
    qsort(tree->nodes, tree->n, sizeof *tree->nodes, by_number);
    for (uint32_t i = 0; i < tree->n; i++)
        tree->places[i] = (struct place){tree->nodes[i].t, i};
    qsort(tree->places, tree->n, sizeof *tree->places, by_address);
}

/* The node of the task that `f` is, or NULL. */
static struct node *node_of(const struct tree *tree, const lun_future *f)
{
    struct place key = {(const lunl_task *)f, 0};
    const struct place *found =
        bsearch(&key, tree->places, tree->n, sizeof key, by_address);
    return found ? &tree->nodes[found->node] : NULL;
}

/* What the task waits for, pending, or NULL. */
static lun_future *waits_on(const lun_task *t)
{
    if (t->at != LUN_AT_WAITING || (t->flags & (LUN_GRANTED | LUN_INTERRUPTED)))
        return NULL;
    return lun_future_done(t->u.wait.on) ? NULL : t->u.wait.on;
}

/* The next of the futures that the task waits for; NULL after the last, then from the
 * first. */
static lun_future *next_child(struct node *node)
{
    lun_future *on = waits_on(&node->t->t), *f = NULL;
    if (on && lun_is_join(on)) {
        lun_join *j = (lun_join *)on;
        if (!node->begun)
            j->restart = true;
        f = j->child(j);
    } else if (!node->begun) {
        f = on;
    }
    node->begun = f != NULL;
    return f;
}

static void find_roots(struct tree *tree)
{
    lun_future *f;
    for (uint32_t i = 0; i < tree->n; i++) {
        while ((f = next_child(&tree->nodes[i]))) {
            struct node *child = node_of(tree, f);
            if (child)
                child->awaited = true;
        }
    }
}

/* Pushes what the task is doing, as far as that is known. */
static void push_state(lua_State *L, const lun_task *t)
{
    char text[64];
    const lun_future *on;
    switch (t->at) {
    case LUN_AT_NEW:
        lua_pushliteral(L, "not started yet");
        return;
    case LUN_AT_RUNNING:
        lua_pushliteral(L, "running");
        return;
    case LUN_AT_SLEEPING:
        if (!lun_timer_active(&t->u.timer)) {
            lua_pushliteral(L, "sleeping for ever");
            return;
        }
        uint64_t when = lun_timer_when(t->done.loop, &t->u.timer);
        uint64_t now = lun_loop_time(t->done.loop);
        snprintf(text, sizeof text, "sleeping, %.3f s left",
                 when > now ? (double)(when - now) / 1e9 : 0.0);
        lua_pushstring(L, text);
        return;
    }
    on = waits_on(t);
    if (!on)
        lua_pushliteral(L, "ready to run");
    else if (lun_is_join(on))
        lua_pushfstring(L, "waits for %d of its children",
                        (int)((const lun_join *)on)->left);
    else if (strcmp(on->kind->name, "park") == 0)
        lua_pushliteral(L, "waits for its turn"); /* the stack tells at what */
    else
        lua_pushfstring(L, "waits for a %s", on->kind->name);
}

/* How far a line at that depth is indented: very deep trees grow downwards only. */
static int columns(int depth)
{
    enum { STEP = 2, MOST = 30 };
    return STEP * (depth < MOST ? depth : MOST);
}

/* Adds the lines of one task. */
static void show(struct tree *tree, const struct node *node, int depth)
{
    lua_State *L = tree->out.L;
    const lunl_task *t = node->t;
    char frames[4096];
    int top = lua_gettop(L);
    char since[48] = "";
    if (t->t.at != LUN_AT_RUNNING) {
        uint64_t now = lun_loop_time(t->t.done.loop);
        snprintf(since, sizeof since, ", for %.3f s", (double)(now - t->t.since) / 1e9);
    }
    lunl_push_held(L, tree->S, t->t.done.order);
    lunl_text(L, top + 1, NULL);
    push_state(L, &t->t);
    lua_pushfstring(L, "%s %s%s%s", lua_tostring(L, top + 2), lua_tostring(L, top + 3),
                    since, t->t.requests > 0 ? ", asked to stop" : "");
    lunl_print_lines(&tree->out, columns(depth));
    lua_settop(L, top);
    if (t->t.at == LUN_AT_NEW || !t->co_slot)
        return;
    lua_State *co = lunl_task_co(tree->S, t);
    size_t size = lunl_trace_task(co, co == L ? 1 : 0, frames, sizeof frames);
    if (size > 1) { /* it begins with a line feed */
        lua_pushlstring(L, frames + 1, size - 1);
        lunl_print_lines(&tree->out, columns(depth));
    }
}

/* Adds a line for a child that is no new task: one told of above, or a future of another
 * kind. */
static void mention(struct tree *tree, const lun_future *f, const struct node *node,
                    int depth)
{
    lua_State *L = tree->out.L;
    if (node) {
        lunl_push_held(L, tree->S, node->t->t.done.order);
        lunl_text(L, -1, NULL);
        lua_pushfstring(L, "%s, see above", lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
    } else {
        lua_pushfstring(L, "<%s pending>", f->kind->name);
    }
    lunl_print_lines(&tree->out, columns(depth));
}

/* Shows a task and all that it waits for. */
static void walk(struct tree *tree, struct node *root)
{
    struct node *at = root;
    int depth = 0;
    root->shown = true;
    show(tree, root, depth);
    for (;;) {
        lun_future *f = next_child(at);
        struct node *child = f ? node_of(tree, f) : NULL;
        if (!f) {
            if (at == root)
                return;
            at = &tree->nodes[at->parent];
            depth--;
        } else if (!child || child->shown) {
            if (child || lun_is_join(waits_on(&at->t->t)))
                mention(tree, f, child, depth + 1);
        } else {
            child->parent = (uint32_t)(at - tree->nodes);
            child->shown = true;
            at = child;
            show(tree, at, ++depth);
        }
    }
}

/* Protected: the state record -> the text of the tree. */
static int draw(lua_State *L)
{
    struct tree tree;
    plant(L, lua_touserdata(L, 1), &tree);
    lunl_print_begin(&tree.out, L);
    lua_pushfstring(L, "%d unfinished task%s", (int)tree.n, tree.n == 1 ? "" : "s");
    lunl_print_lines(&tree.out, 0);
    find_roots(&tree);
    for (uint32_t i = 0; i < tree.n; i++)
        if (!tree.nodes[i].awaited)
            walk(&tree, &tree.nodes[i]);
    for (uint32_t i = 0; i < tree.n; i++)
        if (!tree.nodes[i].shown)
            walk(&tree, &tree.nodes[i]);
    lunl_print_end(&tree.out, NULL);
    return 1;
}

/* ---- where the text goes ---- */

static int written_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

/* Nil, or an object with a method `write`, which is left on the stack; TypeError. */
static bool check_file(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return false;
    bool indexable = lua_istable(L, arg);
    if (!indexable && luaL_getmetafield(L, arg, "__index") != LUA_TNIL) {
        lua_pop(L, 1);
        indexable = lua_isuserdata(L, arg);
    }
    if (indexable) {
        lua_getfield(L, arg, "write");
        if (lunl_callable(L, -1))
            return true;
    }
    lunl_type_error(L, arg, "file");
}

/* The text on top goes to the file at `arg`, with its method below the text, or to stderr.
 */
static int output(lua_State *L, int arg, bool file)
{
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    if (!file) {
        lunl_write_error(text, size);
        return 0;
    }
    lua_pushvalue(L, arg);
    lua_insert(L, -2);
    lua_callk(L, 2, 0, 0, written_k);
    return 0;
}

/* ---- what scripts see ---- */

/* --- async.traceback(error) -> string or nil
 * The traceback that was recorded when the error object left a task, with the awaits that
 * it crossed; of a Task or Future, that of its error. Nil for other values, and for errors
 * that never left a task. Throws TypeError if there is no argument. Does not suspend. */
static int l_traceback(lua_State *L)
{
    if (lua_isnone(L, 1))
        lunl_type_error(L, 1, "value");
    lun_future *f = lunl_to_future(L, 1);
    if (f)
        lunl_push_trace(L, 1, f);
    else
        lunl_push_error_trace(L, 1);
    return 1;
}

/* --- async.print_exception(error, file)
 * Prints the error as the default exception handler does: its text and traceback, the
 * errors it was raised from, the members of a group. `file` is any object with a method
 * write (stderr). Throws TypeError. Suspends only if `write` does. */
static int l_print_exception(lua_State *L)
{
    lunl_print p;
    if (lua_isnone(L, 1))
        lunl_type_error(L, 1, "value");
    lua_settop(L, 2);
    bool file = check_file(L, 2);
    lunl_print_begin(&p, L);
    lunl_print_error(&p, 1, 0, 0);
    lunl_print_end(&p, NULL);
    return output(L, 2, file);
}

/* --- async.dump(file)
 * Prints every unfinished task as a tree: who waits for whom, since when, how long sleepers
 * still sleep, the stack of each. `file` is any object with a method write (stderr). Throws
 * TypeError. Suspends only if `write` does. */
static int l_dump(lua_State *L)
{
    lua_settop(L, 1);
    bool file = check_file(L, 1), runs = lua_gc(L, LUA_GCISRUNNING);
    lua_pushcfunction(L, draw);
    lua_pushlightuserdata(L, lunl_S(L));
    lua_gc(L, LUA_GCSTOP);
    int status = lua_pcall(L, 1, 1, 0);
    if (runs)
        lua_gc(L, LUA_GCRESTART);
    if (status != LUA_OK)
        return lua_error(L);
    return output(L, 1, file);
}

void lunl_open_dump(lua_State *L)
{
    static const luaL_Reg functions[] = {{"traceback", l_traceback},
                                         {"print_exception", l_print_exception},
                                         {"dump", l_dump},
                                         {NULL, NULL}};
    lunl_register(L, functions);
}

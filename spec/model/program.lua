-- Programs of the model fuzz: a tree of operations, its text in Lua, and one run of that text.
--
-- A block is a list of operations; an operation is { op = name, ... } and may hold blocks and arguments. `text` writes
-- the program with the names of `async`; the same text runs over the engine and over the model, so what a failure
-- prints is what ran. Slots are global to the program: T[n] tasks, F[n] futures and shields, L locks, P semaphores,
-- V events, C conditions, B barriers, Q queues, S[n] timeout scopes, G[n] groups, H[n] handles, K[n] callbacks.
--
-- Law: a slot is used without a question only where it surely is filled; elsewhere the text asks first, so that every
-- part of a program can be dropped and the rest still runs.
local program = {}

-- ---- text ----

local Writer = {}
Writer.__index = Writer

local write_op -- table of writers by name, below

function Writer:line(text, ...)
  local n = #self.lines + 1
  self.lines[n] = self.indent .. (select("#", ...) > 0 and text:format(...) or text)
end

function Writer:block(ops)
  local indent, known = self.indent, self.known
  self.indent = indent .. "  "
  self.known = setmetatable({}, { __index = known })
  for _, op in ipairs(ops) do self:op(op) end
  self.indent, self.known = indent, known
end

-- The names that an operation needs filled and that might not be.
local function unsure(w, op)
  local list = {}
  local function look(name)
    if name and not w.known[name] then
      for _, other in ipairs(list) do
        if other == name then return end
      end
      list[#list + 1] = name
    end
  end
  look(op.on)
  look(op.also)
  for _, arg in ipairs(op.args or {}) do
    if arg.ref then look(arg.ref) end
  end
  return list
end

function Writer:op(op)
  self.n = self.n + 1
  op.n = self.n
  local ask = unsure(self, op)
  if #ask > 0 then
    self:line("if %s then", table.concat(ask, " and "))
    local indent = self.indent
    self.indent = indent .. "  "
    write_op[op.op](self, op)
    self.indent = indent
    self:line("end")
  else
    write_op[op.op](self, op)
  end
  if op.fills and #ask == 0 then self.known[op.fills] = true end
end

-- Writes `before function(params) ... end after`, the function of a task.
function Writer:task(before, op, block, after, params)
  self:line("%sfunction(%s)", before, params or "")
  local indent = self.indent
  self.indent = indent .. "  "
  self:line("local _ <close> = ended(%d)", op.n)
  self.indent = indent
  -- Inside, the task's own slot is filled: the body runs in a later turn.
  local known = self.known
  if op.fills then self.known = setmetatable({ [op.fills] = true }, { __index = known }) end
  self:block(block)
  self.known = known
  self.indent = indent .. "  "
  if op.returns then self:line("return %s", op.returns:gsub("N", op.n)) end
  self.indent = indent
  self:line("end" .. after)
end

-- The arguments of a combinator as a list: references and functions.
function Writer:list(before, op, after)
  self:line(before .. "{")
  local indent = self.indent
  self.indent = indent .. "  "
  for _, arg in ipairs(op.args) do
    if arg.ref then
      self:line(arg.ref .. ",")
    else
      self:task("", { n = op.n, returns = arg.returns }, arg.block, ",")
    end
  end
  self.indent = indent
  self:line("}" .. after)
end

local function simple(text)
  return function(w, op)
    w:line((text:gsub("[NXAM]", { N = op.n, X = op.on, A = op.arg, M = op.msg and '"m' .. op.n .. '"' or "" })))
  end
end

-- The same; the argument may hold the number, too.
local function item(text)
  return function(w, op)
    w:line((text:gsub("[NXA]", { N = op.n, X = op.on, A = op.arg:gsub("N", op.n) })))
  end
end

-- `before`, the block as a function's body, `after`.
local function around(before, after)
  return function(w, op)
    local function fill(text) return (text:gsub("[NXA]", { N = op.n, X = op.on, A = op.arg })) end
    w:line(fill(before))
    w:block(op.block)
    w:line(fill(after))
  end
end

local function scope(opening, after)
  return function(w, op)
    w:line("do")
    w:line("  " .. opening:gsub("[NXAI]", { N = op.n, X = op.on, A = op.arg, I = op.fills }))
    local known = w.known
    if op.fills then w.known = setmetatable({ [op.fills] = true }, { __index = known }) end
    w:block(op.block)
    w.known = known
    w:line("end")
    if after then w:line((after:gsub("[NXAI]", { N = op.n, X = op.on, A = op.arg, I = op.fills }))) end
  end
end

local function over_list(name)
  return function(w, op)
    w:list(("log(%d, async.%s("):format(op.n, name), op, (op.options and ", { " .. op.options .. " }" or "") .. "))")
  end
end

write_op = {
  sleep = simple "log(N, async.sleep(A, N))",
  yield = simple "log(N, async.coroutine.yield())",
  spawn = function(w, op)
    local before = ('%s = named("%s", async.create_task('):format(op.fills, op.fills)
    w:task(before, op, op.block, ", " .. op.n .. "))", "...")
  end,
  group_spawn = function(w, op)
    w:task(op.fills .. (' = named("%s", %s:create_task('):format(op.fills, op.on), op, op.block, "))")
  end,
  call = function(w, op) w:task(("log(%d, async.await("):format(op.n), op, op.block, "))") end,
  metaawait = function(w, op) w:task(("log(%d, async.await(awaitable("):format(op.n), op, op.block, ")))") end,
  await = simple "log(N, async.await(X))",
  cancel = simple "log(N, X:cancel(M))",
  cancel_self = simple "log(N, async.current_task():cancel(M))",
  cancelling = simple "log(N, X:cancelling())",
  uncancel = simple "log(N, X:uncancel())",
  uncancel_self = simple "log(N, async.current_task():uncancel())",
  state = simple "log(N, X:done(), X:cancelled())",
  result = simple "log(N, pcall(X.result, X))",
  exception = simple "log(N, pcall(X.exception, X))",
  set_result = simple "log(N, pcall(X.set_result, XA))",
  set_exception = simple "log(N, pcall(X.set_exception, X, err(N, \"A\")))",
  add_callback = function(w, op)
    w:line("%s = function(f)", op.fills)
    w:line("  log(%d, \"called\", f)", op.n)
    w:block(op.block)
    w:line("end")
    w:line("%s:add_done_callback(%s)", op.on, op.fills)
  end,
  remove_callback = simple "log(N, X:remove_done_callback(A))",
  call_soon = function(w, op)
    w:line("%s = loop:call_soon(function(...)", op.fills)
    w:line("  log(%d, \"called\", ...)", op.n)
    w:block(op.block)
    w:line("end, %d, nil)", op.n)
  end,
  call_at = function(w, op)
    w:line("%s = loop:call_at(loop:time() + %s, function(...) log(%d, ...) end, nil, %d)", op.fills, op.arg, op.n, op.n)
    w:line("log(%d, %s:when())", op.n, op.fills)
  end,
  call_later = function(w, op)
    w:line("%s = loop:call_later(%s, function()", op.fills, op.arg)
    w:line("  log(%d, \"called\")", op.n)
    w:block(op.block)
    w:line("end)")
  end,
  cancel_handle = simple "X:cancel() log(N, X:cancelled())",
  pcall = around("log(N, pcall(function()", "end))"),
  async_pcall = around("log(N, async.pcall(function()", "end))"),
  xpcall = around("log(N, async.xpcall(function()",
    "end, function(e) if not forced() then log(N, \"handles\", e) end return e end))"),
  throw = simple "error(err(N, \"A\"), 0)",
  defer = function(w, op)
    w:line("do")
    w:line("  local _ <close> = async.defer(function(e)")
    w:line("    if forced() then return end")
    w:line("    log(%d, \"leaves\", e)", op.n)
    w.indent = w.indent .. "  "
    w:block(op.cleanup)
    w:line("  log(%d, \"left\")", op.n)
    w.indent = w.indent:sub(3)
    w:line("  end)")
    w:block(op.block)
    w:line("end")
  end,
  close = function(w, op)
    w:line("do")
    w:line("  local _ <close> = closer(function(e)")
    w:line("    if forced() then return end")
    w:line("    log(%d, \"closes\", e)", op.n)
    w.indent = w.indent .. "  "
    w:block(op.cleanup)
    w.indent = w.indent:sub(3)
    w:line("  end)")
    w:block(op.block)
    w:line("end")
  end,
  timeout = scope("local scope <close> = async.timeout(A) I = scope", "log(N, I:expired(), I:when())"),
  timeout_at = scope("local scope <close> = async.timeout_at(loop:time() + A) I = scope", "log(N, I:expired())"),
  reschedule = simple "log(N, pcall(X.reschedule, X, A))",
  group = scope("local group <close> = async.TaskGroup() I = group", "log(N, \"group\")"),
  gather = over_list "gather",
  wait = over_list "wait",
  race = over_list "race",
  wait_for = function(w, op)
    local arg = op.args[1]
    if arg.ref then return w:line("log(%d, async.wait_for(%s, %s))", op.n, arg.ref, op.arg) end
    w:task(("log(%d, async.wait_for("):format(op.n), { n = op.n, returns = arg.returns }, arg.block,
      ", " .. op.arg .. "))")
  end,
  shield = function(w, op)
    local arg, before = op.args[1], ('%s = named("%s", async.shield('):format(op.fills, op.fills)
    if arg.ref then return w:line("%s%s))", before, arg.ref) end
    w:task(before, { n = op.n, returns = arg.returns }, arg.block, "))")
  end,
  map = function(w, op)
    w:task(("log(%d, async.map({ %s }, "):format(op.n, op.arg), op, op.block,
      (op.options and ", { " .. op.options .. " }" or "") .. "))", "x, i")
  end,
  as_completed = function(w, op)
    w:line("do")
    local options = op.options and ", { " .. op.options .. " }" or ""
    w:list("  local iterator <close> = async.as_completed(", op, options .. ")")
    w:line("  for task in iterator do")
    w:line("    log(%d, task)", op.n)
    w:block(op.block)
    if op.breaks then w:line("    break") end
    w:line("  end")
    w:line("end")
  end,
  guard = scope("local _ <close> = X:guard() log(N, \"held\")"),
  acquire = simple "log(N, X:acquire())",
  release = simple "log(N, pcall(X.release, X))",
  locked = simple "log(N, X:locked())",
  set = simple "X:set() log(N)",
  clear = simple "X:clear() log(N, X:is_set())",
  wait_event = simple "log(N, X:wait())",
  condition_wait = scope("local _ <close> = X:guard() log(N, X:wait())"),
  condition_wait_for = function(w, op)
    w:line("do")
    w:line("  local _ <close> = %s:guard()", op.on)
    w:line("  local turns = 0")
    w:line("  log(%d, %s:wait_for(function() turns = turns + 1 log(%d, turns) return turns > %s end))", op.n, op.on,
      op.n, op.arg)
    w:line("end")
  end,
  notify = scope("local _ <close> = X:guard() X:notify(A) log(N)"),
  notify_all = simple "log(N, pcall(X.notify_all, X))",
  barrier = simple "log(N, X:wait())",
  barrier_state = simple "log(N, X.n_waiting, X.broken)",
  abort = simple "X:abort() log(N)",
  reset = simple "X:reset() log(N)",
  put = item "log(N, X:put(A))",
  get = simple "log(N, X:get())",
  put_nowait = item "log(N, pcall(X.put_nowait, X, A))",
  get_nowait = simple "log(N, pcall(X.get_nowait, X))",
  join = simple "log(N, X:join())",
  task_done = simple "log(N, pcall(X.task_done, X))",
  qsize = simple "log(N, X:qsize(), X:empty(), X:full())",
  shutdown = simple "X:shutdown(A) log(N)",
  iter = function(w, op)
    w:line("do")
    w:line("  local most = 3")
    w:line("  for item in %s:iter() do", op.on)
    w:line("    log(%d, item)", op.n)
    w:block(op.block)
    w:line("    most = most - 1")
    w:line("    if most == 0 then break end")
    w:line("  end")
    w:line("end")
  end,
  tasks = simple "log(N, #async.all_tasks(), async.current_task())",
  report = simple "loop:call_exception_handler { message = \"r\" .. N } log(N)",
  -- Awaits that find their result there; every so often one gives way.
  often_wait = simple "X:set() for _ = 1, 300 do X:wait() end log(N)",
  often_acquire = simple "for _ = 1, 200 do X:acquire() X:release() end log(N)",
  often_await = simple "for _ = 1, 140 do pcall(async.await, X) end log(N)",
  often_get = simple "for _ = 1, 150 do X:put_nowait(1) X:get() end log(N)",
  often_join = simple "for _ = 1, 60 do async.wait({ X }) async.gather({ X }) async.race({ X }) end log(N)",
  again = around("for _ = 1, A do", "end"),
}
program.writers = write_op

-- The text of a program: a chunk that, called with `async` and the helpers, returns its main function.
function program.text(prog)
  local w = setmetatable({ lines = {}, indent = "", n = 0, known = {} }, Writer)
  w:line "local async, log, err, ended, named, closer, awaitable, forced, item, less, loop = ..."
  w:line "local T, F, L, P, V, C, B, Q, S, G, H, K = select(12, ...)"
  for _, made in ipairs(prog.objects) do
    w:line("%s = async.%s(%s)", made.name, made.class, made.arg or "")
    if made.class == "Future" then w:line("named(\"%s\", %s)", made.name, made.name) end
    w.known[made.name] = true
  end
  w:line "return function()"
  w:line "  local _ <close> = ended(0)"
  w:block(prog.block)
  if prog.returns then w:line("  return " .. prog.returns) end
  w:line "end"
  return table.concat(w.lines, "\n") .. "\n"
end

-- How many operations a block has.
function program.count(block)
  local n = 0
  for _, op in ipairs(block) do
    n = n + 1 + program.count(op.block or {}) + program.count(op.cleanup or {})
    for _, arg in ipairs(op.args or {}) do n = n + program.count(arg.block or {}) end
  end
  return n
end

return program

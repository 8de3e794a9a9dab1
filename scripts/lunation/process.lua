-- lunation.process: children of this process, as asyncio's subprocesses: a program and a list of arguments, which no
-- shell interprets. (An executable text without a `#!` line is run by /bin/sh, as by execvp.)
--
-- Laws:
--  1. No child outlives what holds it: the block of a `<close>` variable, the object with its streams, the call of run,
--     the loop; unless it is detached, or this process is killed.
--  2. No zombie and no descriptor is left, whatever is cancelled and whenever.
--
-- Options that all functions know:
--   stdin, stdout, stderr   "pipe": a stream, "inherit": ours, "null": /dev/null, the number of a descriptor, an open
--       file (of io, which is flushed, or of async.fs; both share their position with the child), or a Stream, which is
--       given away: it is closed here once the child has it. stderr = "stdout": both in one
--   cwd         where the child starts; a program with a slash in its name is looked for from there
--   env         {NAME = value}: all of its environment. A program without a slash is looked for in the PATH of that
--   extend_env  {NAME = value}: changes to our environment, or to `env`; false takes a variable away
--   group       true: the child leads a session and a group of its own, which is what signals go to; false: it stays in
--       ours; without it: true unless stdin is a terminal, which only the group in the foreground may read
--   detached    true: it leads a group and is never killed by close, the collector or the end of the loop, behind which
--       nobody reaps it before this process ends
--   uid, gid    numbers; for root
--   limit       of a line read from its outputs, bytes (64 KiB)
local async = require "lunation"
local check = require "lunation.check"
local core = require "lunation.process.core"
local options = require "lunation.process.options"
local Process = require "lunation.process.child"
local run = require "lunation.process.run"
local starter = require "lunation.process.start"

local process = {}

local INHERITED = { stdin = "inherit", stdout = "inherit", stderr = "inherit" }

--- process.spawn(file, args?, opts?) -> Process
-- Starts a program with a list of arguments (strings, numbers, values with __fspath); stdin, stdout and stderr are ours
-- unless opts says otherwise. The Process has the fields pid, stdin, stdout, stderr (streams, or nil) and the methods
-- wait, kill, communicate, close; closable. OSError "spawn FILE: CODE", "chdir CWD: CODE" with the fields code and path;
-- TypeError, ValueError; RuntimeError if no loop runs. Does not suspend.
function process.spawn(file, args, opts)
  local argv = options.argv(options.file(file, 1, "spawn"), args, 1, 2, "spawn")
  local o = options.common(check.options(opts, 3, "spawn"), 3, "spawn", INHERITED)
  return Process.new(file, starter.start(file, argv, o))
end

--- process.run(file, args?, opts?) -> {code, signal, stdout, stderr}
-- Runs a program to its end. stdin is /dev/null and both outputs are captured unless opts says otherwise. `code` is nil
-- if a signal ended it, `signal` its name. More options:
--   input       a string for its stdin
--   timeout     seconds, then TimeoutError
--   check       true: ProcessError, with the same fields, unless the code is 0
--   max_output  bytes of both outputs together (16 MiB); more kill the child: LimitOverrunError
--   grace       seconds (2), see below
-- Suspends. Cancelled or out of time, the child and its group get TERM, and KILL after `grace` seconds; when the child
-- ends, what is left of its group is killed. Only then is the error thrown, with what was read in its fields stdout and
-- stderr. A second cancel sends KILL and waits no longer. A child may end while others hold its outputs or its input:
-- then that goes on until nothing has passed for `grace` seconds, and the result's field `unfinished` is true. Otherwise
-- throws as spawn does.
process.run = run.run

--- process.pipeline(commands, opts?) -> {code, signal, stdout, stderr, children}
-- Runs a list of commands {file, args...}, the output of each in the input of the next. Options as run's, for all of
-- them: stdin and input for the first, stdout for the last, stderr for all. `code` and `signal` are the last one's;
-- `children` has {file, code, signal} for each. check: ProcessError for the first that failed, save that all but the
-- last may end by SIGPIPE. If one cannot be started, those before it are killed. Suspends and throws as run does.
process.pipeline = run.pipeline

--- process.pipe() -> reader, writer
-- Two streams, the ends of a new pipe, to be used here or given to children. OSError "pipe: CODE", RuntimeError if no
-- loop runs. Does not suspend.
function process.pipe() return core.pipe("rw") end

--- process.socketpair() -> a, b
-- Two connected streams that go both ways: one for us, the other for a child, say as its stdin and stdout in one.
-- OSError "socketpair: CODE", RuntimeError if no loop runs. Does not suspend.
function process.socketpair() return core.socketpair() end

--- process.environ() -> table of the variables of our environment. Does not suspend.
process.environ = core.environ

process.ProcessError = run.ProcessError

--- process.Process: the class, for type checks by metatable.
process.Process = Process

return process

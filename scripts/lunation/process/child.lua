-- Process: a child and its streams as scripts see them.
--
-- Law: the object may be dropped, closed and forgotten at any time: the Child inside it (lunation.process.core) kills,
-- reaps and closes what is left.
local async = require "lunation"
local check = require "lunation.check"
local Talk = require "lunation.process.talk"

local Process = { __name = "Process" }
Process.__index = Process

-- Whoever has one of its streams has the child: stream -> Child.
local owners = setmetatable({}, { __mode = "k" })

function Process.new(file, child, streams)
  for _, stream in pairs(streams) do owners[stream] = child end
  return setmetatable({
    pid = child:pid(),
    file = file,
    stdin = streams.stdin,
    stdout = streams.stdout,
    stderr = streams.stderr,
    child = child,
    talk = Talk.new({ child }, streams),
  }, Process)
end

--- process:wait() -> code, or nil and the name of the signal that ended it, such as "SIGKILL"
-- Suspends until the child has ended; its output may be unread then. A child that writes more than a pipe holds (64
-- KiB) into one that nobody reads never ends: see communicate. Any number of tasks may wait, before and after the end;
-- safe to cancel. OSError ECANCELED if its loop closed before, RuntimeError in another loop.
function Process:wait()
  check.self(self, Process, "wait")
  return self.child:wait()
end

--- process:kill(signal?) -> boolean
-- Sends a signal, "SIGTERM" or "TERM" or a number (TERM if nil; 0 only asks), to the child and, if it leads one, to all
-- of its group. false if it has ended. TypeError, ValueError, OSError "kill PID: CODE". Does not suspend.
function Process:kill(signal)
  check.self(self, Process, "kill")
  return self.child:kill(signal == nil and "TERM" or signal)
end

--- process:communicate(input?) -> stdout, stderr
-- Writes the string `input` to the child's stdin and closes that, reads both outputs to their ends, and waits for the
-- end of the child; nil for an output that is no pipe. A child that does not read its input is no error. Suspends;
-- cancelled, the child goes on, and the next call gives the whole output; the `input` of the first call counts, and
-- goes on being written meanwhile. TypeError; ValueError for input without a pipe; RuntimeError while another task does
-- the same.
function Process:communicate(input)
  check.self(self, Process, "communicate")
  if input ~= nil then
    if type(input) ~= "string" then
      error(async.TypeError(("bad argument #1 to 'communicate' (string expected, got %s)"):format(type(input))), 0)
    end
    if not self.stdin then error(async.ValueError("communicate: input, but stdin is no pipe"), 0) end
  end
  local talk = self.talk
  if talk.busy then
    error(async.RuntimeError("communicate: another task communicates with this process"), 0)
  end
  talk:feed(input)
  talk:collect()
  return talk:text("stdout"), talk:text("stderr")
end

--- process:close()
-- Closes the streams, and kills (KILL) the child with its group if it still runs and is not detached; it is reaped
-- whenever it ends. Harmless the second time; also at the end of the block of a `<close>` variable. wait() still tells
-- how it ended. Does not suspend.
function Process:close()
  check.self(self, Process, "close")
  self.talk:close()
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    if self[name] then self[name]:close() end
  end
end

Process.__close = Process.close

--- tostring(process) -> "<Process 4711 running sort>", "<Process 4711 exited 0 sort>", "<Process 4711 SIGKILL sort>"
function Process:__tostring()
  local code, signal = self.child:status()
  local state = signal or code and "exited " .. code or "running"
  return ("<Process %d %s %s>"):format(self.pid, state, self.file)
end

return Process

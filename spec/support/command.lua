-- Subprocesses for specs: runs a program to its end and returns what it printed and how it ended; starts and stops
-- servers. Built on the shell alone, so that it works before and without the runtime's own processes.
local command = {}

-- The command under test, the folder that holds the module for the stock interpreter, and the words that start that.
command.lunation = os.getenv("LUNATION") or "build/release/lunation"
command.libdir = command.lunation:match("^(.*)/[^/]*$")
command.module = os.getenv("LUNATION_MODULE") or command.libdir .. "/lua"
command.stock = {}
for word in (os.getenv("LUNATION_LUA") or "lua5.4"):gmatch("%S+") do command.stock[#command.stock + 1] = word end

-- One word for the shell, whatever it contains.
function command.quote(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end
local quote = command.quote

local function slurp(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end
command.slurp = slurp

function command.write_file(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local function capture(line)
  local pipe = assert(io.popen(line, "r"))
  local text = pipe:read("a")
  return text, pipe:close()
end

-- A new folder for temporary files; the caller removes it.
function command.temp_dir()
  local path = capture("mktemp -d"):match("^(/[^\n]+)\n$")
  return assert(path, "mktemp -d made no folder")
end

function command.remove_dir(path)
  os.execute("rm -rf -- " .. quote(path))
end

local function words(list)
  local quoted = {}
  for i, word in ipairs(list) do quoted[i] = quote(word) end
  return table.concat(quoted, " ")
end

local function environment(env)
  local list = { "env" }
  for name, value in pairs(env or {}) do list[#list + 1] = quote(name .. "=" .. value) end
  return table.concat(list, " ")
end

-- run{program, arguments..., env = {NAME = value}, limit = 60, interrupt = path} -> stdout, stderr, exit code, signal
--
-- A program that died of a signal has the exit code that a shell would see (128 + number), and the number as the
-- fourth result. One that is still running after `limit` seconds is killed: code 124, or 137 if it had to be KILL.
-- `interrupt`: as soon as the file of that name is there, the program gets a SIGINT.
function command.run(spec)
  local errors = os.tmpname()
  local guard = "timeout --foreground --kill-after=5 " .. (spec.limit or 60) .. " "
  local line = "exec " .. environment(spec.env) .. " " .. guard .. words(spec) .. " </dev/null 2>" .. quote(errors)
  if spec.interrupt then
    -- The shell's $$ is the guard after the exec, which hands the signal on. The watcher gives up by itself, and does
    -- not hold our end of the pipe.
    local there = "[ -e " .. quote(spec.interrupt) .. " ]"
    line = "(for i in $(seq 200); do if " .. there .. "; then sleep 0.2; kill -s INT $$; break; fi; sleep 0.05; done)"
      .. " </dev/null >/dev/null 2>&1 & " .. line
  end
  local stdout, _, how, code = capture(line)
  local stderr = slurp(errors)
  os.remove(errors)
  if how == "signal" then return stdout, stderr, 128 + code, code end
  return stdout, stderr, code, nil
end

-- Starts a server in the background; it is killed after 5 minutes even if nobody stops it. Returns its process id.
function command.start(spec)
  local log = quote(spec.log or "/dev/null")
  local line = environment(spec.env) .. " timeout --kill-after=5 300 " .. words(spec)
    .. " </dev/null >>" .. log .. " 2>&1 & echo $!"
  return assert(capture(line):match("^(%d+)\n$"), "the process was not started")
end

-- Waits until a condition of the shell holds; false if it does not come true within `seconds`.
function command.wait_until(condition, seconds)
  local tries = math.ceil((seconds or 10) / 0.05)
  local line = ("for i in $(seq %d); do if %s; then exit 0; fi; sleep 0.05; done; exit 1"):format(tries, condition)
  return (os.execute(line))
end

-- The condition that a process has ended; one that nobody has waited for yet (Z) counts as ended.
function command.ended(pid)
  return "! ps -o stat= -p " .. pid .. " | grep -qv Z"
end

-- Stops what `start` started, and returns when it is gone.
function command.stop(pid)
  os.execute("kill -s TERM " .. pid .. " 2>/dev/null")
  if not command.wait_until(command.ended(pid), 5) then os.execute("kill -s KILL " .. pid) end
end

-- A TCP port of 127.0.0.1 on which nobody listens.
function command.free_port()
  local text = capture [[python3 -c '
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])']]
  return math.tointeger(assert(tonumber(text), "no free port"))
end

return command

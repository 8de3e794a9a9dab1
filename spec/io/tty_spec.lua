-- Terminals: the standard streams of programs that run in one of their own (util-linux's `script` makes it and types
-- what it gets), and the module tty.
local helper = require "spec.helper"
local command = require "spec.support.command"
local tty = require "lunation.tty"

local refuses = helper.refuses

-- What scripts here begin with; the typist waits for the file.
local PRELUDE = [[
  local async = require "lunation"
  io.open(os.getenv "D" .. "/ready", "w"):close()
  local function flags(fd) return io.open("/proc/self/fdinfo/" .. fd):read "a":match "flags:%s*(%d+)" end
  local before = { flags(0), flags(1), flags(2) }
  local tty, stdin, stdout = async.tty, async.stdin, async.stdout
]]

local dir
setup(function() dir = command.temp_dir() end)
teardown(function() command.remove_dir(dir) end)

local TYPIST = [[
  rm -f $D/ready
  (i=0; until [ -e $D/ready ] || [ $i -gt 500 ]; do i=$((i+1)); sleep 0.02; done; printf "$TYPED"; sleep 0.3) |
    exec env --default-signal=INT script -qec "stty -echo cols 97 rows 31; $LINE" /dev/null
]]

-- Runs a line of the shell, $L the command and $S the script, in a terminal in which `typed` (for printf) is typed
-- as soon as the script runs -> what the terminal shows, with plain line ends; exit code
local function terminal(text, typed, line)
  command.write_file(dir .. "/script.lua", PRELUDE:gsub("\n", " ") .. text)
  local out, err, code = command.run {
    "sh", "-c", TYPIST, env = { L = command.lunation, S = dir .. "/script.lua", D = dir, SHELL = "/bin/sh",
      TYPED = typed or "", LINE = line or "$L $S" },
    limit = 30 * math.max(1, helper.slow // 2) }
  if err ~= "" then error(err, 2) end
  return (out:gsub("\r\n", "\n")), code
end

describe("a terminal", function()
  it("is read line by line, and written", function()
    local out, code = terminal([[
      stdout:write("name? ")
      print("hello " .. stdin:read())
      stdout:write("more? ")
      for line in stdin:lines() do print("and " .. line) end
    ]], "you\\none\\ntwo\\n\\004")
    assert.equal("name? hello you\nmore? and one\nand two\n", out)
    assert.equal(0, code)
  end)

  it("lets other tasks run while nobody types", function()
    local out = terminal([[
      local n = 0
      local ticker = async.create_task(function() while true do async.sleep(0) n = n + 1 end end)
      print(stdin:read(), n > 0)
      ticker:cancel()
    ]], "x\\n")
    assert.equal("x\ttrue\n", out)
  end)

  it("takes much output, in order with print", function()
    local out = terminal [[
      for i = 1, 3000 do
        if i % 2 == 0 then stdout:write(i, "\n") else print(i) end
      end
    ]]
    local n = 0
    for line in out:gmatch("[^\n]+") do
      n = n + 1
      assert.equal(tostring(n), line)
    end
    assert.equal(3000, n)
  end)

  it("is left as it was: the shell's open file is not touched", function()
    local out = terminal([[
      async.stderr:write("e")
      stdout:write("o")
      local line = stdin:read()
      print(line, flags(0) == before[1] and flags(1) == before[2] and flags(2) == before[3])
    ]], "x\\n", "cat /proc/self/fdinfo/0 | grep flags; $L $S; cat /proc/self/fdinfo/0 | grep flags")
    local before, shown, after = out:match("^flags:%s*(%d+)\n(.*)flags:%s*(%d+)\n$")
    assert.equal(before, after, out)
    assert.equal("eox\ttrue\n", shown)
  end)

  it("whose keys interrupt does so while it is read", function()
    local out, code = terminal([[
      local _ <close> = async.defer(function(e) print(e.name) end)
      stdin:read()
    ]], "\\003")
    assert.equal(130, code)
    assert.matches("CancelledError\nlunation: interrupted\n$", out)
  end)

  it("that hangs up ends the reading", function()
    command.write_file(dir .. "/hangup.lua", PRELUDE:gsub("\n", " ") .. [[
      local task = async.create_task(function() return stdin:read(), stdin:read() end)
      async.sleep(0)
      stdout:write "ready\n"
      print(pcall(async.await, task))
    ]])
    local out, err = command.run { "python3", "-c", [[
import os, pty, subprocess, sys
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=subprocess.PIPE, text=True)
os.close(slave)
child.stdout.readline()
os.write(master, b"typed\n")
os.close(master)
print(child.stdout.read(), end="")
]], command.lunation, dir .. "/hangup.lua", env = { D = dir } }
    assert.equal("", err)
    -- The kernel drops what is typed and not read; what is read is not lost.
    assert.is_truthy(out == "true\ttyped\tnil\n" or out == "true\tnil\tnil\n" or out:find("EIO", 1, true), out)
  end)

  it("as its other side, the master, is read without making another one", function()
    command.write_file(dir .. "/master.lua", PRELUDE:gsub("\n", " ") .. "print(stdin:read())")
    local out, err = command.run { "python3", "-c", [[
import os, pty, subprocess, sys
master, slave = pty.openpty()
os.write(slave, b"from the other side\n")
subprocess.run(sys.argv[1:], stdin=master, timeout=20)
]], command.lunation, dir .. "/master.lua", env = { D = dir } }
    assert.equal("", err)
    assert.equal("from the other side\r\n", out)
  end)
end)

describe("tty", function()
  it("knows terminals and their sizes", function()
    assert.equal("true\ttrue\ttrue\tfalse\n97\t31\n", (terminal [[
      print(tty.isatty(0), tty.isatty(1), tty.isatty(2), tty.isatty(99))
      print(tty.size(1))
    ]]))
  end)

  it("is told of a new size by SIGWINCH", function()
    assert.equal("SIGWINCH\t40\t31\n", (terminal [[
      local listener <close> = async.signal.listen "WINCH"
      os.execute "stty cols 40"
      print(listener:next(), tty.size(1))
    ]]))
  end)

  it("says what is none", function()
    local file <close> = io.open("/dev/null")
    assert(file)
    local out = command.run { command.lunation, "-l", "async=lunation", "-e", [[
      print(async.tty.isatty(0), select(2, pcall(async.tty.size, 0)), select(2, pcall(async.tty.size, 99)))
    ]] }
    assert.equal("false\tOSError: tty.size 0: ENOTTY\tOSError: tty.size 99: EBADF\n", out)
  end)

  it("checks its arguments", function()
    refuses("TypeError", "#1 to 'isatty'", tty.isatty)
    refuses("TypeError", "#1 to 'size'", tty.size, "1")
    refuses("ValueError", "#1 to 'size'", tty.size, -1)
  end)
end)

-- What the README shows is true: its script runs, its hosts compile, link and run, in C and in C++.
local command = require "spec.support.command"

local text = assert(command.slurp("README.md"))

-- The block of code in that language that has `mark` in it.
local function block(language, mark)
  for code in text:gmatch("```" .. language .. "\n(.-)```") do
    if code:find(mark, 1, true) then return code end
  end
  error("README.md has no block of " .. language .. " with " .. mark)
end

-- Compiles and links a host the way the README says, against the build under test, and runs it: what it printed.
local function host(compiler, name, code)
  local dir <close> = setmetatable({ path = command.temp_dir() }, {
    __close = function(self) command.remove_dir(self.path) end,
  })
  local source, program = dir.path .. "/" .. name, dir.path .. "/host"
  command.write_file(source, code)
  local stdout, stderr, status = command.run { "sh", "-c", table.concat({
    compiler, "-Wall -Wextra", command.quote(source), "-Icore -Ibindings $(pkg-config --cflags lua5.4 libuv)",
    "-L" .. command.quote(command.libdir), "-llunation $(pkg-config --libs lua5.4 libuv)",
    '-Wl,-rpath,"$(realpath ' .. command.quote(command.libdir) .. ')"', "-o", command.quote(program),
  }, " ") }
  assert.equal(0, status, stdout .. stderr)
  -- The words before the stock interpreter are those that a program needs which loads this build.
  local call = { table.unpack(command.stock, 1, #command.stock - 1) }
  call[#call + 1] = program
  stdout, stderr, status = command.run(call)
  assert.equal("", stderr)
  assert.equal(0, status)
  return stdout
end

-- What the script prints with that in it.
local function script(mark)
  local path = os.tmpname()
  command.write_file(path, block("lua", mark))
  local stdout, stderr, status = command.run { command.lunation, path }
  os.remove(path)
  assert.equal("", stderr)
  assert.equal(0, status)
  return stdout
end

describe("the README's", function()
  it("script of files, sockets and processes does what it says", function()
    assert.equal("HELLO\nnumbers\tfile\t4\n0\t2\n1\n\nended by SIGTERM\n", script("net.listen"))
  end)

  it("script runs and prints what it says", function()
    local stdout = script("async.gather")
    assert.truthy(stdout:find("^hello Ada\thello Bob\nValueError: not you\ttrue\n"), stdout)
    assert.truthy(stdout:find("traceback:\n\t[C]: in global 'error'\n", 1, true), stdout)
    assert.truthy(stdout:find("cleaned up after CancelledError\n$"), stdout)
  end)

  it("host in C compiles, links and runs", function()
    assert.equal("42\n", host("cc -std=gnu11", "host.c", block("c", "luaopen_lunation")))
  end)

  it("host in C without Lua does, too", function()
    assert.equal("answer 42\n", host("cc -std=gnu11", "host.c", block("c", "lun_task_finish")))
  end)

  it("headers serve C++", function()
    assert.equal("0\n", host("c++ -std=c++11", "host.cpp", [[
      #include "lunation.h"
      #include <cstdio>
      int main()
      {
          lun_loop loop;
          lun_policy policy = {};
          int err = lun_loop_init(&loop, nullptr, &policy);
          lun_loop_close(&loop);
          printf("%d\n", err);
      }
    ]]))
  end)
end)

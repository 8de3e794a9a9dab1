-- async.stdin and its kin, over a pipe that leads back to ourselves and over /dev/null; questions about terminals.
local async = require "lunation"
local tty = require "lunation.tty"
local runner <close> = async.Runner { debug = sweep.debug }

sweep.stdio(true)
runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  assert(tostring(async.stdout) == "<Stream open stdout>" and async.stdin == async.stdin)
  async.stdout:write("a line\n", 1, "\n")
  assert(async.stdin:read() == "a line" and async.stdin:read("n", "l") == 1)
  local task = async.create_task(function() async.stdout:write(("x"):rep(100000), "\n") end)
  assert(#async.stdin:read(100000) == 100000 and async.stdin:read() == "")
  async.await(task)
  assert(not pcall(async.stdin.write, async.stdin, "x"))
  assert(not pcall(async.stdout.read, async.stdout))
  assert(not pcall(async.stdout.shutdown, async.stdout))
  pcall(async.wait_for, function() async.stdin:read("a") end, 0.0001)
  async.stdin:close()
end)

sweep.stdio(false)
async.run(function()
  local _ <close> = async.timeout(sweep.patience)
  async.stdout:write(("x"):rep(70000), "\n")
  assert(async.stdin:read() == nil and async.stdin:read("a") == "")
  local task = async.create_task(function() async.stdout:write("cut") end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  async.stderr:close()
  assert(not tty.isatty(0) and not pcall(tty.size, 0))
end)

-- Children: run, a pipeline, the life of a process, pipes; refusals. Whoever reads has waited for the end before, so that
-- the bytes come in the same pieces each time.
local async = require "lunation"
local process = require "lunation.process"
local core = require "lunation.process.core"
local runner <close> = async.Runner { debug = sweep.debug }

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local r = process.run("cat", {}, { input = "x", check = true })
  assert(r.code == 0 and r.stdout == "x")
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local p <close> = process.spawn("sleep", { 100 }, { stdin = "null", stdout = "pipe", extend_env = { A = 1 }, cwd = "/" })
  assert(tostring(p) and tostring(p.child) and p.pid > 0)
  local waiting = async.create_task(p.wait, p)
  async.sleep(0)
  assert(p:kill("TERM"))
  local code, signal = async.await(waiting)
  assert(code == nil and signal == "SIGTERM" and not p:kill())
  assert(p:communicate() == "")
end)

runner:run(function()
  local _ <close> = async.timeout(sweep.patience)
  local r = process.pipeline({ { "echo", "a" }, { "cat" } })
  assert(r.stdout == "a\n")
  pcall(process.run, "/nosuch/program")
  pcall(process.run, "sleep", { 100 }, { timeout = 0, grace = 0 })
end)

runner:run(function()
  local reader, writer = process.pipe()
  writer:write("a line\n")
  writer:shutdown()
  assert(reader:read("l") == "a line" and reader:read("l") == nil)
  pcall(writer.read, writer)
  reader:close()
  writer:close()
  local a, b = process.socketpair()
  a:write("x"):shutdown()
  assert(b:read("a") == "x")
  a:close()
  core.give(b)
  local r <close> = core.pipe("")
  assert(tostring(r))
end)

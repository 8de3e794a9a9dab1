-- Many children, few descriptors, bad moments: whatever happens, no child and no descriptor is left.
local async = require "lunation"
local process = async.process
local children = require "spec.support.children"
local helper = require "spec.helper"

local refuses = helper.refuses
local _, begin, finish, created = children.guard()
before_each(begin)
after_each(finish)

local PIPES = { stdin = "pipe", stdout = "pipe", stderr = "pipe" }

-- Lives of a child, each another way to end.
local lives = {
  function() assert.equal(0, process.run("true").code) end,
  function() assert.equal("x", process.run("cat", {}, { input = "x" }).stdout) end,
  function()
    local p <close> = process.spawn("sleep", { 1000 }, PIPES)
    p:kill("KILL")
    assert.equal("SIGKILL", select(2, p:wait()))
  end,
  function(i) -- cancelled at some moment
    local task = created(process.run, "sh", { "-c", "echo x; exec sleep 1000" })
    async.sleep(i % 11 * 0.0003)
    task:cancel()
    refuses("CancelledError", {}, async.await, task)
  end,
  function(i) -- out of time
    refuses("TimeoutError", {}, process.run, "sleep", { 1000 }, { timeout = i % 5 * 0.001 })
  end,
  function() -- closed at once
    local p <close> = process.spawn("sleep", { 1000 }, PIPES)
    assert(p)
  end,
  function() -- dropped
    helper.without_sites(function() process.spawn("sleep", { 1000 }, PIPES) end)
  end,
  function() refuses("OSError", "ENOENT", process.run, "no-such-program") end,
  function(i) -- a pipeline cancelled
    local task = created(process.pipeline, { { "yes" }, { "cat" }, { "sleep", "1000" } })
    async.sleep(i % 11 * 0.0003)
    task:cancel()
    refuses("CancelledError", {}, async.await, task)
  end,
  function(i) -- cancelled while it communicates, which goes on
    local p <close> = process.spawn("sh", { "-c", "cat; echo end" }, PIPES)
    local task = created(p.communicate, p, ("x"):rep(70000))
    async.sleep((i % 11 + 1) * 0.0003)
    task:cancel()
    async.wait { task }
    assert.equal(70004, #p:communicate())
  end,
}

describe("many processes", function()
  local function live(n)
    process.run("true") -- libuv keeps a descriptor in reserve from the first stream on
    local before, list = children.descriptors(), {}
    for i = 1, n do list[i] = i end
    async.map(list, function(i) lives[i % #lives + 1](i) end, { limit = 16 })
    collectgarbage()
    finish()
    assert.equal(before, children.descriptors())
  end

  it("spawned, killed, cancelled, dropped leave no zombie and no descriptor #real", function() live(#lives) end)
  it("a thousand of them leave nothing, either #real #nosweep", function() live(helper.scaled(1000, 40)) end)

  it("at once, all waited for by tasks of their own", function()
    local n, tasks = helper.scaled(60, 10), {}
    for i = 1, n do
      tasks[i] = created(function()
        local p <close> = process.spawn("sh", { "-c", "exit " .. i })
        return p:wait()
      end)
    end
    local codes = async.gather(tasks)
    for i = 1, n do assert.equal(i, codes[i]) end
  end)
end)

describe("bad moments", function()
  it("a signal to a child that has ended unnoticed reaches nobody else", function()
    local p <close> = process.spawn("true")
    while children.state(p.pid) ~= "Z" do end -- the loop does not turn
    assert.is_true(p:kill("KILL"))
    assert.equal(0, p:wait())
    assert.is_false(p:kill("KILL"))
  end)

  it("closed in the very turn in which it ends", function()
    for i = 0, 20 do
      local p <close> = process.spawn("true")
      helper.turns(i)
      while children.state(p.pid) ~= "Z" and children.state(p.pid) do end
      p:close()
      assert.equal(0, p:wait())
    end
  end)

  it("running out of descriptors is an OSError, and passes", function()
    local out = helper.command([[
      local process = require "lunation.process"
      local list, code = {}, nil
      for i = 1, 100 do
        local ok, p = pcall(process.spawn, "cat", {}, { stdin = "pipe", stdout = "pipe", stderr = "pipe" })
        if not ok then code = p.code break end
        list[i] = p
      end
      eq("EMFILE", code)
      -- What is left would do for a child that needs fewer.
      repeat
        local ok, r, w = pcall(process.pipe)
        if ok then list[#list + 1], list[#list + 2] = r, w end
      until not ok
      eq("EMFILE", refuses("OSError", {}, process.run, "true").code)
      for _, p in ipairs(list) do p:close() end
      async.sleep(0)
      eq("x", process.run("cat", {}, { input = "x" }).stdout)
      print(#list > 5)
    ]], { prefix = { "prlimit", "--nofile=64" } })
    assert.equal("true\n", out)
  end)

  it("running out of processes is an OSError #nosweep", function()
    if children.uid() == 0 then return end -- root has no such limit
    local out = helper.command([[
      print(refuses("OSError", "spawn true: EAGAIN", require("lunation.process").run, "true").code)
    ]], { prefix = { "prlimit", "--nproc=1" } })
    assert.equal("EAGAIN\n", out)
  end)

  it("the program ends while children run and are waited for", function()
    local out = helper.command [[
      local process = require "lunation.process"
      local p = process.spawn("sleep", { 1000 })
      async.create_task(p.wait, p)
      async.create_task(process.run, "sh", { "-c", "trap '' TERM; while :; do sleep 0.01; done" }, { grace = 0.01 })
      async.create_task(p.communicate, p)
      async.sleep(0.02)
      print(p.pid)
      if arg[1] ~= "no" then os.exit(0) end
    ]]
    assert.is_true(children.eventually_gone(out:match("%d+")))
  end)
end)

-- run and pipeline: what they give, and that nothing is left whatever ends them: a timeout, a cancel, a second one, too
-- much output.
local async = require "lunation"
local process = async.process
local children = require "spec.support.children"
local command = require "spec.support.command"
local helper = require "spec.helper"
local Talk = require "lunation.process.talk"
local testing = require "lunation.testing"

local refuses = helper.refuses
local started, begin, finish = children.guard()
before_each(begin)
after_each(finish)

local function shell(text, opts) return process.run("sh", { "-c", text }, opts) end

-- A file that a child writes its number to, or that of a grandchild; closable.
local function scratch()
  local path = os.tmpname()
  return setmetatable({
    path = path,
    read = function() return command.slurp(path) end,
    begun = function() return command.wait_until("[ -s " .. path .. " ]", 10 * helper.slow) end,
    number = function()
      local n
      assert.is_true(helper.eventually(function()
        n = math.tointeger(tonumber((command.slurp(path) or ""):match("^(%d+)\n")))
        return n
      end))
      return n
    end,
  }, { __close = function() os.remove(path) end })
end

-- Runs a program with a `timeout` of 10 seconds, which are over when it has written to the note.
local function late(note, ...)
  local clock <close> = testing.clock { autojump = false }
  local run = started(...)
  assert.is_true(note.begun())
  clock:advance(9.9)
  assert.is_false(run:done())
  clock:advance(0.2)
  return async.await(run)
end

describe("run", function()
  it("gives how it ended and both outputs", function()
    assert.same({ code = 3, stdout = "out\n", stderr = "err\n" }, shell("echo out; echo err >&2; exit 3"))
    assert.same({ signal = "SIGKILL", stdout = "", stderr = "" }, shell("kill -9 $$"))
    assert.same({ code = 0, stdout = "", stderr = "" }, process.run("true"))
  end)

  it("feeds input", function()
    local text = ("line\n"):rep(helper.scaled(100000, 20000))
    assert.is_true(process.run("cat", nil, { input = text }).stdout == text)
    assert.equal("0\n", process.run("wc", { "-c" }, { input = "" }).stdout)
    assert.equal("0\n", process.run("wc", { "-c" }).stdout)
    assert.equal(0, process.run("true", {}, { input = text }).code)
  end)

  it("puts its outputs where it is told", function()
    assert.same({ code = 0, stdout = "ab" }, shell("printf a; printf b >&2", { stderr = "stdout" }))
    assert.same({ code = 0, stderr = "b" }, shell("printf a; printf b >&2", { stdout = "null" }))
    local r, w = process.pipe()
    local _ <close> = r
    assert.same({ code = 0, stderr = "" }, shell("echo into the stream", { stdout = w }))
    assert.equal("into the stream\n", r:read("a"))
  end)

  it("throws for a failure if asked to", function()
    local e = refuses("ProcessError", "run sh: exit status 3", shell, "echo out; echo err >&2; exit 3", { check = true })
    assert.is_true(async.isinstance(e, process.ProcessError))
    assert.same({ 3, nil, "out\n", "err\n" }, { e.code, e.signal, e.stdout, e.stderr })
    e = refuses("ProcessError", "run sh: ended by SIGTERM", shell, "kill $$", { check = true })
    assert.equal("SIGTERM", e.signal)
    assert.equal(0, shell("exit 0", { check = true }).code)
  end)

  it("throws as spawn does, and checks its options", function()
    assert.equal("nosuch", refuses("OSError", "spawn nosuch: ENOENT", process.run, "nosuch").path)
    refuses("ValueError", { "#1", "run", "empty" }, process.run, "")
    for field, value in pairs { input = 12, timeout = "1", grace = {}, check = 1, max_output = "x" } do
      refuses("TypeError", { "#3", "run", field }, process.run, "true", {}, { [field] = value })
    end
    for field, value in pairs { timeout = -1, grace = math.huge, max_output = -1 } do
      refuses("ValueError", { "#3", "run", field }, process.run, "true", {}, { [field] = value })
    end
    refuses("ValueError", "exclude", process.run, "true", {}, { input = "x", stdin = "null" })
  end)

  it("runs many at once", function()
    local list = {}
    for i = 1, helper.scaled(40, 8) do list[i] = i end
    local function echo(i) return shell("read x; echo $x; exit " .. i, { input = i .. "\n" }) end
    local results = async.map(list, echo, { limit = 8 })
    for i in ipairs(list) do assert.same({ code = i, stdout = i .. "\n", stderr = "" }, results[i]) end
  end)

  it("reads on after the end while others still write, and gives up when nothing comes #real", function()
    local r = shell("(sleep 0.1; echo late) & echo early", { grace = 10 })
    assert.same({ code = 0, stdout = "early\nlate\n", stderr = "" }, r)
    local note <close> = scratch()
    r = process.run("sh", { "-c", "sleep 100 & echo $! > $0; echo early", note.path }, { grace = 0.05 })
    os.execute("kill -KILL " .. note.number())
    assert.same({ code = 0, stdout = "early\n", stderr = "", unfinished = true }, r)
    r = process.run("sh", { "-c", "exec 3<&0; sleep 100 <&3 3<&- >/dev/null 2>&1 & echo $! > $0", note.path },
      { input = ("x"):rep(300000), grace = 0.05, timeout = 20 })
    os.execute("kill -KILL " .. note.number())
    assert.same({ code = 0, stdout = "", stderr = "", unfinished = true }, r)
  end)
end)

describe("input that others take after the end", function()
  -- Whether all of 5 pieces are written if each takes so many seconds, but the patience ends after 1.5.
  local function fed(seconds)
    local _ <close> = testing.clock()
    local child = { wait = function() return 0 end, close = function() end }
    local stdin = { write = function() async.sleep(seconds) end, shutdown = function() end, close = function() end }
    local talk <close> = Talk.new({ child }, { stdin = stdin })
    talk:feed(("x"):rep(5 * 65536))
    talk:collect(1.5)
    return not talk.unfinished
  end

  it("is waited for as long as it goes on", function()
    assert.is_true(fed(1))
    assert.is_false(fed(2))
  end)
end)

describe("a run that takes too long", function()
  it("is ended, with what it said on the error #real", function()
    local note <close> = scratch()
    local e = refuses("TimeoutError", "run sh: not ended within 10 seconds", late, note, process.run, "sh",
      { "-c", "trap 'echo last words; exit 0' TERM; echo begin; echo err >&2; echo > $0; while :; do sleep 0.01; done",
        note.path }, { timeout = 10 })
    assert.equal("begin\nlast words\n", e.stdout)
    assert.equal("err\n", e.stderr:sub(1, 4)) -- some shells add that a child of theirs was terminated
  end)

  it("and ignores TERM is killed after the grace, with its group #real", function()
    local note <close> = scratch()
    local clock <close> = testing.clock { autojump = false }
    local run = started(process.run, "sh",
      { "-c", "trap '' TERM; sleep 100 & echo $! > $0; while :; do sleep 0.01; done", note.path },
      { timeout = 10, grace = 5 })
    assert.is_true(note.begun())
    clock:advance(14.9)
    assert.is_false(run:done())
    clock:advance(0.2)
    clock:close()
    assert.equal("", refuses("TimeoutError", "run sh", async.await, run).stdout)
    assert.is_true(children.eventually_gone(note.number()))
  end)

  it("takes what is left of its group along when it obeys #real", function()
    local note <close> = scratch()
    refuses("TimeoutError", {}, late, note, process.run, "sh",
      { "-c", "(trap '' TERM; echo ready; while :; do sleep 0.01; done) & echo $! > $0; wait", note.path },
      { timeout = 10, grace = 100 })
    assert.is_true(children.eventually_gone(note.number()))
  end)

  it("knows no time at all", function()
    refuses("TimeoutError", "within 0 seconds", process.run, "sleep", { 100 }, { timeout = 0 })
  end)

  it("is not confused with a timeout around it", function()
    local outer = async.timeout(0.02)
    local e = refuses("TimeoutError", {}, function()
      local _ <close> = outer
      shell("echo begin; sleep 100", { timeout = 1000 })
    end)
    assert.is_true(outer:expired())
    assert.is_nil(e.stdout)
    assert.equal("CancelledError", e.cause and e.cause.name or "CancelledError")
  end)
end)

describe("a cancelled run", function()
  it("of a child that may not be signalled is over after the grace, and the cancel is not lost", function()
    local child = {
      wait = function() async.sleep(1000) end,
      kill = function() error(async.OSError("kill 1: EPERM", { code = "EPERM" })) end,
      close = function() end,
    }
    local talk <close> = Talk.new({ child }, {})
    assert.is_nil(talk:stop(0.01))
  end)

  it("leaves no child, and has what was said on its error", function()
    local note <close> = scratch()
    local run = started(process.run, "sh", { "-c", "echo hi; echo $$ > $0; sleep 100", note.path })
    local pid = note.number()
    async.sleep(0.01 * helper.slow) -- for what it said to be read
    run:cancel("enough")
    local e = refuses("CancelledError", "enough", async.await, run)
    assert.same({ "hi\n", "" }, { e.stdout, e.stderr })
    assert.is_nil(children.state(pid))
  end)

  it("gives time for an orderly end #real", function()
    local note <close> = scratch()
    local run = started(process.run, "sh",
      { "-c", "trap 'sleep 0.05; echo orderly; exit 0' TERM; echo $$ > $0; while :; do sleep 0.01; done", note.path },
      { grace = 20 })
    note.number()
    run:cancel()
    assert.equal("orderly\n", refuses("CancelledError", {}, async.await, run).stdout)
  end)

  it("does not wait for the grace when it is cancelled again", function()
    local note <close> = scratch()
    local loop = async.get_running_loop()
    local stubborn = "trap '' TERM; echo hi; echo $$ > $0; while :; do sleep 0.01; done"
    local run = started(process.run, "sh", { "-c", stubborn, note.path }, { grace = 1000 })
    local pid = note.number()
    async.sleep(0.01 * helper.slow) -- for what it said to be read
    run:cancel("first")
    helper.turns(10)
    assert.is_false(run:done())
    local began = loop:time()
    run:cancel("second")
    assert.equal("hi\n", refuses("CancelledError", "second", async.await, run).stdout)
    assert.is_true(loop:time() - began < 100)
    assert.is_true(helper.eventually(function() return children.state(pid) == nil end))
  end)

  it("that was about to end gives its result", function()
    local run = started(shell, "echo done")
    run:cancel()
    local ok, r = pcall(async.await, run)
    if ok then assert.equal("done\n", r.stdout) else assert.equal("CancelledError", r.name) end
  end)
end)

describe("a run that says too much", function()
  it("is killed, told by both outputs together, with the beginning on the error #real", function()
    local e = refuses("LimitOverrunError", "run sh: more than 100000 bytes of output", shell,
      "trap '' TERM; yes & exec yes >&2", { max_output = 100000 })
    assert.is_true(#e.stdout + #e.stderr > 100000 and #e.stdout + #e.stderr <= 100000 + 2 * 65536 + 65536)
    assert.equal(#e.stdout + #e.stderr, e.consumed)
    e = refuses("LimitOverrunError", "0 bytes", shell, "echo x; sleep 100", { max_output = 0 })
    assert.equal("x\n", e.stdout)
    assert.equal("", shell("exit 0", { max_output = 0 }).stdout)
    assert.equal("12345", shell("printf 12345", { max_output = 5 }).stdout)
  end)
end)

describe("a pipeline", function()
  it("connects its commands", function()
    local r = process.pipeline({ { "printf", "b\na\nb\n" }, { "sort" }, { "uniq", "-c" }, { "tr", "-d", " " } })
    assert.same({ 0, "1a\n2b\n", "" }, { r.code, r.stdout, r.stderr })
    assert.equal(4, #r.children)
    assert.same({ file = "sort", code = 0 }, r.children[2])
  end)

  it("feeds the first, and one is a pipeline, too", function()
    local text = ("x"):rep(helper.scaled(500000, 100000))
    assert.equal(#text .. "\n", process.pipeline({ { "cat" }, { "cat" }, { "wc", "-c" } }, { input = text }).stdout)
    assert.equal("a\n", process.pipeline({ { "echo", "a" } }).stdout)
  end)

  it("joins what all say on stderr", function()
    local r = process.pipeline({ { "sh", "-c", "echo 1 >&2" }, { "sh", "-c", "cat; echo 2 >&2; exit 4" } })
    assert.same({ 4, "" }, { r.code, r.stdout })
    assert.is_true(r.stderr == "1\n2\n" or r.stderr == "2\n1\n")
    r = process.pipeline({ { "echo", "a" }, { "sh", "-c", "cat; echo b >&2" } }, { stderr = "stdout" })
    assert.equal("a\nb\n", r.stdout)
    local ours, theirs = process.pipe()
    local _ <close> = ours
    process.pipeline({ { "sh", "-c", "echo 1 >&2" }, { "sh", "-c", "cat; echo 2 >&2" } }, { stderr = theirs })
    assert.equal(4, #ours:read("a"))
  end)

  it("ends when its reader has enough, which is no failure", function()
    local r = process.pipeline({ { "yes" }, { "head", "-1" } }, { check = true })
    assert.same({ "y\n", "SIGPIPE", 0 }, { r.stdout, r.children[1].signal, r.code })
    local e = refuses("ProcessError", "pipeline: false: exit status 1", process.pipeline,
      { { "false" }, { "cat" }, { "sh", "-c", "exit 2" } }, { check = true })
    assert.same({ 1, 2, 3 }, { e.code, e.children[3].code, #e.children })
    assert.equal(2, process.pipeline({ { "false" }, { "sh", "-c", "exit 2" } }).code)
  end)

  it("leaves nothing when one cannot be started", function()
    local descriptors, before = children.descriptors(), children.list()
    refuses("OSError", "spawn nosuch: ENOENT", process.pipeline, { { "yes" }, { "cat" }, { "nosuch" } })
    assert.is_true(children.eventually_none(before))
    assert.equal(descriptors, children.descriptors())
  end)

  it("is ended as a whole", function()
    local e = refuses("TimeoutError", "pipeline sh | sh: not ended", process.pipeline,
      { { "sh", "-c", "echo a; sleep 100" }, { "sh", "-c", "cat; sleep 100" } }, { timeout = 0.1 })
    assert.equal("", e.stderr)
    local run = started(process.pipeline, { { "yes" }, { "sh", "-c", "cat >/dev/null" } })
    async.sleep(0.02)
    run:cancel()
    refuses("CancelledError", {}, async.await, run)
  end)

  it("checks its commands", function()
    local pipeline = process.pipeline
    refuses("TypeError", { "#1", "pipeline", "list of commands" }, pipeline, "x")
    refuses("ValueError", { "#1", "no commands" }, pipeline, {})
    refuses("TypeError", { "#1", "element 2" }, pipeline, { { "true" }, "cat" })
    refuses("TypeError", { "#1", "string" }, pipeline, { {} })
    refuses("TypeError", { "#1", "element 2" }, pipeline, { { "true", {} } })
    refuses("TypeError", { "#2", "timeout" }, pipeline, { { "true" } }, { timeout = "x" })
  end)
end)

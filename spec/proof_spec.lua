-- The runner of the proofs that are made of many runs (spec/support/proof.lua): what it counts, what it calls a
-- failure, and its last lines.
local command = require "spec.support.command"

describe("a proof made of runs", function()
  local folder

  setup(function() folder = command.temp_dir() end)
  teardown(function() command.remove_dir(folder) end)

  -- Runs the text of a proof named "example", whose `p` it is -> stdout, exit code.
  local function prove(text)
    local path = folder .. "/proof.lua"
    command.write_file(path, [[
      package.path = "./?.lua;" .. package.path
      local proof = require "spec.support.proof"
      local p = proof.new("example", 7, { COLOUR = "dark red" })
    ]] .. text .. " p:finish()")
    local stdout, stderr, code = command.run { "lua5.4", path, env = { LUNATION = command.lunation } }
    assert.equal("", stderr)
    return stdout, code
  end

  local function last_line(text) return text:match("([^\n]*)\n$") end

  -- A file of specs with that text; its path.
  local function specs(name, text)
    local path = folder .. "/" .. name .. "_spec.lua"
    command.write_file(path, text)
    return path
  end

  it("counts the tests that ran as points, not the pending ones", function()
    local path = specs("good", [[it("one", function() end) it("two", function() end) pending("three")]])
    local out, code = prove(("p:specs { %q }"):format(path))
    assert.matches("^example: 2 points, 0 failures, seed 7, %d+%.%d s$", last_line(out))
    assert.equal(0, code)
  end)

  it("shows what failed and how to replay it", function()
    local path = specs("bad", [[it("one", function() end) it("two", function() error("on purpose") end)]])
    local out, code = prove(("p:specs { %q }"):format(path))
    assert.matches("example: 2 points, 1 failures, seed 7", last_line(out), 1, true)
    assert.matches("on purpose", out, 1, true)
    local replay = out:match("\nreplay: ([^\n]*)\n")
    assert.matches("COLOUR='dark red'", replay, 1, true)
    assert.equal(1, code)
    local again, _, status = command.run { "sh", "-c", replay }
    assert.matches("not ok 2 - two", again, 1, true)
    assert.equal(1, status)
  end)

  -- A test that fails in its first run only, of which `mark` is the sign that it was there.
  local function once(mark)
    return ([[it("shaky", function()
      local there = io.open(%q)
      if there then there:close() return end
      io.open(%q, "w"):close()
      %%s
    end)]]):format(mark, mark)
  end

  it("runs the files again, one by one, in which tests failed", function()
    local good = specs("good", [[it("one", function() end)]])
    local shaky = specs("shaky", once(folder .. "/mark1"):format("error 'too slow'"))
    local bad = specs("bad", [[it("one", function() end) it("two", function() error("on purpose") end)]])
    local out, code = prove(("p:specs { %q, %q, %q }"):format(good, shaky, bad))
    assert.matches("\nfailed once, passed again: " .. shaky .. ": shaky\n", out, 1, true)
    assert.matches("too slow", out, 1, true)
    assert.matches(bad .. " (again): 0 points, 1 failures", out, 1, true)
    assert.no.matches(good .. " (again)", out, 1, true)
    assert.matches("example: 4 points, 1 failures", last_line(out), 1, true)
    assert.equal(1, select(2, out:gsub("\nreplay: ", "")))
    assert.equal(1, code)
  end)

  it("is passed when all that failed passes again", function()
    local shaky = specs("shaky", once(folder .. "/mark2"):format("error 'too slow'"))
    local out, code = prove(("p:specs { %q }"):format(shaky))
    assert.matches("\nfailed once, passed again: " .. shaky .. ": shaky\n", out, 1, true)
    assert.matches("example: 1 points, 0 failures", last_line(out), 1, true)
    assert.equal(0, code)
  end)

  it("gives no second chance to what may be a memory error", function()
    for i, text in ipairs {
      "error 'ERROR: AddressSanitizer: heap-use-after-free'", "error 'the program ended with status 139'",
      "print 'core.c:12:3: runtime error: signed integer overflow' error 'failed'",
      "io.stderr:write 'core.c:12: Assertion `sound' error 'failed'", "os.exit(99)", "os.execute('kill -s SEGV $PPID')",
      "local exit = os.exit os.exit = function() exit(99) end error 'failed, and valgrind has its say'",
    } do
      local path = specs("grave", once(folder .. "/grave" .. i):format(text))
      local out, code = prove(("p:specs { %q }"):format(path))
      assert.no.matches("(again)", out, 1, true)
      assert.no.matches("passed again", out, 1, true)
      assert.matches("example: %d points, [12] failures", last_line(out))
      assert.equal(1, code)
    end
  end)

  it("takes a run that dies, or ends before its time, for a failure", function()
    for _, text in ipairs { "os.exit(3)", "os.exit(0)", "syntax error here", "os.execute('kill -s KILL $PPID')" } do
      local out, code = prove(("p:specs { %q }"):format(specs("dying", text)))
      assert.matches("example: %d points, 1 failures", last_line(out))
      assert.equal(1, code)
    end
  end)

  it("ends what does not end", function()
    local out, code = prove([[p:run("hanging", { "sleep", "60", limit = 1 }, function() return 1, {} end)]])
    assert.matches("stopped after 1 s", out, 1, true)
    assert.matches("example: 1 points, 1 failures", last_line(out), 1, true)
    assert.equal(1, code)
  end)

  it("without a point is no proof", function()
    local out, code = prove ""
    assert.matches("example: 0 points, 0 failures", last_line(out), 1, true)
    assert.equal(1, code)
  end)

  it("replays 20 failures at most", function()
    local out = prove [[for i = 1, 25 do p:program("number " .. i, { "false" }) end]]
    assert.equal(20, select(2, out:gsub("\nreplay: ", "")))
    assert.matches("example: 25 points, 25 failures", last_line(out), 1, true)
  end)
end)

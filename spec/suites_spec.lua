-- Suites of an ordinary project, spec/suites/plain, run by the stock interpreter's busted and by `lunation test` with
-- the same arguments: output and exit code must be the same, byte for byte. Left out are only durations and time
-- stamps, addresses, the order in which junit and json happen to print the fields of one table, the traceback of a
-- busted that itself dies, and the two lines that --seed adds to a failure. Then the same suites with awaits in every
-- block (spec/suites/awaiting), and one whose day lasts a moment (spec/suites/day).
local async = require "lunation"
local command = require "spec.support.command"
local helper = require "spec.helper"

local PLAIN = "spec/suites/plain"
local BUSTED = "/usr/bin/busted"

local function limit() return 30 * math.max(1, helper.slow // 2) end

local function program(words, args)
  local spec = { limit = limit() }
  for _, list in ipairs { words, args } do
    for _, word in ipairs(list) do spec[#spec + 1] = word end
  end
  return spec
end

-- stdout, stderr, exit code of busted under the stock interpreter, and under our command.
local function stock(args)
  local spec = program({ "lua5.4", BUSTED }, args)
  spec.env = args.env
  return command.run(spec)
end

local function ours(args)
  local spec = program({ command.lunation, "test" }, args)
  spec.env = args.env
  return command.run(spec)
end

-- ---- what may differ ----

local function sort_attributes(tag, attributes, close)
  local list = {}
  for pair in attributes:gmatch("[%w_]+='[^']*'") do list[#list + 1] = pair end
  table.sort(list)
  return "<" .. tag .. " " .. table.concat(list, " ") .. close
end

-- A value that json printed, as text in a definite order and without its times.
local TIMES = { starttick = true, endtick = true, starttime = true, endtime = true, duration = true }
local function canonical(value, indent)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local keys, out = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    out[#out + 1] = indent .. tostring(key) .. ": " ..
      (TIMES[key] and "TIME" or canonical(value[key], indent .. "  "))
  end
  return "{\n" .. table.concat(out, "\n") .. "\n" .. indent .. "}"
end

local function json_line(line)
  local value = require "dkjson".decode(line)
  return type(value) == "table" and canonical(value, "") or line
end

local function normal(text)
  text = text:gsub("0x%x+", "ADDRESS")
  text = text:gsub("%d[%d.e-]*([\27%[m0]* %a+)\n", function(unit)
    local word = unit:match "%a+$"
    return (word == "seconds" or word == "Sekunden") and "TIME" .. unit .. "\n" or nil
  end)
  text = text:gsub("%(%d[%d.]* ms", "(TIME ms")
  text = text:gsub("<([%w_]+) ([^<>]-'%s*)(/?>)", sort_attributes)
  text = text:gsub(" time='[%d.]+'", " time='TIME'"):gsub("timestamp='[^']*'", "timestamp='TIME'")
  return (text:gsub("{\"[^\n]*", json_line))
end

-- Of a busted that died only the message counts, not the interpreter's name and its traceback.
local function normal_errors(text)
  text = normal(text)
  text = text:gsub("^lua5%.4: ", "DIED: "):gsub("^lunation: ", "DIED: ")
  return (text:gsub("\n%l*%s?traceback:\n.*$", "\n"))
end

local function without_seed(text)
  return (text:gsub("\n[# ]*seed: %d+[^\n]*", ""):gsub("\n[# ]*replay: [^\n]*", ""))
end

-- Runs both and compares; what plain busted printed, its errors, its exit code.
local function same(args, seeded)
  local out, errors, code = stock(args)
  local our_out, our_errors, our_code = ours(args)
  if seeded then our_out = without_seed(our_out) end
  assert.equal(normal(out), normal(our_out), our_errors)
  assert.equal(normal_errors(errors), normal_errors(our_errors))
  assert.equal(code, our_code)
  return out, errors, code
end

local function words(text)
  local list = { "-C", PLAIN }
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  return list
end

-- Every list of arguments costs two processes; slow builds try one in so many.
local each = helper.slow >= 30 and 12 or helper.slow >= 10 and 6 or helper.slow >= 3 and 2 or 1
local counter = 0
local function try(name, text, check, seeded)
  counter = counter + 1
  if counter % each ~= 0 then return end
  it(name .. ": " .. text, function()
    local out, errors, code = same(words(text), seeded)
    if check then check(out, errors, code) end
  end)
end

local function has(...)
  local parts = { ... }
  return function(out, errors)
    for _, part in ipairs(parts) do
      assert(out:find(part, 1, true) or errors:find(part, 1, true), part .. " is missing in\n" .. out .. errors)
    end
  end
end

local function lacks(part)
  return function(out) assert(not out:find(part, 1, true), part .. " is there in\n" .. out) end
end

local HANDLERS = { "TAP", "junit", "plainTerminal", "utfTerminal", "gtest", "json" }

describe("a synchronous suite", function()
  setup(function()
    local _, errors, code = ours { "--version" }
    assert(code == 0, "lunation test does not run: " .. errors)
  end)

  describe("that passes", function()
    for _, handler in ipairs(HANDLERS) do
      try("with " .. handler, "-o " .. handler)
      try("with " .. handler, "-v --defer-print -o " .. handler .. " specs/ini_suite.lua specs/blocks_suite.lua")
    end
    try("with a handler of its own", "-o support/handler.lua -Xoutput one,two specs", has("handler: one two", "exit"))
    try("with a handler that is a module", "-o support.handler --lpath=./?.lua specs/ini_suite.lua", has "handler:")
    try("with colours", "-o utfTerminal -Xoutput --color specs/lru_suite.lua", has "\27[")
    try("with colours", "-o gtest -Xoutput --color specs/lru_suite.lua", has "\27[")
    try("without colours", "-o gtest -Xoutput --plain specs/lru_suite.lua")
    it("with colours, as a script of the command", function()
      local args = words "-o gtest -Xoutput --color specs/lru_suite.lua"
      local out, _, code = command.run(program({ command.lunation, BUSTED }, args))
      assert.equal(normal((stock(args))), normal(out))
      assert.equal(0, code)
    end)
    try("with a sound", "--enable-sound specs/ini_suite.lua")
  end)

  describe("that fails", function()
    local files = { "failing", "errors", "hooks", "bodies", "syntax", "top" }
    for _, handler in ipairs(HANDLERS) do
      for _, file in ipairs(files) do
        try("with " .. handler, "-o " .. handler .. " faults/" .. file .. "_suite.lua", function(_, _, code)
          assert.equal(1, code)
        end)
      end
      try("with " .. handler, "-v -o " .. handler .. " faults/failing_suite.lua faults/errors_suite.lua")
    end
    try("as a whole", "-r faults -o plainTerminal", has "error")
    try("as a whole", "-r faults -o gtest -v --defer-print")
    try("with a handler of its own", "-r faults -o support/handler.lua", has("failure it", "error it", "exit"))
    try("as its stack overflows", "-o TAP deep", has "stack overflow")
    try("in German", "-r faults --lang=de -o plainTerminal")
    try("with TAP and tracebacks", "-r faults -o TAP -v")
  end)

  describe("with options", function()
    try("lists", "--list", has "specs/lru_suite.lua:")
    try("lists", "--list --tags=ten --exclude-tags=more", has "test 120")
    try("repeats", "--repeat=3 -o plainTerminal specs/tokenizer_suite.lua specs/blocks_suite.lua", has "run 3 of 3")
    try("repeats", "--repeat=2 -o TAP faults/failing_suite.lua")
    try("repeats", "--repeat=2 -o gtest specs/lru_suite.lua faults/hooks_suite.lua")
    try("repeats", "--repeat=2 -o junit faults/errors_suite.lua")
    try("shuffles", "--shuffle --seed=7 -o TAP", nil, true)
    try("shuffles", "--shuffle --seed=8 -o gtest -v", has "seed of 8", true)
    try("shuffles", "--shuffle-files --seed=9 -o support/handler.lua", nil, true)
    try("shuffles", "--shuffle-tests --seed 10 -o json specs/language_suite.lua", nil, true)
    try("shuffles", "--shuffle --seed=11 -r faults -o plainTerminal", has "Random seed: 11", true)
    try("shuffles", "--shuffle --seed=12 --repeat=2 -o TAP faults/failing_suite.lua", nil, true)
    try("sorts", "--sort -o TAP")
    try("sorts", "--sort-files --sort-tests -r faults -o plainTerminal")
    try("does not insulate", "--no-auto-insulate -o plainTerminal")
    try("does not insulate", "--no-auto-insulate -r faults -o gtest")
    try("does not go on", "--no-keep-going -r faults -o plainTerminal")
    try("does not go on", "--no-keep-going -o TAP faults/failing_suite.lua", lacks "ok 5")
    try("does not go on", "--no-keep-going -o gtest faults/hooks_suite.lua specs/lru_suite.lua")
    try("defers", "--defer-print -r faults -o plainTerminal")
    try("is lazy", "--lazy -o plainTerminal specs/blocks_suite.lua specs/ini_suite.lua")
    try("is lazy", "--lazy -o plainTerminal faults/hooks_suite.lua")
    try("takes statements", "-e FROM_COMMAND_LINE=17 -e print(FROM_COMMAND_LINE) specs/assertions_suite.lua",
      has("17\n", "# -e: 17"))
    try("takes bad statements", "-e x= specs/assertions_suite.lua")
    try("takes paths", "--lpath=./lib/words/?.lua -e print(require[[lru]]) specs/lru_suite.lua", has "table: ")
    try("takes paths", "-f support/nothing --cpath=./?.so specs/lru_suite.lua", has "not found")
    try("has a helper", "--helper=support/helper.lua -Xhelper a,b=c -Xhelper d specs", has "# helped: a|b=c|d")
    try("has a helper", "--helper=support.helper -m ./?.lua -o TAP specs/assertions_suite.lua",
      has "# helped: no options")
    try("has a bad helper", "--helper=support/nothing.lua specs", has "nothing.lua")
    try("has a bad helper", "--helper=faults/syntax_suite.lua specs", has "syntax error")
    try("has loaders", "--loaders=lua -o TAP specs/tokenizer_suite.lua")
    try("has bad loaders", "--loaders=nothing specs/tokenizer_suite.lua")
    try("selects by tag", "--tags=fast -o TAP", has "reads #fast")
    try("selects by tag", "-t fast,slow --exclude-tags=skipme -o TAP", has "lru finishes #slow")
    try("selects by tag", "--exclude-tags=fast,slow,ten,skipme -o TAP", lacks "#ten")
    try("refuses tags", "--tags=fast --exclude-tags=fast", has "same tags")
    try("selects by name", "--filter=order --filter=nest -o TAP", has "lru orders by use")
    try("selects by name", "--filter=lru --filter-out=full -o TAP", lacks "full")
    try("selects nothing", "--filter=nothing_of_the_kind -o plainTerminal", has "0 successes")
    try("selects files", "--pattern=lru_ --exclude-pattern=ini -o TAP", has "lru")
    try("selects no files", "--pattern=nothing_at_all", has "nothing_at_all")
    try("selects no files", "no/such/folder", has "no/such/folder")
    try("stays on top", "--no-recursive . -o TAP")
    try("is quiet about pending", "--suppress-pending -o plainTerminal", has "0 pending")
    try("is quiet about pending", "--suppress-pending -o TAP specs/blocks_suite.lua", lacks "SKIP")
    try("measures no coverage", "--coverage specs/ini_suite.lua")
    try("has no such handler", "-o no_such_handler specs/ini_suite.lua", has "Cannot load output library")
    try("has no such option", "--no-such-option", has "no-such-option")
    try("has a bad number", "--repeat=often specs", has "must be a number")
    try("has no such folder", "-C no_such_folder specs")
    try("tells its version", "--version", has "2.1")
  end)

  describe("with a .busted", function()
    for _, task in ipairs { "quick", "tagged", "helped", "faults", "default" } do try("task", "--run=" .. task) end
    try("no task", "--run=nothing", has "not found")
    try("another file", "--config-file=" .. PLAIN .. "/support/config.lua -o TAP", has "tokenizer")
    try("another file that is none", "--config-file=" .. PLAIN .. "/specs/lru_suite.lua")
  end)

  it("writes junit to a file", function()
    local text = {}
    for i, run in ipairs { stock, ours } do
      local path = os.tmpname()
      local args = words("-o junit -Xoutput " .. path .. " specs/ini_suite.lua faults/failing_suite.lua")
      local out, _, code = run(args)
      text[i] = normal(assert(command.slurp(path)))
      os.remove(path)
      assert.equal("", (out:gsub("#[^\n]*\n", "")))
      assert.equal(1, code)
    end
    assert.matches("^\n?<testsuites errors='2' failures='%d+'", text[1])
    assert.equal(text[1], text[2])
  end)

  describe("that runs itself", function()
    local ALONE = PLAIN .. "/standalone" -- where no .busted names other files
    local function alone(...)
      local args = table.pack(...)
      local out, errors, code = command.run(program({ "lua5.4" }, args))
      local our_out, our_errors, our_code = command.run(program({ command.lunation }, args))
      assert.equal(normal(out), normal(our_out))
      assert.equal(normal_errors(errors), normal_errors(our_errors))
      assert.equal(code, our_code)
      return out
    end

    for _, handler in ipairs(HANDLERS) do
      it("with " .. handler, function()
        alone(PLAIN .. "/standalone/alone.lua", "-C", ALONE, "-o", handler, "-v")
      end)
    end
    it("with its own options", function()
      assert.matches("ok 1 %- passing passes\n", (alone(PLAIN .. "/standalone/passing.lua", "-C", ALONE)))
      alone(PLAIN .. "/standalone/alone.lua", "-C", ALONE, "--exclude-tags=failing", "-o", "plainTerminal")
    end)
    it("as a file of a run", function() same(words "-o TAP standalone/alone.lua standalone/passing.lua") end)
  end)
end)

-- ---- awaits ----

-- Without -v, junit and json, which print tracebacks: the frames of the awaits stand in them.
describe("a synchronous suite into whose every block awaits were put", function()
  local function quiet(text, ...)
    local args = words(text)
    local out, _, code = stock(args)
    for _, word in ipairs { "--helper=support/awaits.lua", ... } do args[#args + 1] = word end
    local our_out, our_errors, our_code = ours(args)
    assert.equal(normal(out), normal(without_seed(our_out)), our_errors)
    assert.equal(code, our_code)
  end

  local runs = {
    "specs -o TAP", "-r faults -o plainTerminal", "-r faults -o gtest", "-r faults -o utfTerminal",
    "specs -o TAP --shuffle --seed=21", "--repeat=2 -o TAP specs/blocks_suite.lua faults/failing_suite.lua",
    "--lazy -o plainTerminal specs/blocks_suite.lua", "--no-keep-going -r faults -o plainTerminal",
    "--tags=fast -o TAP", "--no-auto-insulate -o TAP",
  }
  for i, run in ipairs(runs) do
    if i <= 3 or each == 1 then
      it("has the same output: " .. run, function() quiet(run) end)
      it("has the same output on the virtual clock: " .. run, function() quiet(run, "--virtual-time") end)
    end
  end
end)

-- Suites drawn from a number (spec/suites/plain/random), each with other options; with and without awaits.
describe("a random suite", function()
  local variants = {
    "-o TAP -v", "-o plainTerminal --repeat=2", "-o gtest --shuffle --seed=5", "-o junit", "-o json --lazy",
    "-o support/handler.lua", "-o TAP --tags=tag1", "-o plainTerminal --no-keep-going", "-o TAP --sort",
    "-o utfTerminal --exclude-tags=tag2", "-o support/handler.lua --no-auto-insulate", "-o gtest --defer-print -v",
  }

  local function compare(number, options, ...)
    local args = words(options .. " random/random_suite.lua")
    args.env = { SUITE = number }
    local out, errors, code = stock(args)
    for _, word in ipairs { ... } do args[#args + 1] = word end
    local our_out, our_errors, our_code = ours(args)
    assert.equal(normal(out), normal(without_seed(our_out)), our_errors)
    assert.equal(normal_errors(errors), normal_errors(our_errors))
    assert.equal(code, our_code)
  end

  for number = 1, 24 // each do
    local options = variants[number % #variants + 1]
    it(("is the same: SUITE=%d %s"):format(number, options), function() compare(number, options) end)
  end

  for number = 101, 100 + 12 // each do
    local options = variants[number % #variants + 1]:gsub(" %-v", ""):gsub("junit", "TAP"):gsub("json", "gtest")
    it(("is the same with awaits: SUITE=%d %s"):format(number, options), function()
      compare(number, options, "--helper=support/awaits.lua", number % 2 == 0 and "--virtual-time" or nil)
    end)
  end
end)

describe("a suite without faults, with awaits in every block,", function()
  -- The one test passed over unsubscribes by a number that counts all the subscribers there have been.
  local function swept(...)
    local out, errors, code = ours { "-C", PLAIN, "-o", "TAP", "--helper=support/awaits.lua", "--virtual-time",
      "--filter-out=publishes and", ... }
    assert.equal(0, code, out .. errors)
    assert.is_nil(out:find "not ok")
    return out
  end

  it("is swept without a finding", function()
    local out = swept("--sweep=cancel", "--sweep=throw", each > 1 and "specs/lru_suite.lua" or "specs")
    local cancels, throws = out:match "\nsweep %(cancel%): (%d+) points.-\nsweep %(throw%): (%d+) points"
    assert.is_true(tonumber(cancels) > 90 and tonumber(throws) > 60, out)
  end)

  it("passes in any order of its tasks", function()
    local out = swept("--shuffle-tasks=4", "--seed=1", "specs/lru_suite.lua", "specs/tokenizer_suite.lua")
    assert.matches("\nshuffle: %d+ runs of %d+ tests, 0 failures, seed 1\n$", out)
  end)
end)

describe("a suite with awaits in every block", function()
  local FOLDER = "spec/suites/awaiting"

  local function passes(out, errors, code)
    assert.equal(0, code, out .. errors)
    assert.equal("", errors)
    assert.matches("\n1%.%.%d+\n$", out)
    local passed = select(2, out:gsub("%f[^\n\0]ok %d+ %- [^#]", ""))
    assert.is_true(passed >= 30, out)
    assert.is_nil(out:find "not ok")
  end

  it("passes", function() passes(ours { "-C", FOLDER, "-o", "TAP" }) end)
  it("passes on the virtual clock", function() passes(ours { "-C", FOLDER, "-o", "TAP", "--virtual-time" }) end)
  it("passes under a seed", function() passes(ours { "-C", FOLDER, "-o", "TAP", "--seed=3" }) end)

  -- Not the tests that count how often blocks run.
  it("passes in several orders of its tasks", function()
    local out, errors, code = ours { "-C", FOLDER, "-o", "TAP", "--seed=3", "--shuffle-tasks=5", "--virtual-time",
      "library_suite.lua", "doubles_suite.lua", "tasks_suite.lua" }
    assert.equal(0, code, out .. errors)
    assert.matches("\nshuffle: 1%d%d runs of %d+ tests, 0 failures, seed 3\n$", out)
  end)

  it("passes under plain busted, with lua and helper in .busted", function()
    local path = command.libdir .. ":" .. os.getenv "PATH"
    passes(stock { "-C", FOLDER, "-o", "TAP", env = { PATH = path } })
  end)
end)

describe("a suite of days", function()
  it("passes in a moment on the virtual clock", function()
    local clock = async.get_running_loop()
    local start = clock:time()
    local out, errors, code = ours { "-C", "spec/suites/day", "-o", "TAP", "--virtual-time" }
    local took = clock:time() - start
    assert.equal(0, code, out .. errors)
    assert.equal("", errors)
    assert.matches("\n1%.%.8\n$", out)
    local slept = tonumber(out:match "# slept (%d+) seconds")
    assert.is_true(slept >= 5 * 86400, out)
    assert.is_true(took < 60 * helper.slow, "it took " .. took .. " s")
  end)

  it("does not pass on the real one", function()
    local out, _, code = ours { "-C", "spec/suites/day", "-o", "TAP", "--timeout=0.2", "--filter=one sleep" }
    assert.equal(1, code)
    assert.matches("time limit of 0.2 s", out)
  end)
end)

-- What the proofs that are made of many runs of other programs share: each run is a child process with a limit; its
-- points and failures are added up, and every failure gets a line that replays it.
--
-- The machine may be slow or busy, so specs whose tests failed, and nothing worse, are run once more; what fails again
-- counts. A process that died or did not end, and a report of a sanitizer or of valgrind, get no second chance.
--
-- The last lines of a proof, which scripts/test reads:
--   failed once, passed again: FILE: TEST
--   replay: COMMAND                      one for each failure, 20 at most
--   NAME: N points, N failures, seed N, N.N s
local command = require "spec.support.command"

local proof = {}
proof.__index = proof

local MOST_REPLAYS = 20
local BUSTED = "/usr/bin/busted"

local function output(line)
  local pipe = assert(io.popen(line))
  local text = pipe:read("a")
  pipe:close()
  return text
end

local function now() return tonumber((output("date +%s.%N"))) end

-- The paths that a pattern of the shell names, sorted.
function proof.files(pattern)
  local list = {}
  for path in output("ls -d " .. pattern .. " 2>/dev/null"):gmatch("[^\n]+") do list[#list + 1] = path end
  return list
end

-- Specs of the tools, which run whole suites in other processes; the part of the path by which they are known.
proof.BY_CHILDREN = { "/busted", "/suites_spec", "/planted", "/coverage_spec", "/model_spec", "/simulation_spec" }

-- All spec files, except those whose path contains one of `without`.
function proof.all_specs(without)
  local list = {}
  for path in output("find spec -name '*_spec.lua' | LC_ALL=C sort"):gmatch("[^\n]+") do
    local wanted = true
    for _, text in ipairs(without or {}) do wanted = wanted and not path:find(text, 1, true) end
    if wanted then list[#list + 1] = path end
  end
  return list
end

-- Calls specs(files, options) so that the engine's tests run on a virtual clock, on a slow machine a safe one, and those
-- that measure real time on the real one; then with the other files. The options tell which tests of the files are meant.
function proof.by_clock(files, specs)
  local engine, real, others = {}, {}, {}
  for _, path in ipairs(files) do
    local list = path:find("spec/engine/", 1, true) and engine or others
    list[#list + 1] = path
    if list == engine and command.slurp(path):find("#real", 1, true) then real[#real + 1] = path end
  end
  specs(engine, { exclude = "real", virtual = true })
  specs(real, { tags = "real" })
  specs(others, {})
end

-- A proof that begins now. env: variables for everything that it runs.
function proof.new(name, seed, env)
  return setmetatable({
    name = name, seed = seed, env = env or {}, points = 0, failures = 0, replays = {}, flaky = {}, began = now(),
  }, proof)
end

-- The command line that runs `words` by hand from the repository's root.
local function replay_of(words, env)
  local names, list = {}, {}
  for name in pairs(env) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do list[#list + 1] = name .. "=" .. command.quote(env[name]) end
  for _, word in ipairs(words) do
    list[#list + 1] = word:find("^[%w_./=:,@+-]+$") and word or command.quote(word)
  end
  return "env " .. table.concat(list, " ")
end

local INHERITED = { "LUNATION", "LUNATION_MODULE", "LUNATION_LUA", "LUNATION_SLOW" }

-- Runs `words`, and lets judge(stdout, stderr, code) say how many points that were and which failures (a list of
-- texts). What failed is printed with what the program said. judge's third result, if any, is called to look again at
-- failures which then do not count here.
function proof:run(label, words, judge)
  local began, env, call = now(), {}, { limit = words.limit or 120 }
  for _, name in ipairs(INHERITED) do env[name] = os.getenv(name) end
  for name, value in pairs(self.env) do env[name] = tostring(value) end
  for name, value in pairs(words.env or {}) do env[name] = tostring(value) end
  call.env = env
  for i, word in ipairs(words) do call[i] = word end
  local stdout, stderr, code = command.run(call)
  local seconds = now() - began
  local points, failed, again = judge(stdout, stderr, code)
  if (code == 124 or code == 137) and seconds >= call.limit then
    failed[#failed + 1], again = ("stopped after %d s"):format(call.limit), nil
  end
  self.points, self.failures = self.points + points, self.failures + (again and 0 or #failed)
  print(("%s: %d points, %d failures (%.1f s)"):format(label, points, #failed, seconds))
  if #failed > 0 then
    print("  " .. table.concat(failed, "\n  "))
    print((stdout .. stderr):sub(-12000))
    if not again and #self.replays < MOST_REPLAYS then self.replays[#self.replays + 1] = replay_of(words, env) end
  end
  io.stdout:flush()
  if again then again() end
end

local MOST_LINES = 30 -- of what a test that failed says

-- What busted said: how many tests ran, and those that failed, as {name, file, lines}. The third result is true if it
-- came to its end and its status says the same; that of a process that a sanitizer or valgrind ends says otherwise.
local function tap(stdout, code)
  local points, failed, ended, last = 0, {}, false, nil
  for line in stdout:gmatch("[^\n]+") do
    if last and line:find("^# ") and not line:find("^# .* @ %d+: ") and #last.lines < MOST_LINES then
      last.file = last.file or line:match("^# (.*) @ %d+$")
      last.lines[#last.lines + 1] = line
    else
      last = nil
    end
    if line:find("^ok %d+ %- ") and not line:find("# SKIP", 1, true) then points = points + 1 end
    local name = line:match("^not ok %d+ %- (.*)")
    if name then
      last = { name = name, lines = { line } }
      failed[#failed + 1] = last
    end
    ended = ended or line:find("^1%.%.%d+$") ~= nil
  end
  return points + #failed, failed, ended and code == (#failed > 0 and 1 or 0)
end

-- Signs of a memory error, or of a process of a test that died of a signal.
local GRAVE = { "Sanitizer", "runtime error:", "Assertion `", "status 134", "status 139" }

local function is_grave(text)
  for _, sign in ipairs(GRAVE) do
    if text:find(sign, 1, true) then return true end
  end
  return false
end

-- The failures of a run in words.
local function told(failed, sound, code)
  local list = {}
  for i, test in ipairs(failed) do list[i] = table.concat(test.lines, "\n  ") end
  if not sound and (#list == 0 or code > 1) then list[#list + 1] = ("ended with status %d"):format(code) end
  return list
end

-- The list of those of `files` in which the tests failed; all, if a test is not made in any of them but in what they
-- share.
local function concerned(files, failed)
  local wanted, list = {}, {}
  for _, test in ipairs(failed) do wanted[test.file or ""] = true end
  for _, file in ipairs(files) do
    if wanted[file] then list[#list + 1] = file end
    wanted[file] = nil
  end
  return next(wanted) and files or list
end

-- Runs files of specs in one process of the command; their tests are the points. options: prefix (words before the
-- command), exclude (tags of tests that are passed over), tags (of those that are not), virtual (on the virtual clock),
-- limit.
function proof:specs(files, options)
  options = options or {}
  local function words_for(list)
    local words = { limit = options.limit }
    local function add(more) table.move(more, 1, #more, #words + 1, words) end
    add(options.prefix or {})
    add { command.lunation, BUSTED, "--helper=spec/helper.lua", "-o", "TAP", "--verbose" }
    if options.exclude then add { "--exclude-tags=" .. options.exclude } end
    if options.tags then add { "--tags=" .. options.tags } end
    if options.virtual then add { "-Xhelper", "virtual-time" } end
    add(list)
    return words
  end

  -- Each file by itself: the tests were counted, what fails now is a failure.
  local function once_more(suspects, failed)
    local still, ended = {}, true
    for _, file in ipairs(suspects) do
      self:run(file .. " (again)", words_for { file }, function(stdout, _, code)
        local _, again, sound = tap(stdout, code)
        for _, test in ipairs(again) do still[test.name] = true end
        ended = ended and sound
        return 0, told(again, sound, code)
      end)
    end
    for _, test in ipairs(failed) do
      if ended and not still[test.name] then
        local file = #suspects == 1 and suspects[1] or test.file
        self.flaky[#self.flaky + 1] = ("%s: %s"):format(file, test.name)
      end
    end
  end

  self:run(table.concat(files, " "), words_for(files), function(stdout, stderr, code)
    local points, failed, sound = tap(stdout, code)
    local again
    if sound and #failed > 0 and not is_grave(stdout .. stderr) then
      again = function() once_more(concerned(files, failed), failed) end
    end
    return points, told(failed, sound, code), again
  end)
end

-- Runs a program that must end with status 0: one point.
function proof:program(label, words)
  self:run(label, words, function(_, _, code)
    return 1, code ~= 0 and { ("ended with status %d"):format(code) } or {}
  end)
end

-- Prints the last lines and ends the process.
function proof:finish()
  for _, test in ipairs(self.flaky) do print("failed once, passed again: " .. test) end
  for _, line in ipairs(self.replays) do print("replay: " .. line) end
  print(("%s: %d points, %d failures, seed %d, %.1f s"):format(self.name, self.points, self.failures, self.seed,
    now() - self.began))
  os.exit(self.failures == 0 and self.points > 0)
end

return proof

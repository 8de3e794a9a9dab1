-- What the proofs that are made of many runs of other programs share: each run is a child process with a limit; its
-- points and failures are added up, and every failure gets a line that replays it.
--
-- The last lines of a proof, which scripts/test reads:
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

-- A proof that begins now. env: variables for everything that it runs.
function proof.new(name, seed, env)
  return setmetatable({
    name = name, seed = seed, env = env or {}, points = 0, failures = 0, replays = {}, began = now(),
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
-- texts). What failed is printed with what the program said.
function proof:run(label, words, judge)
  local began, env, call = now(), {}, { limit = words.limit or 120 }
  for _, name in ipairs(INHERITED) do env[name] = os.getenv(name) end
  for name, value in pairs(self.env) do env[name] = tostring(value) end
  for name, value in pairs(words.env or {}) do env[name] = tostring(value) end
  call.env = env
  for i, word in ipairs(words) do call[i] = word end
  local stdout, stderr, code = command.run(call)
  local seconds = now() - began
  local points, failed = judge(stdout, stderr, code)
  if (code == 124 or code == 137) and seconds >= call.limit then
    failed[#failed + 1] = ("stopped after %d s"):format(call.limit)
  end
  self.points, self.failures = self.points + points, self.failures + #failed
  print(("%s: %d points, %d failures (%.1f s)"):format(label, points, #failed, seconds))
  if #failed > 0 then
    print("  " .. table.concat(failed, "\n  "))
    print((stdout .. stderr):sub(-12000))
    if #self.replays < MOST_REPLAYS then self.replays[#self.replays + 1] = replay_of(words, env) end
  end
  io.stdout:flush()
end

-- Runs files of specs in one process of the command; their tests are the points. options: prefix (words before the
-- command), exclude (a tag of tests that are passed over), limit.
function proof:specs(files, options)
  local words = { limit = options and options.limit }
  local function add(list)
    for _, word in ipairs(list) do words[#words + 1] = word end
  end
  add(options and options.prefix or {})
  add { command.lunation, BUSTED, "--helper=spec/helper.lua", "-o", "TAP", "--verbose" }
  if options and options.exclude then add { "--exclude-tags=" .. options.exclude } end
  add(files)
  self:run(table.concat(files, " "), words, function(stdout, _, code)
    local points, failed, ended = 0, {}, false
    for line in stdout:gmatch("[^\n]+") do
      if line:find("^ok %d+ %- ") and not line:find("# SKIP", 1, true) then points = points + 1 end
      if line:find("^not ok %d+ %- ") then failed[#failed + 1] = line end
      ended = ended or line:find("^1%.%.%d+$") ~= nil
    end
    if #failed == 0 and (code ~= 0 or not ended) then failed[1] = ("ended with status %d"):format(code) end
    return points + #failed, failed
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
  for _, line in ipairs(self.replays) do print("replay: " .. line) end
  print(("%s: %d points, %d failures, seed %d, %.1f s"):format(self.name, self.points, self.failures, self.seed,
    now() - self.began))
  os.exit(self.failures == 0 and self.points > 0)
end

return proof

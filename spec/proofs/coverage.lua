-- The proof of coverage: builds with LUNATION_COVERAGE, runs the specs that are about core/ and bindings/engine/, and
-- lets scripts/tools/coverage.lua judge what ran.
--
--   lua5.4 spec/proofs/coverage.lua [BUILD] [--keep] [NAME]      from the repository's root; BUILD: build/coverage
--
-- NAME: only the specs with NAME in their path, and --keep adds to what ran before: for looking at one file. The law is
-- coverage.lua's; on top of it a spec that fails here, and once more when it is repeated, is a failure. One that passes
-- then is named: `failed once, passed again: FILE: TEST`.
--
-- LUNATION_LONG=1 runs all specs, those in spec/ about the command and the examples included.

local JOBS = 2
local SLOW = 4 -- an unoptimised build, two specs at a time
local LIMIT = 60 -- seconds for one file of specs
-- It runs the command as somebody else, who may not write the counts.
local WITHOUT = "spec/io/stdio_spec.lua"
local ROOMS = { "spec/engine", "spec/io", "spec/testing", "spec/error_spec.lua", "spec/module_spec.lua",
  "spec/interrupt_spec.lua", "spec/cli_spec.lua" }

local build, keep, name = "build/coverage", false, nil
for i, word in ipairs(arg) do
  if word == "--keep" then
    keep = true
  elseif i == 1 then
    build = word
  else
    name = word
  end
end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function shell(...)
  local words = {}
  for i, word in ipairs { ... } do words[i] = quote(word) end
  return table.concat(words, " ")
end

local function output(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  return pipe:read("a"), pipe:close()
end

local function must(command)
  local text, ok = output(command)
  if not ok then
    io.write(text)
    print("replay: " .. command)
    print("coverage: 0 points, 1 failures, no seed, 0 s")
    os.exit(1)
  end
end

local function spec_files()
  local rooms = os.getenv("LUNATION_LONG") == "1" and { "spec" } or ROOMS
  local list = {}
  for path in output("find " .. shell(table.unpack(rooms)) .. " -name '*_spec.lua' | LC_ALL=C sort"):gmatch("[^\n]+") do
    if path ~= WITHOUT and (not name or path:find(name, 1, true)) then list[#list + 1] = path end
  end
  return list
end

local function command_for(path)
  local words = shell("LUNATION=" .. build .. "/lunation", "LUNATION_MODULE=" .. build .. "/lua", "LUNATION_LUA=lua5.4",
    "LUNATION_SLOW=" .. SLOW)
  -- Who starts this may have ignored SIGINT, and specs about signals would inherit that.
  return "env --default-signal " .. words .. " timeout -k 5 " .. LIMIT .. " "
    .. shell(build .. "/lunation", "/usr/bin/busted", "--helper=spec/helper.lua", "-o", "TAP", path)
    .. " </dev/null 2>&1"
end

-- Runs the files, JOBS at a time; the list of those that failed, with what they printed.
local function run(list, jobs)
  local failed, running, first = {}, {}, 1
  for i = 1, #list do
    for j = first + #running, math.min(#list, i + jobs - 1) do
      running[#running + 1] = { path = list[j], pipe = assert(io.popen(command_for(list[j]))) }
    end
    local job = table.remove(running, 1)
    first = i + 1
    local text = job.pipe:read("a")
    local ok, how, code = job.pipe:close()
    if not ok then
      -- By a signal that is not the one at the time limit.
      local died = how == "signal" or code > 128 and code ~= 137
      failed[#failed + 1] = { path = job.path, text = text, died = died }
    end
  end
  return failed
end

local function passed_again(what) print("failed once, passed again: " .. what) end

-- Runs the files of specs; how many failed, twice, or died.
local function specs(files)
  local wrong = 0
  for _, job in ipairs(run(files, JOBS)) do
    -- Time is short when much else runs on the machine: alone it has to pass.
    local again = job.died and job or run({ job.path }, 1)[1]
    if again then
      wrong = wrong + 1
      print(("missing: %s fails\n%s"):format(again.path, again.text))
    else
      local named = false
      print(job.text)
      for test in job.text:gmatch("not ok %d+ %- ([^\n]+)") do
        named = true
        passed_again(job.path .. ": " .. test)
      end
      if not named then passed_again(job.path .. ": it ended before its time") end
    end
  end
  return wrong
end

local function main()
  local started = os.time()
  build = output("mkdir -p " .. quote(build) .. " && cd " .. quote(build) .. " && pwd"):match("^[^\n]+")
  must(shell("cmake", "--preset", "coverage", "-B", build))
  must(shell("cmake", "--build", build))
  local judge = shell("lua5.4", "scripts/tools/coverage.lua", build)
  if not keep then must(judge .. " --reset") end
  local wrong = 0
  local text, ok = output(shell("ctest", "--test-dir", build, "-L", "^c$", "-j", tostring(JOBS), "--repeat",
    "until-pass:2", "--output-on-failure"))
  if not ok then
    wrong = 1
    print("missing: the C specs fail\n" .. text)
  end
  for test in text:gmatch("Test +#%d+: ([%w_]+) %.*%*%*%*") do passed_again(test) end
  local files = spec_files()
  wrong = wrong + specs(files)
  print(("%d files of specs ran"):format(#files))
  text = output(judge)
  local shown, points, failures = text:match("^(.*)coverage: (%d+) points, (%d+) failures\n$")
  if not shown then
    shown, points, failures = text, 0, 1
  end
  points, failures = tonumber(points), failures + wrong
  io.write(shown)
  if failures > 0 then print("replay: lua5.4 spec/proofs/coverage.lua " .. table.concat(arg, " ")) end
  print(("coverage: %d points, %d failures, no seed, %d s"):format(points, failures, os.time() - started))
  return failures == 0 and points > 0
end

os.exit(main() and 0 or 1, true)

-- What the specs run of core/ and bindings/, after they ran in a build with LUNATION_COVERAGE.
--
--   lua5.4 scripts/tools/coverage.lua BUILD                  prints the tables and what is wrong
--   lua5.4 scripts/tools/coverage.lua BUILD --uncovered [F]  and each line and branch that did not run (of files
--                                                            with F in their name)
--   lua5.4 scripts/tools/coverage.lua BUILD --reset          forgets what ran
--   lua5.4 scripts/tools/coverage.lua BUILD --reasons FILE   instead of spec/coverage.txt
--
-- The law: at least 95 % of the lines of core/ and bindings/engine/ together run, and each branch of core/ that is
-- never taken has its reason in spec/coverage.txt, which says how it is written. A reason that no longer fits is as
-- wrong as a missing one. Excused as a class are the failing arms of LUN_ASSERT, on lines that did run: they are the
-- invariants.
--
-- The counts are gcov's, in its text format; a branch is an arm of a condition, as gcov counts them. What a process ran
-- that was killed or left by _exit is lost (coverage_dump.c saves what it can), so nothing counts too much.

local LEAST = 95

local root = arg[0]:match("^(.*)scripts/tools/[^/]*$") or "../../"
if root == "" then root = "./" end

local function fail(text, ...)
  io.stderr:write("coverage: ", text:format(...), "\n")
  os.exit(2)
end

-- One word for the shell, whatever it contains.
local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function lines_from(command)
  local list = {}
  local pipe = assert(io.popen(command, "r"))
  for line in pipe:lines() do list[#list + 1] = line end
  return list, pipe:close()
end

local function first_line(command)
  local line = lines_from(command)[1]
  return line
end

-- ---- what gcov says ----

-- The source lines of all objects: files[name] = { [number] = { text, fn, count, arms = { count, ... } } }. A line of a
-- header is in many objects: its counts are added.
local files = {}

local function line_at(name, number, text)
  local file = files[name]
  if not file then
    file = {}
    files[name] = file
  end
  local line = file[number]
  if not line then
    line = { text = text:match("^%s*(.-)%s*$"), count = 0, arms = {} }
    file[number] = line
  end
  return line
end

-- Adds one object's report; `place` is what the names of our own sources begin with.
local function add(report, place)
  local name, fn, line, arm
  for _, text in ipairs(report) do
    local source = text:match("^%s*%-:%s*0:Source:(.*)$")
    if source then
      name = source:sub(1, #place) == place and source:sub(#place + 1) or nil
      if name and not (name:find("^core/") or name:find("^bindings/")) then name = nil end
      line, fn = nil, nil
    elseif name then
      local called = text:match("^function (%S+) called ")
      local count, number, code = text:match("^%s*([%d#=-]+)%*?:%s*(%d+):(.*)$")
      if called then
        fn = called
      elseif count then
        line, arm = nil, 0
        if count ~= "-" then
          line = line_at(name, tonumber(number), code)
          line.fn = fn
          line.count = line.count + (tonumber(count) or 0)
        end
      elseif line and text:find("^branch ") then
        arm = arm + 1
        line.arms[arm] = (line.arms[arm] or 0) + (tonumber(text:match(" taken (%d+)")) or 0)
      end
    end
  end
end

local function read_all(build)
  local place = first_line("cd " .. quote(root) .. " && pwd -P") .. "/"
  -- Those of the specs, too: of the headers they run what else nobody does.
  local objects = lines_from("cd " .. quote(build) .. " && find CMakeFiles -name '*.gcno' 2>/dev/null | LC_ALL=C sort")
  if #objects == 0 then fail("%s is no build with LUNATION_COVERAGE", build) end
  for _, object in ipairs(objects) do
    -- Without counts of its own an object never ran: gcov then says 0 for each line.
    local report, ok = lines_from("cd " .. quote(build) .. " && gcov -b -c --stdout " .. quote(object) .. " 2>&1")
    if not ok then fail("gcov: %s", table.concat(report, "\n"):sub(1, 1000)) end
    for _, line in ipairs(report) do
      -- What gcov says itself stands before the source; it goes on with counts that mean nothing.
      if line:find(":0:Source:", 1, true) then break end
      if line:find("newer than", 1, true) or line:find("mismatch", 1, true) then fail("%s: build again", line) end
    end
    add(report, place)
  end
end

-- ---- reasons ----

local REASONS = "spec/coverage.txt"

-- A list of { file, fn, text, missed, total, reason, at }.
local function read_reasons(path)
  local list, file, fn, entry = {}, nil, nil, nil
  local number = 0
  local input = io.open(path)
  if not input then fail("no file %s", path) end
  for line in input:lines() do
    number = number + 1
    local indent, rest = line:match("^( *)(.-)%s*$")
    if rest == "" or line:find("^#") then
      entry = rest ~= "" and entry or nil
    elseif #indent == 0 then
      file, fn = rest:match("^(%S+) (%S+)$")
      entry = nil
      if not file then fail("%s:%d: expected FILE FUNCTION", path, number) end
    elseif #indent == 2 then
      local missed, total, text = rest:match("^(%d+) of (%d+): (.*)$")
      if not (file and missed) then fail("%s:%d: expected '  N of M: source line'", path, number) end
      entry = { file = file, fn = fn, text = text, missed = tonumber(missed), total = tonumber(total), at = number,
        reason = "" }
      list[#list + 1] = entry
    elseif entry then
      entry.reason = entry.reason .. rest .. " "
    else
      fail("%s:%d: a reason of nothing", path, number)
    end
  end
  input:close()
  return list
end

-- ---- figures ----

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function missed_arms(line)
  local n = 0
  for _, count in ipairs(line.arms) do
    if count == 0 then n = n + 1 end
  end
  return n
end

local function invariant(line)
  return line.count > 0 and line.text:find("LUN_ASSERT(", 1, true) and missed_arms(line) * 2 <= #line.arms
end

local function tally(file)
  local t = { lines = 0, ran = 0, arms = 0, taken = 0 }
  for _, line in pairs(file) do
    t.lines = t.lines + 1
    t.ran = t.ran + (line.count > 0 and 1 or 0)
    t.arms = t.arms + #line.arms
    t.taken = t.taken + #line.arms - missed_arms(line)
  end
  return t
end

local function percent(part, whole) return whole > 0 and part * 100 / whole or 100 end

local function row(name, t)
  print(("%-32s %6d %6d %6.1f %8d %6d %6.1f"):format(name, t.lines, t.ran, percent(t.ran, t.lines), t.arms, t.taken,
    percent(t.taken, t.arms)))
end

-- One row for each file whose room is in `rooms`, and their sum, which is returned.
local function show(title, rooms)
  print(("%-32s %6s %6s %6s %8s %6s %6s"):format(title, "lines", "ran", "%", "branches", "taken", "%"))
  local total = { lines = 0, ran = 0, arms = 0, taken = 0 }
  for _, room in ipairs(rooms) do
    for _, name in ipairs(sorted(files)) do
      if name:match("^(.*/)[^/]*$") == room then
        local t = tally(files[name])
        row(name, t)
        for key, value in pairs(t) do total[key] = total[key] + value end
      end
    end
  end
  row("all of it", total)
  print()
  return total
end

local function show_uncovered(part)
  for _, name in ipairs(sorted(files)) do
    if name:find(part or "", 1, true) then
      for _, number in ipairs(sorted(files[name])) do
        local line = files[name][number]
        local missed = missed_arms(line)
        if line.count == 0 or missed > 0 and not invariant(line) then
          local what = line.count == 0 and "never ran" or ("%d of %d"):format(missed, #line.arms)
          print(("%s:%d: %s: %s: %s"):format(name, number, line.fn, what, line.text))
        end
      end
    end
  end
  print()
end

-- ---- the law ----

local findings = 0
local function finding(text, ...)
  findings = findings + 1
  print("missing: " .. text:format(...))
end

-- What core's branches lack, by file, function and text of the line: lines that read the same count as one.
local function uncovered_branches()
  local list, by_key = {}, {}
  for _, name in ipairs(sorted(files)) do
    for _, number in ipairs(name:find("^core/") and sorted(files[name]) or {}) do
      local line = files[name][number]
      if missed_arms(line) > 0 and not invariant(line) then
        local key = name .. "\n" .. (line.fn or "") .. "\n" .. line.text
        local entry = by_key[key]
        if not entry then
          entry = { file = name, number = number, fn = line.fn, text = line.text, missed = 0, total = 0 }
          by_key[key] = entry
          list[#list + 1] = entry
        end
        entry.missed = entry.missed + missed_arms(line)
        entry.total = entry.total + #line.arms
      end
    end
  end
  return list, by_key
end

local function check_reasons(path)
  local list, by_key = uncovered_branches()
  local excused = 0
  for _, reason in ipairs(read_reasons(path)) do
    local entry = by_key[reason.file .. "\n" .. reason.fn .. "\n" .. reason.text]
    if reason.reason == "" then
      finding("%s:%d: no reason is given", path, reason.at)
    end
    if not entry or entry.excused then
      finding("%s:%d: no such branch is uncovered (any more): %s", path, reason.at, reason.text)
    else
      entry.excused = true
      excused = excused + entry.missed
      if entry.missed ~= reason.missed or entry.total ~= reason.total then
        finding("%s:%d: the reason is for %d of %d branches, uncovered are %d of %d: %s", path, reason.at,
          reason.missed, reason.total, entry.missed, entry.total, reason.text)
      end
    end
  end
  for _, entry in ipairs(list) do
    if not entry.excused then
      finding("%s:%d: %s: %d of %d branches are not taken, and no reason is given: %s", entry.file, entry.number,
        entry.fn, entry.missed, entry.total, entry.text)
    end
  end
  return excused
end

local function main()
  local build, uncovered, part, reset, reasons
  local i = 1
  while i <= #arg do
    local word = arg[i]
    if word == "--uncovered" then
      uncovered = true
      if arg[i + 1] and not arg[i + 1]:find("^%-") then
        i = i + 1
        part = arg[i]
      end
    elseif word == "--reset" then
      reset = true
    elseif word == "--reasons" and arg[i + 1] then
      i = i + 1
      reasons = arg[i]
    elseif word:find("^%-") or build then
      fail("unexpected argument %s", word)
    else
      build = word
    end
    i = i + 1
  end
  if not build then fail("expected the folder of a build") end
  if reset then
    return os.execute("find " .. quote(build) .. " -name '*.gcda' -delete")
  end
  read_all(build)
  if uncovered then show_uncovered(part) end
  local total = show("core and bindings/engine", { "core/", "bindings/engine/" })
  show("bindings and bindings/io", { "bindings/", "bindings/io/", "bindings/cli/" })
  local share = percent(total.ran, total.lines)
  if share < LEAST then
    finding("%.2f %% of the lines of core and bindings/engine ran, less than %d %%", share, LEAST)
  end
  local excused = check_reasons(reasons or root .. REASONS)
  print(("%d branches of core not taken, each with a reason"):format(excused))
  print(("coverage: %d points, %d failures"):format(total.lines, findings))
  return findings == 0 and total.lines > 0
end

os.exit(main() and 0 or 1, true)

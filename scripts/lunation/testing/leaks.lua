-- What is alive in a loop, compared with what was: the lists of testing.leaks.
--
-- A list knows what it has seen by the number of a task and the object of a Handle, never by the task itself: who
-- keeps a list must not keep an error from being found. Handles of libuv's and requests are counted.
local async = require "lunation"
local check = require "lunation.check"
local probe = require "lunation.probe"

local leaks = {}

-- Handles of our own that are no business of anybody's.
leaks.hidden = {}

local Leaks = { __name = "list of leaks" }
Leaks.__index = Leaks

-- What tells a row from others, and how often it counts.
local function key(row)
  if row.kind == "request" then return "request", tonumber(row.text:match("^%d+")) end
  return row.number or row.object or row.text .. "\n" .. (row.where or ""), 1
end

-- leaks.picture() -> set of what is alive now, and its rows.
function leaks.picture()
  local set, rows = {}, {}
  for _, row in ipairs(probe.live()) do
    if not row.awaits and not (row.object and leaks.hidden[row.object]) then
      local k, n = key(row)
      set[k] = (set[k] or 0) + n
      rows[#rows + 1] = row
    end
  end
  return set, rows
end

-- leaks.news(before) -> rows of what is alive now and was not in the set `before`, and the set of now.
function leaks.news(before)
  local set, rows = leaks.picture()
  local list, seen = {}, {}
  for _, row in ipairs(rows) do
    local k, n = key(row)
    local known = before[k] or 0
    seen[k] = (seen[k] or 0) + n
    if seen[k] > known then
      if row.kind == "request" then row.text = ("%d in flight"):format(n - known) end
      list[#list + 1] = row
    end
  end
  return list, set
end

-- A row as a line.
function leaks.line(row)
  if not row.where then return row.kind .. " " .. row.text end
  return ("%s %s, made at %s"):format(row.kind, row.text, row.where)
end

local function text(rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = leaks.line(row) end
  return table.concat(lines, "\n")
end
leaks.text = text
Leaks.__tostring = text

-- What each list has seen; beside it, so that a list has rows and nothing else.
local function seen_by(list) return getmetatable(list).seen end

local function is_list(value)
  local meta = type(value) == "table" and getmetatable(value)
  return type(meta) == "table" and meta.__name == Leaks.__name
end

-- testing.leaks, see there.
function leaks.list(before)
  if before == nil then
    probe.sites(true)
  elseif not is_list(before) then
    check.is(before, Leaks, 1, "leaks")
  end
  local rows, set = leaks.news(before and seen_by(before) or {})
  local list = setmetatable({}, { __name = Leaks.__name, __tostring = text, seen = set })
  for i, row in ipairs(rows) do list[i] = { kind = row.kind, text = row.text, where = row.where } end
  return list
end

-- testing.tree, see there.
function leaks.tree()
  local pieces = {}
  async.dump { write = function(_, piece) pieces[#pieces + 1] = piece end }
  return table.concat(pieces)
end

return leaks

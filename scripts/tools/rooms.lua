-- Keeps the house in order: who may include whom, how long things get, what they are called.
--
--   lua5.4 scripts/tools/rooms.lua [ROOT]      (default: the repository this file is in)
--
-- Prints each finding as file:line: text, then a count; exit status 1 if there is any. The rules
-- are those of the map in the README; every rule here names the place it guards, so a rule that
-- is in the way is changed here, in the open, not worked around.

local MAX_FILE, MAX_FUNCTION = 600, 60

local root = arg[1] or arg[0]:match("^(.*)scripts/tools/[^/]*$") or "../.."
if root == "" then root = "." end

local findings = 0
local function report(file, line, text, ...)
  findings = findings + 1
  print(("%s:%d: %s"):format(file, line, text:format(...)))
end

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function list_files()
  local files = {}
  local find <close> = assert(io.popen("cd " .. quote(root) ..
    " && find core bindings scripts spec .ci -type f 2>/dev/null | LC_ALL=C sort"))
  for name in find:lines() do files[#files + 1] = name end
  return files
end

local function read(name)
  local f <close> = assert(io.open(root .. "/" .. name, "rb"))
  return (f:read("a"))
end

local function lines_of(text)
  local lines = {}
  for line in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("(.-)\n") do
    lines[#lines + 1] = line
  end
  return lines
end

-- C without its comments and without what stands inside quotes; every line stays where it is.
local function strip_c(text)
  local out, at = {}, 1
  local function blank(s) return (s:gsub("[^\n]", " ")) end
  while true do
    local start = text:find("[/\"']", at)
    if not start then break end
    out[#out + 1] = text:sub(at, start - 1)
    local two = text:sub(start, start + 1)
    local stop
    if two == "/*" then
      stop = select(2, text:find("*/", start + 2, true)) or #text
      out[#out + 1] = blank(text:sub(start, stop))
    elseif two == "//" then
      stop = (text:find("\n", start, true) or #text + 1) - 1
      out[#out + 1] = blank(text:sub(start, stop))
    elseif two:sub(1, 1) == "/" then
      stop = start
      out[#out + 1] = "/"
    else
      local mark = two:sub(1, 1)
      stop = start + 1
      while stop <= #text and text:sub(stop, stop) ~= mark and text:sub(stop, stop) ~= "\n" do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
      out[#out + 1] = mark .. blank(text:sub(start + 1, stop - 1)) .. text:sub(stop, stop)
    end
    at = stop + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

-- Floors of core/: a header includes those of lower floors only. One that is not named here stands
-- one floor above the highest that it includes, or in the cellar.
local FLOOR = {
  ["list.h"] = 0, ["heap.h"] = 0,
  ["future.h"] = 1, ["timer.h"] = 1,
  ["task.h"] = 2,
  ["join.h"] = 3, ["park.h"] = 3, ["op.h"] = 3, ["fault.h"] = 3,
  ["loop.h"] = 4, ["lunation.h"] = 5,
}
local LUA_HEADERS = { ["lua.h"] = true, ["lauxlib.h"] = true, ["lualib.h"] = true, ["lua.hpp"] = true }

local function basename(path) return path:match("[^/]*$") end

-- The repository's own file that `#include "name"` in `file` means, or nil.
local function resolve(file, name, exists)
  local folder = file:match("^(.*)/")
  for _, place in ipairs { folder .. "/", "bindings/", "core/" } do
    local path = place .. name
    repeat
      local count
      path, count = path:gsub("[^/]+/%.%./", "", 1)
    until count == 0
    if exists[path] then return path end
  end
end

local function includes_of(lines)
  local found = {}
  for number, line in ipairs(lines) do
    local name = line:match('^%s*#%s*include%s*["<]([^">]+)[">]')
    if name then found[#found + 1] = { name = name, line = number } end
  end
  return found
end

local function room_of(path)
  if path == "bindings/cli.c" or path:find("^bindings/cli/") then return "cli" end
  return path:match("^bindings/(engine)/") or path:match("^bindings/(io)/")
    or path:match("^(%w+)/")
end

local floors = {}
local function floor_of(path, sources, exists, trail)
  if floors[path] then return floors[path] end
  local named = FLOOR[basename(path)]
  if named then
    floors[path] = named
    return named
  end
  trail = trail or {}
  if trail[path] then return math.huge end
  trail[path] = true
  local height = -1
  for _, inc in ipairs(includes_of(lines_of(sources[path]))) do
    local target = resolve(path, inc.name, exists)
    if target and room_of(target) == "core" then
      height = math.max(height, floor_of(target, sources, exists, trail) + 1)
    end
  end
  trail[path] = nil
  floors[path] = height
  return height
end

local function check_includes(file, lines, sources, exists)
  local room = room_of(file)
  for _, inc in ipairs(includes_of(lines)) do
    local target = resolve(file, inc.name, exists)
    local there = target and room_of(target)
    local function wrong(text, ...) report(file, inc.line, text, ...) end
    if room == "core" then
      if LUA_HEADERS[basename(inc.name)] or (there and there ~= "core")
        or inc.name:find("^lunl") or inc.name:find("lunation_lua") then
        wrong("core knows no Lua and no binding: %s", inc.name)
      elseif inc.name:find("^uv%.h$") or inc.name:find("^uv/") then
        local stem = basename(file)
        -- The header for hosts names it, too: C++ wants it included outside of extern "C".
        if not (stem:find("^loop") or stem:find("^timer") or stem:find("^op") or stem == "lunation.h") then
          wrong("libuv enters the core in loop, timer and op only")
        end
      elseif target and file:find("%.h$") then
        local mine, theirs = floor_of(file, sources, exists), floor_of(target, sources, exists)
        if theirs >= mine then
          wrong("headers include lower floors only: %s is on floor %s, this one on %s",
            inc.name, theirs, mine)
        end
      end
    elseif room == "cli" then
      if target and target ~= "bindings/lunation_lua.h" and there ~= "cli" then
        wrong("the command is a host like any other: of ours it includes lunation_lua.h only, not %s",
          inc.name)
      end
    elseif room == "engine" and there == "io" then
      wrong("engine/ never includes io/: %s", inc.name)
    elseif room == "io" and there == "engine" then
      wrong("io/ never includes engine/: %s", inc.name)
    elseif room == "bindings" and file:find("%.h$") and (there == "engine" or there == "io") then
      wrong("a header of bindings/ never includes one of %s/: %s", there, inc.name)
    elseif there == "cli" and room ~= "cli" then
      wrong("nobody includes the command's headers: %s", inc.name)
    end
    if (room == "engine" or room == "io" or room == "bindings") and LUA_HEADERS[inc.name]
      and file ~= "bindings/lunl.h" and file ~= "bindings/lunation_lua.h" then
      wrong("Lua enters through lunl.h: %s", inc.name)
    end
  end
end

-- Every function defined in a C file: { name, first, last, signature }. In the house's style the
-- body's braces stand alone in the first column, and nothing else does. A signature begins after
-- the last line that is blank, a preprocessor's, or ends something else.
local function functions_of(stripped)
  local found, open = {}, nil
  for number, line in ipairs(stripped) do
    if line:find("^{%s*$") then
      local first = number
      while first > 1 do
        local above = stripped[first - 1]
        if above:find("^%s*$") or above:find("^%s*#") or above:find("[;}]%s*$") then break end
        first = first - 1
      end
      local signature = table.concat(stripped, " ", first, number - 1)
      local bare = signature:gsub("__attribute__%s*%b()", " "):gsub("_Alignas%s*%b()", " ")
      open = { name = bare:match("([%a_][%w_]*)%s*%("), first = first, signature = signature }
    elseif line:find("^}") and open then
      open.last = number
      if open.name then found[#found + 1] = open end
      open = nil
    end
  end
  return found
end

-- The first words of the comment that ends directly above `line`, or nil.
local function comment_above(lines, line)
  local last = line - 1
  if last < 1 then return end
  local first = last
  if lines[last]:find("^%s*//") then
    while first > 1 and lines[first - 1]:find("^%s*//") do first = first - 1 end
    return lines[first]:match("^%s*//%s*(.*)")
  elseif lines[last]:find("%*/%s*$") then
    while first > 1 and not lines[first]:find("/%*") do first = first - 1 end
    local text = lines[first]:match("/%*+%s*(.*)")
    if text == "" and first < last then text = lines[first + 1]:match("^%s*%*?%s*(.*)") end
    return text
  end
end

local function check_functions(file, lines, stripped, public)
  local room = room_of(file)
  for _, f in ipairs(functions_of(stripped)) do
    local length = f.last - f.first + 1
    if length > MAX_FUNCTION and file:find("%.c$") then
      report(file, f.first, "%s has %d lines, more than %d", f.name, length, MAX_FUNCTION)
    end
    local static = (" " .. f.signature .. " "):find("[^%w_]static[^%w_]")
    if not static then
      local good
      if room == "core" then
        good = f.name:find("^lun_")
      else
        good = f.name:find("^lunl_") or f.name:find("^luaopen_lunation")
          or (room == "cli" and (f.name == "main" or f.name:find("^cli_")))
          or (f.name:find("^lun_") and public:find("%f[%w_]" .. f.name .. "%f[^%w_]"))
      end
      if not good then
        report(file, f.first, "%s is not static: its name begins with %s",
          f.name, room == "core" and "lun_" or "lunl_")
      end
    elseif room ~= "core" and f.name:find("^l_") and not f.signature:find("lua_KContext") then
      local text = comment_above(lines, f.first)
      if not (text and text:find("^%-%-%- ")) then
        report(file, f.first, "%s can be called from Lua: above it stands its manual line, "
          .. "/* --- name(arguments): ... */", f.name)
      end
    end
  end
end

local UNFINISHED = { "TO" .. "DO", "FIX" .. "ME", "X" .. "XX" }

local function check_text(file, lines)
  for number, line in ipairs(lines) do
    for _, word in ipairs(UNFINISHED) do
      if line:find("%f[%w_]" .. word .. "%f[^%w_]") then
        report(file, number, "%s: finish it, or file an issue", word)
      end
    end
  end
  if #lines > MAX_FILE then
    report(file, #lines, "%d lines, more than %d", #lines, MAX_FILE)
  end
end

-- What each kind of file that is looked at opens with; a file without an extension is a script.
local COMMENT = { c = "^/[*/]", h = "^/[*/]", lua = "^%-%-", cmake = "^#", sh = "^#" }

local function check_opening(file, lines)
  local first = lines[1] or ""
  local mark = COMMENT[file:match("%.(%w+)$")]
  if first:find("^#!") then
    mark = mark or "^#"
    first = lines[2] or ""
  end
  if mark and not first:find(mark) then
    report(file, 1, "a file opens with a comment that says what lives here")
  end
end

local MAY_YIELD = { ["bindings/await.c"] = true, ["bindings/engine/coroutine.c"] = true }

local function check_code(file, stripped)
  local room = room_of(file)
  for number, line in ipairs(stripped) do
    if room ~= "spec" and not MAY_YIELD[file] and line:find("%f[%w_]lua_yieldk?%f[^%w_]") then
      report(file, number, "there is one await: waiting goes through bindings/await.c")
    end
    if room == "core" and line:find("%f[%w_]lua_%a") then
      report(file, number, "core knows no Lua")
    end
  end
end

local function main()
  local files = list_files()
  local sources, exists = {}, {}
  for _, file in ipairs(files) do
    if COMMENT[file:match("%.(%w+)$")] or not basename(file):find("%.") then
      sources[file] = read(file)
      exists[file] = true
    end
  end
  local public = sources["bindings/lunation_lua.h"] or ""
  local seen = 0
  for _, file in ipairs(files) do
    local text = sources[file]
    if text then
      seen = seen + 1
      local lines = lines_of(text)
      check_text(file, lines)
      check_opening(file, lines)
      if file:find("%.[ch]$") then
        local room = room_of(file)
        local stripped = lines_of(strip_c(text))
        if room ~= "spec" and room ~= "scripts" then
          check_includes(file, lines, sources, exists)
          check_functions(file, lines, stripped, public)
          check_code(file, stripped)
        end
      end
    end
  end
  if findings == 1 then
    print(("rooms: %d files, 1 finding"):format(seen))
  else
    print(("rooms: %d files, %d findings"):format(seen, findings))
  end
  return findings == 0 and seen > 0
end

os.exit(main() and 0 or 1, true)

-- Reads and writes ini files: sections, keys, comments, numbers and booleans.
local ini = {}

local function value_of(text)
  if text == "true" then return true end
  if text == "false" then return false end
  return tonumber(text) or text:match('^"(.*)"$') or text
end

-- The table of sections; keys outside of one stand in the section "".
function ini.parse(text)
  local sections = { [""] = {} }
  local section, number = sections[""], 0
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    line = line:match("^%s*(.-)%s*$")
    local name = line:match("^%[(.-)%]$")
    if name then
      section = sections[name] or {}
      sections[name] = section
    elseif line ~= "" and not line:find("^[;#]") then
      local key, value = line:match("^([%w_.-]+)%s*=%s*(.-)$")
      if not key then error({ line = number, text = line, message = "not a pair" }) end
      section[key] = value_of(value)
    end
  end
  return sections
end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

function ini.format(sections)
  local out = {}
  for _, name in ipairs(sorted(sections)) do
    if name ~= "" then out[#out + 1] = "[" .. name .. "]" end
    for _, key in ipairs(sorted(sections[name])) do
      out[#out + 1] = key .. " = " .. tostring(sections[name][key])
    end
  end
  return table.concat(out, "\n") .. "\n"
end

function ini.load(path, open)
  local file, e = (open or io.open)(path, "r")
  if not file then return nil, e end
  local text = file:read("a")
  file:close()
  return ini.parse(text)
end

return ini

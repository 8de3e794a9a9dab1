-- A tokenizer for small arithmetic and assignment languages: names, numbers, strings, operators.
local tokenizer = {}

local OPERATORS = { ["=="] = true, ["~="] = true, ["<="] = true, [">="] = true, [".."] = true }

local function escape(c)
  return ({ n = "\n", t = "\t", ["\\"] = "\\", ['"'] = '"' })[c]
end

local function quoted(text, at)
  local out, i = {}, at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' then return table.concat(out), i + 1 end
    if c == "\\" then
      i = i + 1
      local meant = escape(text:sub(i, i))
      if not meant then error(("bad escape at %d"):format(i), 0) end
      c = meant
    end
    out[#out + 1] = c
    i = i + 1
  end
  error(("unfinished string at %d"):format(at), 0)
end

-- One token and the place behind it; nil at the end.
function tokenizer.next(text, at)
  at = text:find("%S", at or 1)
  if not at then return nil end
  local word = text:match("^[%a_][%w_]*", at)
  if word then return { kind = "name", value = word, at = at }, at + #word end
  local number = text:match("^%d+%.?%d*", at)
  if number then return { kind = "number", value = tonumber(number), at = at }, at + #number end
  if text:sub(at, at) == '"' then
    local value, behind = quoted(text, at)
    return { kind = "string", value = value, at = at }, behind
  end
  local two = text:sub(at, at + 1)
  local sign = OPERATORS[two] and two or text:match("^[-+*/%%^=<>(){},;#]", at)
  if not sign then error(("unexpected character %q at %d"):format(text:sub(at, at), at), 2) end
  return { kind = "operator", value = sign, at = at }, at + #sign
end

-- Iterates over the tokens, made by a coroutine on the way.
function tokenizer.each(text)
  return coroutine.wrap(function()
    local at, token = 1, nil
    repeat
      token, at = tokenizer.next(text, at)
      if token then coroutine.yield(token) end
    until not token
  end)
end

function tokenizer.list(text)
  local list = {}
  for token in tokenizer.each(text) do list[#list + 1] = token end
  return list
end

return tokenizer

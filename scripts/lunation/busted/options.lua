-- The options of `lunation test` that are not busted's: reading them, and writing them down again for a replay.
--
-- Law: what is not ours is passed on untouched, in its order. An argument that is the value of an option of busted's
-- is never taken for an option.
local options = {}

options.help = [[
usage: lunation [options] test [options] [busted's arguments]
Runs busted inside Lunation: every block may await. Options beside busted's own, which follow:
  --virtual-time      the clock jumps to the next deadline when nothing else can happen
  --timeout SECONDS   time limit of each block, 5 by default; 0: none
  --seed N            ready tasks run in an order drawn from the integer N; busted gets it, too
  --shuffle-tasks N   run each test under N seeds, one after the other, from --seed on
  --sweep=MODE        cancel or throw: run each test again once for each point at which it
                      suspends, with a cancel, or an error, delivered there; may be given twice.
                      A test with #nosweep in its name is passed over
  --sweep-scope=code  what the text of the test itself has made may be left behind by a cut run;
                      run: anything may that ends when it is cancelled, as at the end of async.run
  --sweep-max=N       at most N points of each test, from all over it
  --sweep-point=N     of the sweep only this point: replays a failure
]]

-- Options of busted's whose value may be the next argument.
local VALUED = {}
for name in ([[-p --pattern --exclude-pattern -e -o --output -C --directory -f --config-file --coverage-config-file
  -t --tags --exclude-tags --filter --filter-out -m --lpath --cpath -r --run --repeat --seed --lang --loaders --helper
  --lua -Xoutput -Xhelper]]):gmatch("%S+") do VALUED[name] = true end

-- Those that a replay needs, too: they say where things are and what is loaded.
local KEPT = {}
for name in ([[-C --directory -f --config-file -m --lpath --cpath -r --run --loaders --helper -Xhelper --lazy --no-lazy
  --no-auto-insulate --auto-insulate -e]]):gmatch("%S+") do KEPT[name] = true end

local function integer(text) return math.tointeger(tonumber(text)) end

local function count(text)
  local n = integer(text)
  if n and n >= 1 then return n end
  return nil, "an integer of 1 or more"
end

-- How each value is read: the value, or nil and what was expected.
local READ = {
  seed = function(text)
    local n = integer(text)
    if n then return n end
    return nil, "an integer"
  end,
  ["shuffle-tasks"] = count,
  ["sweep-max"] = count,
  ["sweep-point"] = count,
  timeout = function(text)
    local n = tonumber(text)
    if n and n >= 0 and n < math.huge then return n end
    return nil, "a number of seconds, 0 or more"
  end,
  sweep = function(text)
    if text == "cancel" or text == "throw" then return text end
    return nil, "'cancel' or 'throw'"
  end,
  ["sweep-scope"] = function(text)
    if text == "code" or text == "run" then return text end
    return nil, "'code' or 'run'"
  end,
}

local function set(own, name, value)
  if name == "sweep" then
    for _, mode in ipairs(own.sweep) do
      if mode == value then return end
    end
    own.sweep[#own.sweep + 1] = value
  else
    own[(name:gsub("-", "_"))] = value
  end
end

local function bad(name, expected, text)
  return nil, text and ("'--%s' needs %s, got '%s'"):format(name, expected, text)
    or ("'--%s' needs %s"):format(name, expected)
end

local function check(own)
  if own.sweep_point and #own.sweep ~= 1 then return nil, "'--sweep-point' needs one '--sweep=cancel' or '--sweep=throw'" end
  return own
end

-- The time limit of a block if none is given, seconds.
options.LIMIT = 5

-- options.new(): what holds if nothing is given.
function options.new() return { sweep = {} } end

-- options.take(own, list) -> own, rest: takes our options out of a list of arguments; nil and a text if one is bad.
function options.take(own, list)
  local rest, at = {}, 1
  while list[at] do
    local word = list[at]
    local name, text = word:match("^%-%-([%w-]+)=(.*)$")
    name = name or word:match("^%-%-([%w-]+)$")
    if word == "--" then
      table.move(list, at, #list, #rest + 1, rest)
      break
    elseif word == "--virtual-time" then
      own.virtual_time = true
    elseif name and READ[name] then
      local first = at
      if not text then
        at = at + 1
        text = list[at]
      end
      local value, expected = nil, nil
      if text then value, expected = READ[name](text) else expected = select(2, READ[name]("")) end
      if value == nil then return bad(name, expected, text) end
      set(own, name, value)
      if name == "seed" then table.move(list, first, at, #rest + 1, rest) end
    else
      rest[#rest + 1] = word
      if VALUED[word] and list[at + 1] then
        at = at + 1
        rest[#rest + 1] = list[at]
      end
    end
    at = at + 1
  end
  local ok, text = check(own)
  if not ok then return nil, text end
  return own, rest
end

-- options.take_helper(own, list) -> own: the same from the list of a helper's options (-Xhelper): `virtual-time`,
-- `seed=7`, ... What is not ours is another's.
function options.take_helper(own, list)
  for _, word in ipairs(list) do
    local name, text = word:match("^%-?%-?([%w-]+)=(.*)$")
    if word:match("^%-?%-?virtual%-time$") then
      own.virtual_time = true
    elseif name and READ[name] then
      local value, expected = READ[name](text)
      if value == nil then return bad(name, expected, text) end
      set(own, name, value)
    end
  end
  return check(own)
end

-- options.kept(rest) -> list: the arguments of busted's that a replay has to repeat.
function options.kept(rest)
  local list, at = {}, 1
  while rest[at] and rest[at] ~= "--" do
    local word = rest[at]
    local keep = KEPT[word:match("^[^=]+")]
    if keep then list[#list + 1] = word end
    if VALUED[word] and rest[at + 1] then
      at = at + 1
      if keep then list[#list + 1] = rest[at] end
    end
    at = at + 1
  end
  return list
end

return options

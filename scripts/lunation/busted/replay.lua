-- The lines under a failure that say how to see it again.
local replay = {}

local function quote(word)
  if word:match("^[%w%._/=:,@+-]+$") then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- The name by which busted's --filter knows a test.
local function full_name(core, element)
  local names = { element.name or element.descriptor }
  local parent = core.context.parent(element)
  while parent and (parent.name or parent.descriptor) and parent.descriptor ~= "file" do
    table.insert(names, 1, tostring(parent.name or parent.descriptor))
    parent = core.context.parent(parent)
  end
  return table.concat(names, " ")
end

local function file_of(core, element)
  while element and element.descriptor ~= "file" do element = core.context.parent(element) end
  return element and element.name
end

-- replay.command(run, element, seed, sweep, point) -> text: the command that runs this test alone.
function replay.command(run, element, seed, sweep, point)
  local own, words = run.own, { "lunation test" }
  local function add(word) words[#words + 1] = quote(word) end
  if own.virtual_time then add("--virtual-time") end
  if own.timeout then add(("--timeout=%g"):format(own.timeout)) end
  if seed then add("--seed=" .. seed) end
  if sweep then
    add("--sweep=" .. sweep)
    if own.sweep_scope then add("--sweep-scope=" .. own.sweep_scope) end
    add("--sweep-point=" .. point)
  end
  for _, word in ipairs(own.replayed) do add(word) end
  if element.descriptor == "it" then
    local name = full_name(run.core, element):gsub("%p", "%%%0")
    add("--filter=^" .. name .. "$")
  end
  local file = file_of(run.core, element)
  if file then add(file) end
  return table.concat(words, " ")
end

-- replay.added(run, element, message) -> message: with the seed and the command under it, if a seed was given.
function replay.added(run, element, message)
  local seed = run.seed
  if not seed or type(message) ~= "string" or not element.descriptor or message:find("\nreplay: ", 1, true) then
    return message
  end
  return ("%s\nseed: %d\nreplay: %s"):format(message, seed, replay.command(run, element, seed))
end

return replay

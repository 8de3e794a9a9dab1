-- A suite drawn from the number in the environment variable SUITE: nested blocks of all kinds with hooks of all kinds,
-- which pass, fail, throw, are pending, print. The same number makes the same suite; math.random stays busted's.
local state = assert(math.tointeger(tonumber(os.getenv "SUITE" or 1)))

local function draw(n)
  state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
  return (state >> 20) % n + 1
end

local function chance(percent) return draw(100) <= percent end

local count = 0
local function number()
  count = count + 1
  return count
end

-- What a block does besides saying that it runs; drawn now, done when it runs.
local deeds = {
  function() error "thrown" end,
  function() error { thrown = "table" } end,
  function() error() end,
  function() error(setmetatable({}, { __tostring = function() return "with a text" end })) end,
  function() assert.equal(1, 2) end,
  function() assert.is_true(false, "with a message") end,
  function() assert.same({ a = 1 }, { a = 2 }) end,
  function() return nil + 1 end,
  function() coroutine.wrap(function() error "in a coroutine" end)() end,
  function() pending "not now" end,
  function() it("inside", function() end) end,
  function() string.rep() end,
}

local function deed(percent) return chance(percent) and deeds[draw(#deeds)] or nil end

local function body(name, percent, finishes)
  local act, last = deed(percent), finishes and chance(15) and (deed(40) or function() end)
  return function()
    io.write("# ", name, "\n")
    if last then
      finally(function()
        io.write("# ", name, " finally\n")
        last()
      end)
    end
    if act then act() end
  end
end

local hooks = {
  "setup", "teardown", "lazy_setup", "lazy_teardown", "strict_setup", "strict_teardown", "before_each", "after_each",
}
local nesting = { "describe", "context", "insulate", "expose" }
local testing = { "it", "spec", "test" }

local fill

local function nested(depth)
  local kind, id = nesting[draw(#nesting)], number()
  local name = ("%s %d%s"):format(kind, id, chance(20) and " #tag" .. draw(3) or "")
  local act = deed(6)
  _ENV[kind](name, function()
    if chance(15) then randomize(draw(1000)) end
    fill(depth + 1)
    if act then act() end
  end)
end

local function test()
  local kind, id = testing[draw(#testing)], number()
  local name = ("%s %d%s"):format(kind, id, chance(20) and " #tag" .. draw(3) or "")
  if chance(8) then
    pending(name)
  else
    _ENV[kind](name, body(name, 30, true))
  end
end

-- The blocks of one level. All that is drawn is drawn while bodies run, which is in the order of the file.
function fill(depth)
  for _ = 1, draw(3) - 1 do
    local kind = hooks[draw(#hooks)]
    _ENV[kind](body(kind .. " " .. number(), 8))
  end
  for _ = 1, draw(4) do
    if depth < 4 and chance(45) then nested(depth) else test() end
  end
end

fill(1)
for _ = 1, 3 do nested(1) end

-- A helper that puts awaits into every block of a suite that has none: around each function that is registered as a
-- test, a hook or a body it sleeps, joins a task and gathers. The suite must not notice.
local async = require "lunation"
local busted = require "busted"
local environment = require "busted.compatibility"

local function nothing() end

local function await()
  async.sleep(0)
  async.await(async.create_task(async.sleep, 0.0002))
  async.gather { nothing, function() async.sleep(0) end }
end

local wrappers = setmetatable({}, { __mode = "k" })

local function wrapped(fn)
  -- busted looks at a block's environment to know what it may call, so the wrapper has one: it uses a global.
  local function wrapper(...)
    assert(true)
    await()
    fn(...)
    await()
  end
  environment.setfenv(wrapper, environment.getfenv(fn))
  wrappers[wrapper] = true
  return wrapper
end

local KINDS = {
  "it", "describe", "before_each", "after_each", "lazy_setup", "lazy_teardown", "strict_setup", "strict_teardown",
}

for _, kind in ipairs(KINDS) do
  busted.subscribe({ "register", kind }, function(name, fn, ...)
    if wrappers[fn] or type(fn) ~= "function" then return nil, true end
    busted.publish({ "register", kind }, name, wrapped(fn), ...)
    return nil, false
  end, { priority = 1 })
end

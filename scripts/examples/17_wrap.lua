-- wrap: a function that takes a callback becomes one that waits and returns what the callback was given.
local async = require "lunation"

local loop = async.get_running_loop()

-- Somebody's library, in the style of callbacks.
local library = {}
function library.lookup(name, callback)
  loop:call_later(0.02, callback, name:upper(), #name)
end
function library.cached(name, callback)
  callback(name .. ", at once")
end
function library.on_reply(callback, question) -- its callback is not the last argument
  loop:call_soon(callback, "re: " .. question)
end
function library.open(path, callback)
  loop:call_soon(callback, path == "/missing" and "no such file" or nil, "contents of " .. path)
end

local lookup = async.wrap(library.lookup)
print(lookup("moon"))
print(async.wrap(library.cached)("sun"))
print(async.wrap(library.on_reply, 1)("how far?"))

-- What waits can be gathered, limited and cancelled like all else.
print(table.concat(async.map({ "mars", "venus" }, lookup), " "))
local never = async.wrap(function(callback) return callback end)
print(select(2, async.pcall(async.wait_for, never, 0.02)).name)

-- A callback that reports errors as its first argument: thrown, as everywhere else.
local open_raw = async.wrap(library.open)
local function open(path)
  local problem, contents = open_raw(path)
  if problem then error(async.OSError(problem, { code = "ENOENT", path = path })) end
  return contents
end
print(open("/there"))
print(async.pcall(open, "/missing"))

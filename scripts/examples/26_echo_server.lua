-- An echo server that can be left alone: at most so many conversations at a time, none with who is silent for long, and
-- an end in which those that are there may finish. (22_echo.lua is the short one.)
local async = require "lunation"
local net = async.net
local PLACES, SILENCE, GRACE = 2, 0.25, 0.05
local seen = { most = 0, now = 0, silent = 0 }
local places = async.Semaphore(PLACES)

local function talk(stream)
  local patience <close> = async.timeout(SILENCE) -- one timer for the whole conversation
  for data in function() return stream:read_some() end do
    stream:write(data) -- waits for a peer that does not read: it holds 64 KiB and this, no more
    patience:reschedule(async.get_running_loop():time() + SILENCE)
  end
end

local function handle(stream)
  local _ <close> = places:guard() -- the others wait here, and their bytes with the system
  seen.now = seen.now + 1
  seen.most = math.max(seen.most, seen.now)
  local _ <close> = async.defer(function() seen.now = seen.now - 1 end)
  local ok, e = async.pcall(talk, stream) -- a cancellation passes through
  if not ok and async.isinstance(e, async.TimeoutError) then seen.silent = seen.silent + 1 end
end

local server <close> = net.listen("127.0.0.1", 0)
local serving = async.create_task(function()
  local _ <close> = server -- whatever ends it, nobody waits for an answer in vain
  server:serve(handle)
end)
local _ <close> = async.defer(function() serving:cancel() async.wait { serving } end)

local port = server:address().port
local function say(stream, word) return stream:write(word):read(#word) end

local function visit(...)
  local stream <close> = net.connect("127.0.0.1", port)
  local answers = {}
  for i, word in ipairs { ... } do answers[i] = say(stream, word) end
  return table.concat(answers, " ")
end

print(table.concat(async.gather { function() return visit("one", "two") end, function() return visit("uno") end,
  function() return visit("eins", "zwei", "drei") end }, ", "))
print("at most " .. seen.most .. " at a time")
do
  local mute <close> = net.connect("127.0.0.1", port)
  print("who is silent reads", mute:read_some(), seen.silent .. " of them")
end

-- The end: no new ones; one guest finishes in time, the other is shown out.
local polite <close> = net.connect("127.0.0.1", port)
local endless <close> = net.connect("127.0.0.1", port)
say(polite, "hello") say(endless, "hello")
server:close()
print("new ones:", select(2, async.pcall(net.connect, "127.0.0.1", port)).code)
print("those that are there:", say(polite, "bye"), say(endless, "once more"))
polite:close()
print("after a moment:", async.pcall(async.wait_for, serving, GRACE))
print("and the endless one reads", endless:read_some(), seen.now .. " left")

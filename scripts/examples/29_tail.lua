-- tail -f: the lines of a file as somebody else writes them, woken by the system and not by a clock.
local async = require "lunation"
local fs = async.fs

local dir <close> = fs.mkdtemp()
local path = dir .. "/log"
fs.write_file(path, "old news\n")

-- Gives each new line to fn(line) until that returns false. At the end of a file a read gives nil and takes nothing, so
-- the next one goes on there. `ready` is set once nothing can be missed any more.
local function tail(ready, fn)
  local _ <close> = async.defer(function() ready:set() end) -- also if it does not come that far
  local file <close> = fs.open(path)
  file:seek("end")
  local watcher <close> = fs.watch(path)
  ready:set()
  local rest = "" -- half a line is kept until the other half has come
  repeat
    for piece in file:lines("L") do
      rest = rest .. piece
      if rest:sub(-1) == "\n" then
        if fn(rest:sub(1, -2)) == false then return end
        rest = ""
      end
    end
  until not watcher:next()
end

local ready = async.Event()
local tg <close> = async.TaskGroup()
tg:create_task(tail, ready, function(line)
  print(line)
  if line == "end" then print("watched to its end") end
  return line ~= "end"
end)

ready:wait()
local log <close> = fs.open(path, "a")
log:write("first line\nsecond ")
async.sleep(0.01)
log:write("line\n")
for i = 1, 3 do
  log:write("line ", i, " of 3\n")
  async.sleep(0.005)
end
log:write("end\n")

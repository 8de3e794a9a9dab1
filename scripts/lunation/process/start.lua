-- Starting a child: its pipes, then the child.
--
-- Law: of a pipe one end is ours and the other the child's, and ours to close as soon as it has it. Whatever fails on
-- the way leaves no descriptor behind.
local core = require "lunation.process.core"

-- Ends of pipes: those that are closed in any case, and those that are ours unless something fails; and what the
-- caller gives away once a child has started.
local Ends = {}
Ends.__index = Ends

function Ends.__close(self, e)
  for _, stream in pairs(self.theirs) do stream:close() end
  if self.started then
    for _, value in ipairs(self.given) do core.give(value) end
  end
  if e == nil then return end
  for _, stream in pairs(self.ours) do stream:close() end
end

local function new_ends() return setmetatable({ theirs = {}, ours = {}, given = {} }, Ends) end

-- What the child gets for `what`; a pipe is opened.
function Ends:open(name, what, limit)
  if what == "null" then return nil end
  if what ~= "pipe" then
    self.given[#self.given + 1] = what
    return what
  end
  local reader, writer = core.pipe(name == "stdin" and "w" or "r", limit)
  local ours, theirs = reader, writer
  if name == "stdin" then ours, theirs = writer, reader end
  self.ours[name], self.theirs[name] = ours, theirs
  return theirs
end

--- start(file, argv, o) -> Child, ours
-- `o` as options.common gives it; `ours`: the streams stdin, stdout and stderr that are pipes.
local function start(file, argv, o)
  local ends <close> = new_ends()
  local stdin = ends:open("stdin", o.stdin, o.limit)
  local stdout = ends:open("stdout", o.stdout, o.limit)
  local stderr = stdout
  if o.stderr ~= "stdout" then stderr = ends:open("stderr", o.stderr, o.limit) end
  local child = core.spawn(file, argv, o.env, o.cwd, stdin, stdout, stderr, o.detached, o.group, o.uid, o.gid)
  ends.started = true
  return child, ends.ours
end

return { start = start, ends = new_ends }

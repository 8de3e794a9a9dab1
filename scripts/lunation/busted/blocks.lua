-- Runs one block of a suite (the body of an `it`, a `before_each`, a file) in a task of its own, with a time limit.
--
-- Laws: busted's own `safe` runs inside that task, so a block fails as it does without us. busted's main task does
-- nothing but wait for it; what ends a hang are callbacks of the loop. A block that is over has no task left.
local own = require "lunation.busted.own"
local async, probe = own.async, own.probe

local blocks = {}
local GRACE = 1

-- One Lua frame that is not busted's lies under every block, as busted's script does in a run without us: its search
-- for the place of an error ends there. It has that script's name and line.
local frame

-- blocks.set_script(path): where busted's script is.
function blocks.set_script(path)
  blocks.script = path
  frame = assert(load("\n\nlocal note, pack, fn = ... note.entered = true note.results = pack(fn(select(4, ...)))",
    "@" .. path))
end

-- What a stack shows of busted itself, and of us, tells nobody anything.
local function without_frames(line)
  return line:match("^%s*%[C%]: in %S+ 'xpcall'") or line:match("^%s*%[C%]: in %?") or line:match("^%s*%S*busted/core%.lua:")
    or line:match("^%s*%S*busted:3: in ") or line:match("^%s*lunation%.busted%.%S+:%d+: in ")
end

-- blocks.tree(main) -> text: async.dump without the task in which busted itself runs, whose waiting says nothing.
function blocks.tree(main)
  local pieces, list, ours, inner = {}, {}, false, false
  async.dump { write = function(_, text) pieces[#pieces + 1] = text end }
  local mark = ("^<Task pending name='%s'"):format(main:get_name():gsub("%p", "%%%0"))
  for line in table.concat(pieces):gmatch("[^\n]+") do
    if line:match("^<") then
      ours, inner = line:match(mark) ~= nil, false
    elseif ours and line:match("^  ") then
      inner = true
    end
    if ours and inner then line = line:sub(3) end
    line = line:gsub(" fn=<lunation%.probe%.roomy>", "", 1)
    local shown = not (ours and not inner) and not line:match("^%d+ unfinished task")
    if shown and not without_frames(line) then list[#list + 1] = "  " .. line end
  end
  return table.concat(list, "\n")
end

-- Ends the block's task: asks it to, and closes it by force if it refuses for long.
local function put_an_end(note, text)
  if note.expired then
    if not note.killed then
      note.killed = true
      probe.watchdog(nil)
      probe.destroy(note.task)
    end
    return
  end
  note.expired = text .. "\n" .. blocks.tree(note.main)
  note.task:cancel(text)
  probe.watchdog(GRACE, function() put_an_end(note, text) end)
end

-- Waits for the end of the block; a cancel of busted's task (Ctrl-C) is handed on to it.
local function attend(note, limit, on_interrupt)
  local task = note.task
  if limit > 0 then
    local text = ("the time limit of %g s is over. What waits:"):format(limit)
    probe.watchdog(limit, function() put_an_end(note, text) end)
  end
  probe.on_dry(function() put_an_end(note, "nothing is left to wait for. What waits:") end)
  while not task:done() do
    local ok, e = pcall(async.wait, { task })
    if not ok and on_interrupt(e) then task:cancel() end
  end
  probe.on_dry(nil)
  probe.watchdog(nil)
end

-- blocks.run(name, limit, on_interrupt, fn, ...) -> note: fn(...) in a new task. note.results is what it gave, or nil
-- if it was ended by force; note.expired is the text of the limit that it ran into, if it did.
function blocks.run(name, limit, on_interrupt, fn, ...)
  local note = { main = async.current_task() }
  note.task = async.create_task(probe.roomy, frame, note, table.pack, fn, ...)
  note.number = math.tointeger(note.task:get_name():match("%d+$"))
  note.task:set_name(name)
  blocks.current = note
  attend(note, limit, on_interrupt)
  blocks.current = nil
  return note
end

return blocks

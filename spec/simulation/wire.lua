-- The protocol of the simulation: a head line and so many bytes behind it, over one end of a link.
--   question  Q <id> <verb> <length>\n<bytes>
--   answer    A <id> <ok or error> <length>\n<bytes>
-- One task reads; writers take turns by a lock. What was read and written is noted in the link.
local async = require "lunation"

local wire = {}
wire.__index = wire

-- side: "a" or "b".
function wire.new(stream, link, side)
  return setmetatable({ stream = stream, link = link, side = side, lock = async.Lock() }, wire)
end

local function note(list, value)
  list[#list + 1] = value
  return value
end

function wire:write(kind, id, word, body)
  local text = ("%s %s %s %d\n%s"):format(kind, id, word, #body, body)
  local _ <close> = self.lock:guard()
  local message = { text = text, maybe = true }
  note(self.link.sent[self.side], message)
  -- A write that does not return may have sent all of it or nothing, and on a broken connection a part.
  self.stream:write(self.flip and text:gsub("j", "J") or text)
  message.maybe = false
end

-- -> id, word, body; nil at the end of the stream. A message that is cut counts as an end by error.
function wire:read(kind)
  local got = self.link.got[self.side]
  local head = self.stream:read("L")
  if not head then return end
  note(got, head)
  local id, word, length = head:match("^" .. kind .. " (%S+) (%l+) (%d+)\n$")
  if not id then return nil, "cut" end
  length = tonumber(length)
  local body = length > 0 and note(got, self.stream:read(length) or "") or ""
  if #body < length then return nil, "cut" end
  return id, word, body
end

-- Why `got` is not what the messages in `sent` say, or nil. `whole`: nothing may be missing at its end.
function wire.difference(sent, got, whole)
  local at = 1
  for i, message in ipairs(sent) do
    local text = message.text
    if got:sub(at, at + #text - 1) == text then
      at = at + #text
    elseif at <= #got and #got - at + 1 < #text and not whole and text:sub(1, #got - at + 1) == got:sub(at) then
      return nil -- broken off in the middle of this one
    elseif not message.maybe and (at <= #got or whole) then
      return ("message %d of %d is not what was read from byte %d on"):format(i, #sent, at)
    end
  end
  if at <= #got then return ("%d bytes were read that nobody wrote"):format(#got - at + 1) end
end

function wire:close() self.stream:close() end

return wire

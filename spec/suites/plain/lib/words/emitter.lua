-- An event emitter: on, once, off, emit. An error of one listener does not keep the others from being called.
local Emitter = {}
Emitter.__index = Emitter

function Emitter.new()
  return setmetatable({ listeners = {} }, Emitter)
end

function Emitter:on(event, listener)
  local list = self.listeners[event] or {}
  self.listeners[event] = list
  list[#list + 1] = listener
  return listener
end

function Emitter:once(event, listener)
  local function wrapper(...)
    self:off(event, wrapper)
    return listener(...)
  end
  return self:on(event, wrapper)
end

function Emitter:off(event, listener)
  local list = self.listeners[event] or {}
  for i, one in ipairs(list) do
    if one == listener then
      table.remove(list, i)
      return true
    end
  end
  return false
end

-- Calls the listeners in order; how many there were. The first error is thrown when all have been called.
function Emitter:emit(event, ...)
  local list = table.move(self.listeners[event] or {}, 1, #(self.listeners[event] or {}), 1, {})
  local first
  for _, listener in ipairs(list) do
    local ok, e = pcall(listener, ...)
    if not ok and not first then first = { e } end
  end
  if first then error(first[1], 0) end
  return #list
end

return Emitter

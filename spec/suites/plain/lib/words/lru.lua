-- A cache of the N entries used last: a ring of entries and a table of keys.
local Lru = {}
Lru.__index = Lru

local function unlink(entry)
  entry.before.after, entry.after.before = entry.after, entry.before
end

local function link_first(self, entry)
  local ring = self.ring
  entry.before, entry.after = ring, ring.after
  ring.after.before, ring.after = entry, entry
end

function Lru.new(capacity, on_evict)
  if math.type(capacity) ~= "integer" or capacity < 1 then
    error("capacity: a positive integer expected, got " .. tostring(capacity), 2)
  end
  local ring = {}
  ring.before, ring.after = ring, ring
  return setmetatable({ capacity = capacity, on_evict = on_evict, ring = ring, entries = {}, size = 0 }, Lru)
end

function Lru:get(key)
  local entry = self.entries[key]
  if not entry then return nil end
  unlink(entry)
  link_first(self, entry)
  return entry.value
end

function Lru:set(key, value)
  local entry = self.entries[key]
  if entry then
    entry.value = value
    self:get(key)
    return
  end
  if self.size == self.capacity then
    local last = self.ring.before
    self:delete(last.key)
    if self.on_evict then self.on_evict(last.key, last.value) end
  end
  entry = { key = key, value = value }
  self.entries[key] = entry
  self.size = self.size + 1
  link_first(self, entry)
end

function Lru:delete(key)
  local entry = self.entries[key]
  if not entry then return false end
  unlink(entry)
  self.entries[key] = nil
  self.size = self.size - 1
  return true
end

-- The keys, the one used last first.
function Lru:keys()
  local list, entry = {}, self.ring.after
  while entry ~= self.ring do
    list[#list + 1] = entry.key
    entry = entry.after
  end
  return list
end

return Lru

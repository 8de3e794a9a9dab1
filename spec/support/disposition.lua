-- What a signal of this process does, as /proc says it: "caught", "ignored" or "default".
return function(number)
  local status <close> = assert(io.open("/proc/self/status"))
  local text = status:read("a")
  local function has(mask) return tonumber(text:match(mask .. ":%s*(%x+)"), 16) >> (number - 1) & 1 == 1 end
  return has("SigCgt") and "caught" or has("SigIgn") and "ignored" or "default"
end

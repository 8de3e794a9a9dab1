-- A read that was refused memory has consumed nothing: read again, every byte is there, once and in order.
local async = require "lunation"
local memory = require "lunation.memory"
local runner <close> = async.Runner { clock = "virtual", debug = sweep.debug }

local function no_memory(e)
  local text = tostring(e)
  return text:find("not enough memory", 1, true) or text:find("stack overflow", 1, true) or text:find("ENOMEM", 1, true)
end

local function insist(f, ...)
  local ok, x
  for _ = 1, 30 do
    ok, x = pcall(f, ...)
    if ok then return x end
    if not no_memory(x) then break end
  end
  error(x, 0)
end

local lines = {}
for i = 1, 30 do lines[i] = ("line %d "):format(i) .. ("."):rep(i * 7) end
local text = table.concat(lines, "\n") .. "\n"

-- What arrived when both ends have ended: all of it, unless the writer was the one without memory.
local function exchange(opts, read)
  local a, b = memory.pair(opts)
  local writer = async.create_task(function()
    local _ <close> = a
    for i = 1, #text, 100 do a:write(text:sub(i, i + 99)) end
  end)
  local ok, got = pcall(read, b)
  b:close()
  local written, e = pcall(async.await, writer)
  if not ok and not no_memory(got) then error(got, 0) end
  if not written and ok then assert(no_memory(e)) end
  if ok and written then
    if got ~= text then error("attempt to read again: bytes were lost", 0) end
  elseif ok and not text:find(got, 1, true) then
    error("attempt to read again: bytes are wrong", 0)
  end
end

local function by_lines(stream)
  local got, n = {}, 0
  for _ = 1, 40 do
    local line = insist(stream.read, stream, "L")
    if not line then break end
    n = n + 1
    got[n] = line
  end
  return table.concat(got)
end

local function by_blocks(stream)
  local got = ""
  for i = 1, 400 do
    local block = insist(stream[i % 2 == 0 and "read_some" or "read"], stream, 61)
    if not block then break end
    got = got .. block
  end
  return got
end

local function by_marks(stream)
  local got = insist(stream.read_until, stream, "line 20 ", 10000) or ""
  return got .. insist(stream.read, stream, "a")
end

local opts = { { capacity = 64 }, { max_read = 50, lockstep = true }, { max_write = 90 } }
for i, read in ipairs { by_lines, by_blocks, by_marks } do
  runner:run(function() exchange(opts[i], read) end)
end

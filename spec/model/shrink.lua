-- Making a failing program of the model fuzz small: what can be left out is, what can be simple becomes simple.
local program = require "spec.model.program"

local shrink = {}

-- Every block of the program, the outermost first.
local function blocks(block, list)
  list[#list + 1] = block
  for _, op in ipairs(block) do
    if op.block then blocks(op.block, list) end
    if op.cleanup then blocks(op.cleanup, list) end
    for _, arg in ipairs(op.args or {}) do
      if arg.block then blocks(arg.block, list) end
    end
  end
  return list
end

-- Tries a change: `change` makes it and returns what takes it back.
local function attempt(fails, change)
  local undo = change()
  if not undo then return false end
  if fails() then return true end
  undo()
  return false
end

local function drop_range(list, from, n)
  return function()
    local gone = table.move(list, from, from + n - 1, 1, {})
    for _ = 1, n do table.remove(list, from) end
    return function()
      for i = 1, n do table.insert(list, from + i - 1, gone[i]) end
    end
  end
end

-- Halves first, single ones last.
local function drop_from(list, fails)
  local less = false
  local n = #list
  while n >= 1 do
    local from = 1
    while from + n - 1 <= #list do
      if attempt(fails, drop_range(list, from, n)) then less = true else from = from + n end
    end
    n = n // 2
  end
  return less
end

-- An operation gives way to what its block holds.
local function unwrap(list, i)
  return function()
    local op = list[i]
    local inside = op.block or (op.args and op.args[1] and op.args[1].block)
    if not inside then return nil end
    table.remove(list, i)
    for k, inner in ipairs(inside) do table.insert(list, i + k - 1, inner) end
    return function()
      for _ = 1, #inside do table.remove(list, i) end
      table.insert(list, i, op)
    end
  end
end

local function set(op, field, value)
  return function()
    local old = op[field]
    if old == nil or old == value then return nil end
    op[field] = value
    return function() op[field] = old end
  end
end

local NUMBERS = { sleep = "0", call_later = "0", wait_for = "nil", again = "2", timeout = "0.001" }

local function simplify(op, fails)
  local less = false
  for _, field in ipairs { "options", "returns", "msg", "breaks" } do
    less = attempt(fails, set(op, field, nil)) or less
  end
  if NUMBERS[op.op] then less = attempt(fails, set(op, "arg", NUMBERS[op.op])) or less end
  if op.args then less = drop_from(op.args, fails) or less end
  return less
end

--[[ Makes `prog` smaller in place as long as fails(prog) is true; at most `most` trials. ]]
function shrink.program(prog, fails_of, most)
  local trials = 0
  most = most or 3000
  local function fails()
    trials = trials + 1
    return trials <= most and fails_of(prog)
  end
  repeat
    local less = false
    for _, block in ipairs(blocks(prog.block, {})) do less = drop_from(block, fails) or less end
    for _, block in ipairs(blocks(prog.block, {})) do
      for i = #block, 1, -1 do
        if block[i] and attempt(fails, unwrap(block, i)) then less = true end
        if block[i] and simplify(block[i], fails) then less = true end
      end
    end
    less = drop_from(prog.objects, fails) or less
    less = attempt(fails, set(prog, "returns", nil)) or less
    less = attempt(fails, set(prog, "retrieve", false)) or less
  until not less or trials > most
  return prog, program.count(prog.block), trials
end

return shrink

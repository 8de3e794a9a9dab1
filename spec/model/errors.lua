-- The reference model: errors and what catches them. See core.lua.
local model = {} -- the table that stands for `async`

local class_of = {}
class_of.__call = function(class, message, fields)
  local e = setmetatable({ message = message }, class)
  for k, v in pairs(fields or {}) do e[k] = v end
  return e
end

function model.exception(name, parent)
  local class = setmetatable({ name = name, parent = parent or model.Error }, class_of)
  class.__index = class
  return class
end

function model.isinstance(e, class)
  local is = type(e) == "table" and getmetatable(e)
  while is and is ~= class do is = type(is) == "table" and rawget(is, "parent") end
  return is and true or false
end
local isinstance = model.isinstance

local Base = model.exception("BaseError")
local Error = model.exception("Error", Base)
model.BaseError, model.Error = Base, Error
local Cancelled = model.exception("CancelledError", Base)
model.CancelledError = Cancelled
for name in ([[TypeError ValueError RuntimeError InvalidStateError TimeoutError QueueEmpty QueueFull QueueShutDown
  BrokenBarrierError ExceptionGroup]]):gmatch("%S+") do
  model[name] = model.exception(name, Error)
end

local function throw(name) error(model[name](name), 0) end

-- ---- protected calls ----

-- CancelledError and what else is no Error passes through async.pcall and async.xpcall.
local function passes(e) return isinstance(e, Base) and not isinstance(e, Error) end

local function unless_passing(ok, ...)
  if not ok and passes((...)) then error((...), 0) end
  return ok, ...
end
function model.pcall(fn, ...) return unless_passing(pcall(fn, ...)) end
function model.xpcall(fn, handler, ...)
  local passed
  local function filter(e)
    passed = passes(e)
    if passed then return e end
    return handler(e)
  end
  local results = table.pack(xpcall(fn, filter, ...))
  if not results[1] and passed then error(results[2], 0) end
  return table.unpack(results, 1, results.n)
end

local defer = { __close = function(d, e)
  local fn = d.fn
  if not fn then return end
  d.fn = nil
  if e == nil then return fn(e) end
  local ok, own = pcall(fn, e)
  if ok then return end
  if isinstance(own, Base) and own ~= e and rawget(own, "context") == nil then own.context = e end
  error(own, 0)
end }
function model.defer(fn) return setmetatable({ fn = fn }, defer) end

return { model = model, throw = throw, plant = {} }

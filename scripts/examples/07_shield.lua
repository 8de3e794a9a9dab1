-- shield: who awaits it can be cancelled, the work behind it goes on.
local async = require "lunation"

local function save(name)
  local _ <close> = async.defer(function(err) print(name, err and "broken off" or "saved") end)
  async.sleep(0.06)
  return "receipt for " .. name
end

-- Without it, a cancellation goes down to the innermost thing that is waited for.
local saving = async.create_task(save, "draft")
local user = async.create_task(function() return async.await(saving) end)
async.sleep(0.02)
user:cancel()
async.wait { user, saving }
print("user cancelled", user:cancelled(), "saving cancelled", saving:cancelled())

-- With it, only the user is.
saving = async.create_task(save, "letter")
user = async.create_task(function() return async.await(async.shield(saving)) end)
async.sleep(0.02)
user:cancel()
async.wait { user }
print("user cancelled", user:cancelled(), "saving done", saving:done())
print(async.await(saving))

-- The same inside a time limit: stop waiting, not working.
saving = async.create_task(save, "novel")
local ok, e = async.pcall(async.wait_for, async.shield(saving), 0.02)
print(ok, e.name)
print(async.await(saving))

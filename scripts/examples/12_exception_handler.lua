-- The exception handler: an error that reaches nobody is reported once, and the loop goes on.
local async = require "lunation"

local loop = async.get_running_loop()
loop:set_exception_handler(function(_, context)
  local task = context.task and context.task:get_name() or "no task"
  print("handler", context.message:gsub("<.*>", "<...>"), task, context.exception)
end)

-- A task whose error nobody looks at.
async.create_task(function() error(async.ValueError("nobody listens")) end):set_name("lonely")
async.sleep(0.02)

-- A callback that fails.
loop:call_soon(function() error("in a callback", 0) end)
async.sleep(0.02)

-- What somebody took is not reported: this one was delivered by await.
print("caught", async.pcall(async.await, async.create_task(function() error(async.ValueError("expected")) end)))
async.sleep(0.02)

-- gather throws the first error; the one behind it was not delivered, and is not lost either.
print("caught", async.pcall(async.gather, {
  async.create_task(function() async.sleep(0.02) error("first", 0) end),
  async.create_task(function() async.sleep(0.05) error("second", 0) end):set_name("behind"),
}))
async.sleep(0.3)

-- A handler may pass things on to the default one, which prints to stderr; nil brings that one back.
loop:set_exception_handler(nil)
print("handler", loop:get_exception_handler())

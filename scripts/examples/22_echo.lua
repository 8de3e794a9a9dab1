-- TCP: an echo server and its clients in one program. Each connection is a task, streams read with Lua's formats.
local async = require "lunation"
local net = async.net

local server <close> = net.listen("127.0.0.1", 0) -- port 0: any free one
local port = server:address().port

local function talk(stream)
  for line in stream:lines() do
    if line == "bug" then error(async.ValueError("the handler failed")) end
    stream:write("echo: ", line, "\n")
  end
end -- the stream is closed when its handler ends

-- The error of one connection is reported; the server goes on.
async.get_running_loop():set_exception_handler(function(_, context)
  print("reported", context.exception)
end)
local serving = async.create_task(function()
  local _ <close> = server -- nobody would be served any more
  server:serve(talk)
end)

local function client(...)
  local stream <close> = net.connect("127.0.0.1", port, { timeout = 5 })
  local answers = {}
  for i, word in ipairs { ... } do
    stream:write(word, "\n")
    answers[i] = stream:read("l")
  end
  stream:shutdown() -- half close: we have said all
  assert(stream:read("l") == nil) -- the end of a stream is nil, not an error
  return table.concat(answers, ", ")
end

local results = async.gather {
  function() return client("one", "two", "three") end,
  function() return client("uno", "due") end,
  function() return client("bug") end,
  function() return client() end,
}
for i = 1, results.n do print(i, results[i]) end

-- A connection that cannot be made is an OSError with a code.
server:close()
async.await(serving)
local ok, e = async.pcall(net.connect, "127.0.0.1", port)
print(ok, e.name, e.code)

-- A chat over Unix sockets: everybody hears what is said. The guests are tasks of the same program here.
local async = require "lunation"
local net = async.net

local path = "\0chat-" .. tostring({}) -- NUL in front: an abstract name, without a file
local server <close> = net.listen_unix(path)
local outboxes = {} -- one for each guest, so that a slow one keeps nobody waiting

local function tell(line)
  for _, outbox in ipairs(outboxes) do outbox:put_nowait(line) end
end

local function talk(stream)
  local name = stream:read("l")
  local outbox = async.Queue()
  outboxes[#outboxes + 1] = outbox
  local tg <close> = async.TaskGroup()
  tg:create_task(function()
    for line in outbox:iter() do async.pcall(stream.write, stream, line, "\n") end
  end)
  local _ <close> = async.defer(function() -- however the guest leaves
    for i, other in ipairs(outboxes) do
      if other == outbox then table.remove(outboxes, i) end
    end
    outbox:shutdown()
    tell("* " .. name .. " has left")
  end)
  tell("* " .. name .. " is here")
  local function listen() for line in stream:lines() do tell(name .. ": " .. line) end end
  async.pcall(listen) -- a guest may vanish: that is no error of the server's
end

-- A guest with an answer to what it hears; it leaves when the answer is false.
local function guest(name, answers)
  local stream <close>, heard = net.connect_unix(path), {}
  stream:write(name, "\n")
  for line in stream:lines() do
    heard[#heard + 1] = line
    local answer = answers[line]
    if type(answer) == "function" then answer() end
    if answer == false then break end
    if type(answer) == "string" then stream:write(answer, "\n") end
  end
  print(name .. " heard:\n  " .. table.concat(heard, "\n  "))
end

local serving = async.create_task(function()
  local _ <close> = server
  server:serve(talk)
end)
do
  local tg <close> = async.TaskGroup()
  local bob = { ["Ada: hello, Bob"] = "hello, Ada", ["Ada: bye"] = false }
  local ada = { ["* Bob is here"] = "hello, Bob", ["Bob: hello, Ada"] = "bye", ["* Bob has left"] = false }
  ada["* Ada is here"] = function() tg:create_task(guest, "Bob", bob) end
  tg:create_task(guest, "Ada", ada)
end
server:close()
async.await(serving)
print(#outboxes .. " guests are left")

-- Run by traps_spec.lua with few descriptors: serves more clients than there are descriptors for, until one says "end".
-- arg[1]: where the port is written; arg[2]: how slow this build is; what happened goes to stdout.
local async = require "lunation"
local command = require "spec.support.command"

local reports, told, first = 0, 0, nil
local loop = async.get_running_loop()
loop:set_exception_handler(function(_, context)
  reports = reports + 1
  first = first or context
  told = told + context.failed
end)

local server = async.net.listen("127.0.0.1", 0)
command.write_file(arg[1], tostring(server:address().port))
local started, busy, served = loop:time(), os.clock(), 0
server:serve(function(stream)
  local word = stream:read("l")
  stream:write(word, "\n")
  served = served + 1
  if word == "end" then server:close() end
end)
assert(first, "the limit was never met")
print("reported", first.kind, first.message, first.exception.code, first.server == server)
print("served", served)
print("reports are rare", reports <= loop:time() - started + 1)
print("waiting costs little", os.clock() - busy < (0.05 + 0.05 * (loop:time() - started)) * arg[2])
local stats = server:stats()
print("failures are counted", told > 0 and told <= stats.failed and stats.accepted == served)

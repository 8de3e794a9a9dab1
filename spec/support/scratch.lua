-- Specs of `lunation test` in small files of their own: each describe gets a folder, in which the command runs on a file
-- x_spec.lua that holds the text of the case.
local command = require "spec.support.command"
local helper = require "spec.helper"

local scratch = {}

-- The command, wherever it runs.
local program = command.lunation:match("^/") and command.lunation or os.getenv("PWD") .. "/" .. command.lunation

-- Runs `lunation WORDS` in a folder of its own that holds `text` as the file x_spec.lua -> stdout, stderr, exit code.
function scratch.lunation(text, words, more)
  command.write_file(scratch.dir .. "/x_spec.lua", 'local async = require "lunation"\n' .. text)
  local spec = { "env", "-C", scratch.dir, program, limit = 30 * math.max(1, helper.slow // 2) }
  for word in words:gmatch("%S+") do spec[#spec + 1] = word end
  for name, value in pairs(more or {}) do spec[name] = value end
  return command.run(spec)
end

-- The same with `test -o TAP WORDS x_spec.lua`.
function scratch.test(text, words, more)
  return scratch.lunation(text, "test -o TAP " .. (words or "") .. " x_spec.lua", more)
end

-- Each of the parts is in the text.
function scratch.contains(text, ...)
  for _, part in ipairs { ... } do
    if not text:find(part, 1, true) then error(("%q is missing in\n%s"):format(part, text), 2) end
  end
end

-- None of them is.
function scratch.lacks(text, ...)
  for _, part in ipairs { ... } do
    if text:find(part, 1, true) then error(("%q is in\n%s"):format(part, text), 2) end
  end
end

-- The limits are in real seconds, so slow builds get more of them.
function scratch.seconds(n) return "--timeout=" .. n * helper.slow end

-- Runs what a failure says will replay it.
function scratch.replayed(stdout)
  local line = stdout:match("replay: lunation ([^\n]*)")
  assert(line, stdout)
  line = ("cd %s && exec %s %s"):format(command.quote(scratch.dir), command.quote(program), line)
  return command.run { "sh", "-c", line, limit = 60 }
end

-- For the top of a describe: the folder, which is scratch.dir while that runs.
function scratch.setup_dir()
  local busted = require "busted"
  busted.setup(function() scratch.dir = command.temp_dir() end)
  busted.teardown(function() command.remove_dir(scratch.dir) end)
end

scratch.program = program

return scratch

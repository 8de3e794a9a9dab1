-- run and pipeline: children from their start to their end, in one call.
--
-- Law: when the call is over, so are the children, whatever ended it. What was read is never lost: it stands in the
-- result or in the error.
local async = require "lunation"
local check = require "lunation.check"
local core = require "lunation.process.core"
local options = require "lunation.process.options"
local starter = require "lunation.process.start"
local Talk = require "lunation.process.talk"

local GRACE, MAX_OUTPUT = 2, 16 * 1024 * 1024
local CAPTURED = { stdin = "null", stdout = "pipe", stderr = "pipe" }

local run = {}

--- ProcessError: a child failed, and opts.check asked for that to be an error. Fields: code, signal, stdout, stderr.
run.ProcessError = async.exception "ProcessError"

-- The options of run and pipeline at argument `arg`.
local function read_options(opts, arg, name)
  opts = check.options(opts, arg, name)
  local o = options.common(opts, arg, name, CAPTURED)
  o.input = check.option(opts, "input", "string", arg, name)
  o.timeout = options.seconds(opts, "timeout", arg, name)
  o.grace = options.seconds(opts, "grace", arg, name) or GRACE
  o.check = check.option(opts, "check", "boolean", arg, name)
  o.room = check.integer_option(opts, "max_output", 0, arg, name) or MAX_OUTPUT
  if o.input then
    if opts.stdin ~= nil and opts.stdin ~= "pipe" then
      check.bad(async.ValueError, arg, name, "input and stdin exclude each other")
    end
    o.stdin = "pipe"
  end
  return o
end

-- Exchanges with the children until all is over. Throws CancelledError, TimeoutError or LimitOverrunError with the
-- fields stdout and stderr once they have ended.
local function supervise(talk, o, name)
  talk:feed(o.input)
  local limit = o.timeout and async.timeout(o.timeout)
  local ok, e = pcall(function()
    local _ <close> = limit
    talk:collect(o.grace)
  end)
  if ok then return end
  if limit and limit:expired() and async.isinstance(e, async.TimeoutError) then
    e = async.TimeoutError(("%s: not ended within %g seconds"):format(name, o.timeout))
  elseif talk.over and async.isinstance(e, async.LimitOverrunError) then
    e.message = name .. ": " .. e.message
  end
  e = talk:stop(o.grace) or e
  if async.isinstance(e, async.BaseError) then
    e.stdout, e.stderr = talk:text("stdout"), talk:text("stderr")
    if e.consumed then e.consumed = talk.bytes end
  end
  error(e, 0)
end

local function how(code, signal) return signal and "ended by " .. signal or "exit status " .. code end

-- ProcessError for the first of the children that failed. One before the last may be told by SIGPIPE that its output
-- is not wanted any more.
local function check_all(children, result, name)
  for i, child in ipairs(children) do
    local failed = child.code ~= 0 and not (child.signal == "SIGPIPE" and i < #children)
    if failed then
      local text = ("%s: %s"):format(name:format(child.file), how(child.code, child.signal))
      error(run.ProcessError(text, { code = child.code, signal = child.signal, stdout = result.stdout,
        stderr = result.stderr, children = result.children }), 0)
    end
  end
end

-- What came of it all.
local function result_of(talk, children)
  local last = children[#children]
  return {
    code = last.code,
    signal = last.signal,
    stdout = talk:text("stdout"),
    stderr = talk:text("stderr"),
    unfinished = talk.unfinished or nil,
  }
end

-- Runs the started children to their end; files: their names.
local function finish(talk, o, files, name)
  local _ <close> = talk
  talk.room = o.room
  supervise(talk, o, name)
  local list = {}
  for i, child in ipairs(talk.children) do
    local code, signal = child:status()
    list[i] = { file = files[i], code = code, signal = signal }
  end
  return result_of(talk, list), list
end

--- run.run: see lunation.process
function run.run(file, args, opts)
  local argv = options.argv(options.file(file, 1, "run"), args, 1, 2, "run")
  local o = read_options(opts, 3, "run")
  local child, streams = starter.start(file, argv, o)
  local result, list = finish(Talk.new({ child }, streams), o, { file }, "run " .. file)
  if o.check then check_all(list, result, "run %s") end
  return result
end

-- Checks the list of commands: their argvs and files.
local function read_commands(commands)
  if type(commands) ~= "table" then
    check.bad(async.TypeError, 1, "pipeline", "list of commands expected, got %s", type(commands))
  end
  if #commands == 0 then check.bad(async.ValueError, 1, "pipeline", "no commands") end
  local argvs, files = {}, {}
  for i, command in ipairs(commands) do
    if type(command) ~= "table" then
      check.bad(async.TypeError, 1, "pipeline", "element %d: list of strings expected, got %s", i, type(command))
    end
    files[i] = options.file(command[1], 1, "pipeline")
    argvs[i] = options.argv(files[i], command, 2, 1, "pipeline")
  end
  return argvs, files
end

-- Starts them, each with its output in the next one's input. -> children, streams
local function start_all(argvs, files, o)
  local ends <close> = starter.ends()
  local children = {}
  local undo <close> = async.defer(function(e)
    if e == nil then return end
    for _, child in ipairs(children) do child:close() end
  end)
  local input = ends:open("stdin", o.stdin, o.limit)
  local output = ends:open("stdout", o.stdout, o.limit)
  local errors = o.stderr
  if errors ~= "stdout" then errors = ends:open("stderr", o.stderr, o.limit) end
  for i, file in ipairs(files) do
    local reader, writer
    if i < #files then
      reader, writer = core.pipe("")
      ends.theirs[reader], ends.theirs[writer] = reader, writer
    else
      writer = output
    end
    local stderr = errors
    if errors == "stdout" then stderr = writer end
    children[i] = core.spawn(file, argvs[i], o.env, o.cwd, input, writer, stderr, o.detached, o.group, o.uid, o.gid)
    ends.started = true
    -- As soon as the child has them: the next one is to see the end of what it reads.
    if i < #files then writer:close() end
    if i > 1 then input:close() end
    input = reader
  end
  return children, ends.ours
end

--- run.pipeline: see lunation.process
function run.pipeline(commands, opts)
  local argvs, files = read_commands(commands)
  local o = read_options(opts, 2, "pipeline")
  local children, streams = start_all(argvs, files, o)
  local result, list = finish(Talk.new(children, streams), o, files, "pipeline " .. table.concat(files, " | "))
  result.children = list
  if o.check then check_all(list, result, "pipeline: %s") end
  return result
end

return run

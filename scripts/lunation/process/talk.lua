-- The exchange with one child, or with several in a pipeline: feeding the first, reading what comes out of the last,
-- waiting for the end of all.
--
-- Laws:
--  1. Whoever collects may be cancelled at any time and come again: what was read is kept, what is to be fed goes on
--     being fed by a task of its own.
--  2. A child that does not want its input, or not all, is no error.
local async = require "lunation"

local CHUNK = 65536
local LAST_WORDS = 0.1 -- seconds that outputs may take after the end of a child that was told to end

local Talk = {}
Talk.__index = Talk

--- Talk.new(children, streams) -> Talk; streams: stdin, stdout, stderr, each may be nil
function Talk.new(children, streams)
  return setmetatable({
    children = children,
    streams = streams,
    stdin = streams.stdin,
    pieces = { stdout = streams.stdout and {}, stderr = streams.stderr and {} },
    bytes = 0, -- read since it began
    fed = 0, -- a measure of what was written
    open = 0, -- streams that are being read or fed and have not ended
  }, Talk)
end

-- A child that closes its end, or ends, does not want more.
local GONE = { EPIPE = true, ECONNRESET = true, EBADF = true, ECANCELED = true }

local function feed(talk, stream, input)
  local ok, e = async.pcall(function()
    for at = 1, #input, CHUNK do
      stream:write(input:sub(at, at + CHUNK - 1))
      talk.fed = at
    end
    stream:shutdown()
  end)
  stream:close()
  if not ok and not (async.isinstance(e, async.OSError) and GONE[e.code]) then error(e, 0) end
end

--- talk:feed(input): `input`, a string or nil, then the end of the stream; the first call counts.
function Talk:feed(input)
  local stream = self.stdin
  self.stdin = nil
  if not stream then return end
  if not input or input == "" then
    stream:close()
  else
    self.feeder = async.create_task(feed, self, stream, input)
  end
end

-- Reads one of the outputs to its end, on from where it was left.
function Talk:drain(name)
  local stream, pieces = self.streams[name], self.pieces[name]
  while not self.over do
    local ok, piece = async.pcall(stream.read_some, stream)
    if not ok and not (async.isinstance(piece, async.OSError) and piece.code == "EBADF") then error(piece, 0) end
    if not ok or not piece then break end
    pieces[#pieces + 1] = piece
    self.bytes = self.bytes + #piece
    if self.room and self.bytes > self.room and not self.over then
      self.over = true -- told once, though both outputs may find it in the same turn; neither is read on
      error(async.LimitOverrunError(("more than %d bytes of output"):format(self.room), { consumed = self.bytes }), 0)
    end
  end
  if self.over then return end
  stream:close()
  self.streams[name] = nil
  self:passed()
end

-- One of the streams has ended.
function Talk:passed()
  self.open = self.open - 1
  if self.open == 0 then self.at_end:set() end
end

-- Until all have ended; then, for as long as the streams are kept open by others and something passes through them
-- within `patience` seconds.
function Talk:ended(patience)
  for _, child in ipairs(self.children) do child:wait() end
  while patience and self.open > 0 do
    local before = self.bytes + self.fed
    local limit = async.timeout(patience)
    local ok, e = pcall(function()
      local _ <close> = limit
      self.at_end:wait()
    end)
    if not ok and not (limit:expired() and async.isinstance(e, async.TimeoutError)) then error(e, 0) end
    if self.open > 0 and self.bytes + self.fed == before then
      self.unfinished = true
      error(self, 0)
    end
  end
end

--- talk:collect(patience?): returns when all children and streams have ended
-- Or, with `patience`, when after the end of the children nothing more came for so many seconds: then `unfinished` is
-- set. Throws LimitOverrunError over `room` bytes. Suspends; cancelled, it can be called again. One task at a time.
function Talk:collect(patience)
  local jobs = {}
  self.busy = true
  local _ <close> = async.defer(function() self.busy = false end)
  self.at_end = async.Event()
  for _, name in ipairs { "stdout", "stderr" } do
    if self.streams[name] then jobs[#jobs + 1] = function() self:drain(name) end end
  end
  local feeder = self.feeder
  if feeder and not feeder:done() then
    jobs[#jobs + 1] = function()
      async.wait { feeder }
      self:passed()
    end
  end
  self.open, self.unfinished = #jobs, false
  jobs[#jobs + 1] = function() self:ended(patience) end
  if #jobs == 1 then
    jobs[1]()
  else
    local ok, e = pcall(async.gather, jobs, { cancel_on_error = true })
    if not ok and e ~= self then error(e, 0) end
  end
  if feeder and feeder:done() and not feeder:cancelled() then feeder:result() end
end

--- talk:text(name) -> what was read of stdout or stderr, nil if that is no pipe
function Talk:text(name)
  local pieces = self.pieces[name]
  return pieces and table.concat(pieces)
end

-- Sends a signal to all; with the end of each ends what is left of its group. -> false if one may not be signalled,
-- as it runs as somebody else
function Talk:kill(signal)
  local all = true
  for _, child in ipairs(self.children) do all = pcall(child.kill, child, signal, true) and all end
  return all
end

--- talk:stop(grace) -> nil or the error that hurried it
-- TERM, then KILL for those that have not ended after `grace` seconds, or at once when whoever waits is cancelled or
-- the output is too much. Suspends until all were reaped, unless it is cancelled or one cannot be killed.
function Talk:stop(grace)
  if not self.over then
    self:kill("TERM")
    local ok, e = pcall(function()
      local _ <close> = async.timeout(grace)
      self:collect(LAST_WORDS)
    end)
    if not ok and not async.isinstance(e, async.Error) then
      self:kill("KILL")
      return e
    end
  end
  if not self:kill("KILL") then return nil end
  local ok, e = pcall(function()
    if not self.over then self:collect(LAST_WORDS) end
    self:ended()
  end)
  return not ok and e or nil
end

--- talk:close(): kills what runs and closes everything; what feeds ends in the next turn. Does not suspend.
function Talk:close()
  for _, child in ipairs(self.children) do child:close() end
  for _, stream in pairs(self.streams) do stream:close() end
  if self.feeder then self.feeder:cancel() end
end

Talk.__close = Talk.close

return Talk

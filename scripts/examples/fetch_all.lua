#!/usr/bin/env lunation
-- fetch_all: fetches many URLs at once over plain HTTP/1.1, says what became of each, and fails if one did.
--
-- Shows: gather with return_exceptions, a semaphore as the limit, a timeout scope for each URL, streams that are
-- closed whatever happens, errors as values with a class, an exception handler of one's own, and a clean Ctrl-C.
local async = require "lunation"
local net = async.net

local USAGE = [[
usage: lunation fetch_all.lua [--timeout SECONDS] URL...

Fetches all URLs (http:// only), at most 10 at a time, and prints status, size in bytes and URL of each answer as it
completes. Failures are listed at the end: connections, timeouts (10 seconds per URL unless said otherwise), broken
answers, and every status from 400 up. Exits with 0 if all went well, 1 if a URL failed, 2 for a wrong command line.
]]

local AT_ONCE = 10
local PIECE = 64 * 1024 -- a body passes through in pieces of at most this size and is never held whole
local MAX_HEADERS = 100 -- the length of a single line is limited by the stream

local AnswerError = async.exception("AnswerError") -- what came back is not HTTP as we know it

-- "http://host:port/path?query#fragment" -> host, port, authority (for the Host header), target
local function parse(url)
  local function bad(why) error(async.ValueError("bad URL: " .. why)) end
  if url:find("[%s%c]") then bad("white space or control character") end
  local scheme, authority, target = url:match("^(%a[%w+.-]*)://([^/?#]*)([^#]*)")
  if not scheme then bad("http://host/path is expected") end
  scheme = scheme:lower()
  if scheme == "https" then bad("https:// is not supported yet") end
  if scheme ~= "http" then bad("unknown scheme " .. scheme .. "://") end
  if authority:find("@", 1, true) then bad("user and password are not supported") end

  local host, port = authority:match("^%[([%x:.]+)%](.*)$") -- an IPv6 address stands in brackets
  if not host then host, port = authority:match("^([^:]*)(.*)$") end
  if host == "" then bad("no host") end
  if port == "" or port == ":" then
    port = 80
  else
    port = tonumber(port:match("^:(%d+)$"))
    if not port or port < 1 or port > 65535 then bad("bad port") end
  end
  if target:sub(1, 1) ~= "/" then target = "/" .. target end
  return host, math.tointeger(port), authority, target
end

-- A line without its end. "L" keeps it, so that a line cut off by a closed connection can be told from a whole one.
local function read_line(conn)
  local line = conn:read("L")
  if not line or line:sub(-1) ~= "\n" then error(AnswerError("the connection was closed too early")) end
  return (line:gsub("\r?\n$", ""))
end

-- -> status, reason, and the headers as a table by lower-case name
local function read_head(conn)
  local line = read_line(conn)
  local status, reason = line:match("^HTTP/1%.%d (%d%d%d) ?(.*)$")
  if not status then error(AnswerError("this is not an HTTP/1.1 server")) end
  local headers = {}
  for _ = 1, MAX_HEADERS do
    line = read_line(conn)
    if line == "" then return math.tointeger(tonumber(status)), (reason:gsub("%c", "?")), headers end
    local name, value = line:match("^([^%s:]+):%s*(.-)%s*$")
    if not name then error(AnswerError("malformed header line")) end
    name = name:lower()
    if name == "content-length" and headers[name] and headers[name] ~= value then
      error(AnswerError("two different Content-Length headers"))
    end
    headers[name] = value
  end
  error(AnswerError("more than " .. MAX_HEADERS .. " header lines"))
end

-- Reads and forgets `length` bytes, or all up to the end of the stream; returns how many there were.
local function skip(conn, length)
  local got = 0
  while not length or got < length do
    local piece = conn:read_some(length and math.min(length - got, PIECE) or PIECE)
    if not piece then
      if not length then break end
      error(AnswerError(("the body was cut short: %d of %d bytes"):format(got, length)))
    end
    got = got + #piece
  end
  return got
end

local function skip_chunks(conn)
  local total = 0
  while true do
    local digits = read_line(conn):match("^(%x+)%s*;?")
    if not digits or #digits > 15 then error(AnswerError("malformed chunk")) end
    local size = tonumber(digits, 16)
    if size == 0 then break end
    total = total + skip(conn, size)
    if read_line(conn) ~= "" then error(AnswerError("malformed chunk")) end
  end
  repeat until read_line(conn) == "" -- trailers
  return total
end

local function skip_body(conn, status, headers)
  if status == 204 or status == 304 then return 0 end
  local encoding, length = headers["transfer-encoding"], headers["content-length"]
  if encoding and encoding:lower():find("chunked$") then return skip_chunks(conn) end
  if encoding or not length then return skip(conn, nil) end
  if not length:find("^%d+$") or #length > 15 then error(AnswerError("malformed Content-Length")) end
  return skip(conn, math.tointeger(tonumber(length)))
end

-- Fetches one URL; returns status and size, throws whatever went wrong.
local function fetch(url, seconds)
  local host, port, authority, target = parse(url)
  local _ <close> = async.timeout(seconds)
  local conn <close> = net.connect(host, port)
  conn:write("GET ", target, " HTTP/1.1\r\nHost: ", authority, "\r\nUser-Agent: fetch_all\r\nConnection: close\r\n\r\n")

  local status, reason, headers
  repeat status, reason, headers = read_head(conn) until status >= 200 -- 1xx only announces the answer
  local size = skip_body(conn, status, headers)
  print(("%d %10d  %s"):format(status, size, url))
  if status >= 400 then
    local text = reason == "" and tostring(status) or status .. " " .. reason
    error(async.HTTPError(text, { status = status, reason = reason, url = url }))
  end
  return status, size
end

-- -> the URLs and the seconds for each; does not return where there is nothing to fetch
local function command_line(args)
  local function wrong(why)
    io.stderr:write("fetch_all: ", why, "\n", USAGE)
    os.exit(2)
  end
  local urls, seconds = {}, 10
  local i = 1
  while args[i] do
    local a = args[i]
    if a == "--help" or a == "-h" then
      io.write(USAGE)
      os.exit(0)
    elseif a == "--timeout" then
      i = i + 1
      seconds = tonumber(args[i])
      if not (seconds and seconds > 0) then wrong("--timeout needs a number of seconds above 0") end
    elseif a:sub(1, 1) == "-" then
      wrong("unknown option " .. a)
    else
      urls[#urls + 1] = a
    end
    i = i + 1
  end
  if #urls == 0 then wrong("no URL given") end
  return urls, seconds
end

local function main(urls, seconds)
  -- Errors that nobody awaits, here only faults of this program: logged, and the rest goes on.
  async.get_running_loop():set_exception_handler(function(_, context)
    io.stderr:write("fetch_all: ", context.message, ": ", tostring(context.exception), "\n")
  end)

  local permits, fetched, jobs = async.Semaphore(AT_ONCE), 0, {}
  for i, url in ipairs(urls) do
    jobs[i] = function()
      local _ <close> = permits:guard() -- the time limit starts when it is this URL's turn
      fetch(url, seconds)
      fetched = fetched + 1
    end
  end

  -- Ctrl-C cancels this task; gather then cancels the jobs and waits for them, and the error goes on its way.
  local _ <close> = async.defer(function(err)
    if async.isinstance(err, async.CancelledError) or async.isinstance(err, async.KeyboardInterrupt) then
      io.stderr:write(("fetch_all: interrupted, %d of %d fetched\n"):format(fetched, #urls))
    end
  end)
  local _, errors = async.gather(jobs, { return_exceptions = true })

  for i, url in ipairs(urls) do
    local e = errors[i]
    if async.isinstance(e, async.TimeoutError) then
      io.stderr:write(url, (": no complete answer within %g s\n"):format(seconds))
    elseif e ~= nil then
      io.stderr:write(url, ": ", async.isinstance(e, async.Error) and e.message or tostring(e), "\n")
    end
  end
  return next(errors) == nil
end

io.stdout:setvbuf("line") -- each line is seen when it is printed, also through a pipe
if not main(command_line(arg)) then os.exit(1) end

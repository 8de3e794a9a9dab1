-- As much of HTTP/1 as specs need to talk to nginx, curl and python: messages are read and written by hand over a stream.
local http = {}

-- -> the headers by lower-case name, up to the empty line
local function read_headers(stream)
  local headers = {}
  while true do
    local line = assert(stream:read("l"), "the head is cut"):gsub("\r$", "")
    if line == "" then return headers end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    headers[name:lower()] = value
  end
end

local function read_exactly(stream, n)
  local data = n == 0 and "" or stream:read(n) or ""
  if #data ~= n then error(("the body is cut: %d of %d bytes"):format(#data, n), 2) end
  return data
end

local function read_chunks(stream)
  local parts = {}
  while true do
    local size = tonumber(stream:read("l"):match("^%x+"), 16)
    if size == 0 then break end
    parts[#parts + 1] = read_exactly(stream, size)
    assert(stream:read("l") == "\r")
  end
  read_headers(stream)
  return table.concat(parts)
end

-- The body that the headers announce; "" without any.
function http.read_body(stream, headers)
  if headers["transfer-encoding"] == "chunked" then return read_chunks(stream) end
  return read_exactly(stream, tonumber(headers["content-length"] or 0))
end

-- -> {method, path, version, headers}, or nil at the end of the stream; the body is not read
function http.read_request(stream)
  local line = stream:read("l")
  if not line then return nil end
  local method, path, version = line:match("^(%u+) (%S+) HTTP/(%d%.%d)\r$")
  assert(method, "no request: " .. line)
  return { method = method, path = path, version = version, headers = read_headers(stream) }
end

-- -> {status, headers, body}; an answer without a length ends with the stream
function http.read_answer(stream)
  local line = assert(stream:read("l"), "no answer")
  local status = assert(tonumber(line:match("^HTTP/1%.%d (%d%d%d)")), line)
  local headers = read_headers(stream)
  local answer = { status = math.tointeger(status), headers = headers }
  if headers["content-length"] or headers["transfer-encoding"] then
    answer.body = http.read_body(stream, headers)
  else
    answer.body = stream:read("a")
  end
  return answer
end

-- The text of a request. options: version, headers (a list of lines), method, body
function http.request(path, options)
  options = options or {}
  local lines = { ("%s %s HTTP/%s"):format(options.method or "GET", path, options.version or "1.1"), "Host: peer" }
  table.move(options.headers or {}, 1, #(options.headers or {}), #lines + 1, lines)
  if options.body then lines[#lines + 1] = "Content-Length: " .. #options.body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (options.body or "")
end

-- Writes a request and reads the answer.
function http.get(stream, path, options)
  stream:write(http.request(path, options))
  return http.read_answer(stream)
end

-- The text of an answer with a length.
function http.answer(body, status)
  return ("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"):format(status or "200 OK", #body, body)
end

return http

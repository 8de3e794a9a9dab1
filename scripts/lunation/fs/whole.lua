-- lunation.fs.whole: whole files at once.
--
-- Law: an atomic write leaves nothing behind but the new file or the old one, on every way out: the temporary file goes
-- without suspending, because a second cancel could cut that short.
local async = require "lunation"
local core = require "lunation.fs.core"
local check = require "lunation.fs.check"

local whole = {}

local unless = check.unless

--- fs.read_file(path) -> string
-- All bytes of the file. Throws OSError. Suspends, safe to cancel.
function whole.read(path)
  path = check.path("read_file", 1, path)
  local file <close> = core.open(path)
  return (file:read("a"))
end

-- Where the new file goes, and the facts about the one that is there, if any; false for what cannot be replaced, a
-- device or a pipe for example. A link stays a link.
local function destination(path)
  local there, st = unless({ ENOENT = true }, core.stat, path)
  if there then return st.type == "file" and core.realpath(path), st end
  local is_link, text = unless({ ENOENT = true, EINVAL = true }, core.readlink, path)
  if not is_link then return path end
  return destination(text:sub(1, 1) == "/" and text or check.join(check.split(path), text))
end

local function replace(target, before, data, opts)
  local folder, name = check.split(target)
  local mode = opts.mode or before and before.mode
  local temp = check.join(folder, "." .. name:sub(1, 200) .. "." .. core.unique())
  local made = false
  local _ <close> = async.defer(function()
    if made then core.remove_now(temp) end
  end)
  local file <close> = core.open(temp, "wx", { mode = mode })
  made = true
  if before then unless({ EPERM = true, EINVAL = true }, core.chown, temp, before.uid, before.gid) end
  file:write(data)
  if mode then core.chmod(temp, mode) end -- the umask has been at it
  if opts.sync ~= false then file:sync() end
  file:close()
  core.rename(temp, target)
  made = false
end

-- fn(...); an OSError is about `path`, whatever the file was called meanwhile, and of `call` or as it was.
local function about(path, call, fn, ...)
  local ok, first, second = pcall(fn, ...)
  if not ok then error(check.about(call, path, first), 0) end
  return first, second
end

--- fs.write_file(path, data, opts?)
-- Writes a whole file. At first into a file beside it, which then takes the name in one step: whoever looks sees the
-- old file or the new one, never half of it, and neither an error nor a cancel leaves anything else behind. Permissions
-- and, where this process may, owner and group are those of the file that was there; a symbolic link stays one, and its
-- file is replaced. What is no file is written itself.
-- opts: sync = false: do not wait until the bytes are on the disk before they get the name; mode: the permissions;
-- atomic = false: write into the file itself; append = true: put it at the end of the file, in place; these two wait
-- for the disk only with sync = true. Throws OSError. Suspends; cancelled, the file is the old one or, if the last step
-- had begun, the new one; in place, a part may have been written.
function whole.write(path, data, opts)
  path = check.path("write_file", 1, path)
  if type(data) ~= "string" and type(data) ~= "number" then
    error(async.TypeError(("bad argument #2 to 'write_file' (string expected, got %s)"):format(type(data))))
  end
  opts = check.options("write_file", 3, opts,
    { sync = "boolean", atomic = "boolean", append = "boolean", mode = "permissions" })
  if opts.atomic ~= false and not opts.append then
    local target, before = about(path, "open", destination, path)
    if target then
      about(path, nil, replace, target, before, data, opts)
      return
    end
  end
  local file <close> = core.open(path, opts.append and "a" or "w", { mode = opts.mode })
  file:write(data)
  if opts.sync then file:sync() end
  file:close()
end

return whole

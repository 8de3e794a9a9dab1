-- lunation.fs.whole: whole files at once.
--
-- Law: an atomic write leaves nothing behind but the new file or the old one, on every way out: the temporary file goes
-- without suspending, because a second cancel could cut that short.
local async = require "lunation"
local core = require "lunation.fs.core"
local check = require "lunation.fs.check"

local whole = {}

--- fs.read_file(path) -> string
-- All bytes of the file. Throws OSError. Suspends, safe to cancel.
function whole.read(path)
  path = check.path("read_file", 1, path)
  local file <close> = core.open(path)
  return (file:read("a"))
end

-- Where the new file goes, and the permissions of the one that is there, if any. A link stays a link.
local function destination(path)
  local there, target = check.unless({ ENOENT = true }, core.realpath, path)
  if there then return target, core.stat(target) end
  local is_link, text = check.unless({ ENOENT = true, EINVAL = true }, core.readlink, path)
  if is_link then return text:sub(1, 1) == "/" and text or check.join(check.split(path), text) end
  return path
end

local function replace(path, data, opts)
  local target, before = destination(path)
  local folder, name = check.split(target)
  if before and before.type ~= "file" then -- a device or the like cannot be replaced: it is written
    return whole.write(path, data, { atomic = false, sync = false })
  end
  local mode = opts.mode or before and before.mode
  local temp = check.join(folder, "." .. name:sub(1, 200) .. "." .. core.unique())
  local ok, file = pcall(core.open, temp, "wx", { mode = mode })
  if not ok then error(check.about("open", path, file), 0) end
  local file <close> = file
  local _ <close> = async.defer(function()
    if temp then core.remove_now(temp) end
  end)
  file:write(data)
  if mode then core.chmod(temp, mode) end -- the umask has been at it
  if opts.sync ~= false then file:sync() end
  file:close()
  core.rename(temp, target)
  temp = nil
end

--- fs.write_file(path, data, opts?)
-- Writes a whole file. At first into a file beside it, which then takes the name in one step: whoever looks sees the
-- old file or the new one, never half of it, and neither an error nor a cancel leaves anything else behind. The
-- permissions are those of the file that was there; a symbolic link stays one, and its file is replaced.
-- opts: sync = false: do not wait for the disk; mode: the permissions; atomic = false: write into the file itself;
-- append = true: put it at the end of the file, in place; these two wait for the disk only with sync = true. Throws
-- OSError. Suspends; cancelled, the file is the old one or, if the last step had begun, the new one; in place, a part
-- may have been written.
function whole.write(path, data, opts)
  path = check.path("write_file", 1, path)
  if type(data) ~= "string" and type(data) ~= "number" then
    error(async.TypeError(("bad argument #2 to 'write_file' (string expected, got %s)"):format(type(data))))
  end
  opts = check.options("write_file", 3, opts,
    { sync = "boolean", atomic = "boolean", append = "boolean", mode = "integer" })
  if opts.atomic ~= false and not opts.append then return replace(path, data, opts) end
  local file <close> = core.open(path, opts.append and "a" or "w", { mode = opts.mode })
  file:write(data)
  if opts.sync then file:sync() end
  file:close()
end

return whole

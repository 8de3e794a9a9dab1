-- lunation.fs.tree: folders in folders: making, walking, copying, removing them.
local async = require "lunation"
local core = require "lunation.fs.core"
local check = require "lunation.fs.check"

local tree = {}

local join, unless = check.join, check.unless

-- ---- making and removing ----

local function is_folder(path)
  local there, st = unless({ ENOENT = true, ENOTDIR = true }, core.stat, path)
  return there and st.type == "directory"
end

local function make(path, mode, opts)
  local made, code = unless({ ENOENT = opts.parents, EEXIST = opts.exist_ok }, core.mkdir, path, mode)
  if made then return end
  if code == "EEXIST" then
    if not is_folder(path) then check.fail("mkdir", path, "EEXIST", 17) end
    return
  end
  local parent = check.split(path)
  if path == "" or parent == path then check.fail("mkdir", path, "ENOENT", 2) end
  make(parent, nil, { parents = true, exist_ok = true })
  make(path, mode, { exist_ok = opts.exist_ok })
end

--- fs.mkdir(path, opts?)
-- Makes a folder. opts: mode (permissions, 0777 less the umask); parents = true: missing folders above it, too, with
-- the usual permissions; exist_ok = true: it may be there already, as a folder. Throws OSError, EEXIST for example.
-- Suspends; cancelled, some may have been made.
function tree.mkdir(path, opts)
  path = check.path("mkdir", 1, path)
  opts = check.options("mkdir", 2, opts, { mode = "permissions", parents = "boolean", exist_ok = "boolean" })
  make(path, opts.mode, opts)
end

--- fs.makedirs(path, opts?): fs.mkdir with parents and exist_ok. opts: mode.
function tree.makedirs(path, opts)
  path = check.path("makedirs", 1, path)
  opts = check.options("makedirs", 2, opts, { mode = "permissions" })
  make(path, opts.mode, { parents = true, exist_ok = true })
end

--- fs.rmtree(path, opts?)
-- Removes a folder with all that is in it, or a file; a symbolic link itself, never what it leads to. opts.missing_ok =
-- true: it need not be there. Throws OSError for the first entry that cannot be removed. Suspends; cancelled, it goes
-- on in the pool.
function tree.rmtree(path, opts)
  path = check.path("rmtree", 1, path)
  opts = check.options("rmtree", 2, opts, { missing_ok = "boolean" })
  core.rmtree(path, opts.missing_ok)
end

-- ---- walking ----

-- The type of an entry: what the folder said, or what the file system says now; of what a link leads to, if asked.
local function type_of(path, entry, follow)
  local kind = entry.type
  if kind == "unknown" then kind = core.lstat(path).type end
  if kind ~= "link" or not follow then return kind end
  local nowhere = { ENOENT = true, ELOOP = true, ENOTDIR = true, EACCES = true }
  local there, st = unless(nowhere, core.stat, path)
  return there and st.type or "link", there and st
end

-- Is the folder one of those that the walk is in? Only links can lead back.
local function is_above(levels, st)
  for _, level in ipairs(levels) do
    if level.ino == st.ino and level.dev == st.dev then return true end
  end
  return false
end

local function level_of(path, follow)
  local st = follow and core.stat(path)
  return { path = path, entries = core.scandir(path), at = 0, ino = st and st.ino, dev = st and st.dev }
end

--- fs.walk(root, opts?) -> iterator for `for path, entry in fs.walk(root)`
-- Everything below the folder `root`, which itself is not given: each folder before what is in it, entries by name, so
-- the order is always the same. path: root, "/" and so on; entry: {name, type, depth}, depth 1 right below root.
-- Setting entry.skip = true in the body keeps the walk out of that folder. What is no folder any more when its turn
-- comes is passed over.
-- opts: order = "post": each folder after what is in it; follow = true: symbolic links to folders are walked as folders
-- (one that leads back to where the walk is, is not); on_error: a function (error, path) that is called for a folder
-- that cannot be read, instead of throwing; it may throw itself. The iterator suspends and throws OSError; safe to
-- cancel.
function tree.walk(root, opts)
  root = check.path("walk", 1, root)
  opts = check.options("walk", 2, opts, { order = "string", follow = "boolean", on_error = "function" })
  local post = opts.order == "post"
  if opts.order and opts.order ~= "pre" and not post then
    local text = "bad argument #2 to 'walk' (order: 'pre' or 'post' expected, got '%s')"
    error(async.ValueError(text:format(opts.order)), 0)
  end
  local levels, pending

  local function enter(path)
    local ok, level = async.pcall(level_of, path, opts.follow)
    if ok then
      levels[#levels + 1] = level
    elseif opts.on_error and async.isinstance(level, async.OSError) then
      opts.on_error(level, path)
    elseif #levels == 0 or not async.isinstance(level, async.OSError)
      or (level.code ~= "ENOENT" and level.code ~= "ENOTDIR") then
      error(level, 0)
    end
    return ok
  end

  local function next_entry()
    local level = levels[#levels]
    level.at = level.at + 1
    local found = level.entries[level.at]
    if not found then
      levels[#levels] = nil
      return level.entry and post, level.path, level.entry
    end
    local path = join(level.path, found.name)
    local there, kind, st = unless({ ENOENT = true }, type_of, path, found, opts.follow)
    if not there then return false end
    local entry = { name = found.name, type = kind, depth = #levels }
    local inside = kind == "directory" and not (st and is_above(levels, st))
    if inside and post and enter(path) then
      levels[#levels].entry = entry
      return false
    end
    if inside and not post then pending = { path = path, entry = entry } end
    return true, path, entry
  end

  return function()
    if not levels then
      levels = {}
      if not enter(root) then return nil end
    end
    if pending then
      local folder = pending
      pending = nil
      if not folder.entry.skip then enter(folder.path) end
    end
    while #levels > 0 do
      local give, path, entry = next_entry()
      if give then return path, entry end
    end
    return nil
  end
end

-- ---- copying ----

local function copy_times(st, to, follow)
  core.utime(to, st.atime, st.mtime, { follow = follow })
end

local function copy_link(from, st, to, opts)
  local text = core.readlink(from)
  local made = unless({ EEXIST = opts.overwrite }, core.symlink, text, to)
  if not made then
    core.unlink(to)
    core.symlink(text, to)
  end
  copy_times(st, to, false)
end

local copy_any

local function copy_folder(from, st, to, opts)
  -- Ours to enter until all is in it, whatever its permissions will be.
  local made = unless({ EEXIST = opts.overwrite }, core.mkdir, to, 0x1c0)
  if not made and not is_folder(to) then check.fail("mkdir", to, "EEXIST", 17) end
  for _, entry in ipairs(core.scandir(from)) do
    copy_any(join(from, entry.name), join(to, entry.name), opts)
  end
  core.chmod(to, st.mode)
  copy_times(st, to, true)
end

function copy_any(from, to, opts)
  local st = core.lstat(from)
  if st.type == "link" then
    copy_link(from, st, to, opts)
  elseif st.type == "directory" then
    copy_folder(from, st, to, opts)
  elseif st.type == "file" then
    core.copyfile(from, to, opts.overwrite)
    copy_times(st, to, true)
  else
    check.fail("copy", from, "ENOTSUP", 95)
  end
end

-- The real path of what is there, or of the folder that it would be made in; false if that is missing, too.
local function real(path)
  local missing = { ENOENT = true, ENOTDIR = true }
  local there, found = unless(missing, core.realpath, path)
  if not there then there, found = unless(missing, core.realpath, (check.split(path))) end
  return there and found
end

-- A folder cannot go into itself.
local function refuse_inside(from, to)
  if core.lstat(from).type ~= "directory" then return end
  local source, place = join(core.realpath(from), ""), real(to)
  if place and (place .. "/"):sub(1, #source) == source then
    error(async.ValueError(("copy: %s is in %s"):format(to, from)), 0)
  end
end

--- fs.copy(from, to, opts?)
-- Copies a file, or a folder with all that is in it, to the path `to`. Bytes are copied inside the kernel where that
-- can be; permissions and times are kept, symbolic links stay links. opts.overwrite = true: files that are there are
-- replaced and folders filled up; without it they throw OSError EEXIST. What is no file, folder or link throws ENOTSUP.
-- Suspends; cancelled or failed, what has been copied so far is there; of the file that it was at nothing, or a part if
-- there was one already. A cancel waits until the pool has stopped writing, which is at most 16 MiB more.
function tree.copy(from, to, opts)
  from = check.path("copy", 1, from)
  to = check.path("copy", 2, to)
  opts = check.options("copy", 3, opts, { overwrite = "boolean" })
  refuse_inside(from, to)
  copy_any(from, to, { overwrite = opts.overwrite or false })
end

return tree

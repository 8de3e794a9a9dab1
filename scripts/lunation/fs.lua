-- lunation.fs: files and folders, without keeping other tasks waiting. The calls themselves run in libuv's pool
-- (lunation.fs.core, in C); what stands here is made of them.
--
-- A path is a string, or a value whose metatable has __fspath, a function of the value that gives one.
--
-- Errors are OSError "call path: CODE" with code, errno, syscall, path and, of calls with two paths, dest. Bad
-- arguments throw TypeError or ValueError. Everything that says nothing else suspends, and throws RuntimeError outside
-- a task. Cancelled before it has begun, a call does nothing; one that runs goes on, and what it has opened is closed
-- again.
--
-- Law: at most half of the pool's threads work on files; the rest is for lookups of names.
local async = require "lunation"
local core = require "lunation.fs.core"
local check = require "lunation.fs.check"
local tree = require "lunation.fs.tree"
local temp = require "lunation.fs.temp"
local whole = require "lunation.fs.whole"

local fs = {}

--- fs.open(path, mode?, opts?) -> File
-- mode as io.open's ("r", "w", "a", "r+", "w+", "a+", with "b" or without), and with "x" for a file that must not exist
-- yet ("x", "wx", "x+", "w+x"). opts: mode, the permissions of a new file (0666 less the umask); limit, the bytes of a
-- line. File: read, read_some, lines, write, seek, truncate, sync, flush, stat, fileno, close; closable.
fs.open = core.open

--- fs.stat(path) -> {type, size, mode, mtime, atime, ctime, birthtime, ino, dev, nlink, uid, gid, rdev, blksize,
-- blocks}
-- About what the path leads to. type: "file", "directory", "link", "fifo", "socket", "char", "block"; mode: the
-- permission bits; times in seconds. fs.lstat: about a symbolic link itself.
fs.stat = core.stat
fs.lstat = core.lstat

--- fs.exists(path) -> boolean
-- Whether the path leads to anything. Throws OSError where that cannot be told.
fs.exists = core.exists

--- fs.access(path, how?) -> true
-- Whether this process may read ("r"), write ("w"), execute ("x") it, or OSError says why not; how: letters of these.
fs.access = core.access

--- fs.scandir(path) -> list of {name, type}, sorted by name
-- What is in a folder, without "." and "..". type: as stat's, or "unknown" where the file system does not tell.
fs.scandir = core.scandir

--- fs.rmdir(path): removes an empty folder. fs.unlink(path): removes a file or a link.
fs.rmdir = core.rmdir
fs.unlink = core.unlink

--- fs.rename(from, to)
-- Gives it another name on the same file system; a file of that name is replaced in one step.
fs.rename = core.rename

--- fs.link(path, new), fs.symlink(target, path), fs.readlink(path) -> text
-- Another name for a file; a symbolic link; what such a link says.
fs.link = core.link
fs.symlink = core.symlink
fs.readlink = core.readlink

--- fs.realpath(path) -> the absolute path of what is there, without links, "." and ".."
fs.realpath = core.realpath

--- fs.chmod(path, mode), fs.chown(path, uid, gid, opts?), fs.utime(path, atime, mtime, opts?)
-- Sets permission bits; owner and group (-1: as it is); times in seconds. opts.follow = false: of a symbolic link
-- itself.
fs.chmod = core.chmod
fs.chown = core.chown
fs.utime = core.utime

--- fs.truncate(path, size?): makes a file `size` (0) bytes long.
fs.truncate = core.truncate

--- fs.mkdir(path, opts?)
-- Makes a folder. opts: mode (0777 less the umask); parents = true: those above it, too, where they are missing;
-- exist_ok = true: it may be there already. fs.makedirs(path, opts?): with parents and exist_ok.
fs.mkdir = tree.mkdir
fs.makedirs = tree.makedirs

--- fs.walk(root, opts?) -> iterator for `for path, entry in fs.walk(root)`
-- Everything below the folder, depth first, each folder's entries by name. See lunation.fs.tree for the options.
fs.walk = tree.walk

--- fs.copy(from, to, opts?)
-- Copies a file, or a folder with all that is in it. See lunation.fs.tree.
fs.copy = tree.copy

--- fs.rmtree(path, opts?)
-- Removes a folder with all that is in it, or a file; a symbolic link itself, never what it leads to. opts.missing_ok:
-- it need not be there. The first entry that cannot be removed ends it. Cancelled, it goes on in the pool.
fs.rmtree = tree.rmtree

--- fs.mkdtemp(prefix?) -> TempDir; fs.mkstemp(prefix?) -> TempFile
-- A new folder or file of one's own in $TMPDIR or /tmp, which is removed when it is closed. See lunation.fs.temp.
fs.mkdtemp = temp.mkdtemp
fs.mkstemp = temp.mkstemp

--- fs.read_file(path) -> string; fs.write_file(path, data, opts?)
-- A whole file; written so that whoever looks sees the old one or the new one. See lunation.fs.whole.
fs.read_file = whole.read
fs.write_file = whole.write

--- fs.watch(path, opts?) -> Watcher
-- `for event in watcher:iter()` or watcher:next() -> {kind, path, name?}: what happens to the file, or to the entries
-- of the folder. kind: "change"; "rename": something came, went or has another name; "overflow": some events are lost.
-- Events that nobody has taken wait, at most 1024 of them. Closable: a task in `next` gets nil then. There are no
-- recursive watches. Throws OSError "watch path: CODE" if the path is not there.
function fs.watch(path, opts)
  if opts ~= nil and type(opts) ~= "table" then
    error(async.TypeError(("bad argument #2 to 'watch' (table expected, got %s)"):format(type(opts))))
  end
  if opts and opts.recursive then
    error(async.ValueError("watch: recursive watches are not supported; watch each folder that fs.walk finds"))
  end
  path = check.path("watch", 1, path)
  local ok, st = pcall(core.stat, path)
  if not ok then error(check.about("watch", path, st), 0) end
  return core.watch(path, st.type == "directory")
end

return fs

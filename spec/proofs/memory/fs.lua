-- Files: every call about paths, a File with all its methods, a watcher, and the functions that are written in Lua.
local async = require "lunation"
local core = require "lunation.fs.core"
local fs = require "lunation.fs"
local runner <close> = async.Runner { debug = sweep.debug }

-- In a folder of its own, which goes whatever happens.
local function inside(fn)
  runner:run(function()
    local _ <close> = async.timeout(sweep.patience)
    local dir <close> = fs.mkdtemp()
    fn(dir.path .. "/")
  end)
end

inside(function(at)
  core.mkdir(at .. "d", 448)
  assert(core.stat(at .. "d").type == "directory" and core.lstat(at .. "d").mode == 448)
  assert(core.access(at .. "d", "rwx") and not core.exists(at .. "x"))
  core.symlink("d", at .. "s")
  assert(core.readlink(at .. "s") == "d" and #core.scandir(at) == 2)
  assert(core.realpath(at .. "s"):sub(-2) == "/d")
  core.chmod(at .. "d", 493)
  core.chown(at .. "d", -1, -1)
  core.utime(at .. "d", 1, 2)
  local file, path = core.mkstemp(at .. "XXXXXX")
  file:close()
  core.copyfile(path, at .. "c")
  core.link(path, at .. "l")
  core.truncate(path, 3)
  core.rename(at .. "l", at .. "m")
  core.unlink(at .. "m")
  core.rmdir(at .. "d")
  assert(core.remove_now(at .. "c") and #core.unique() == 12)
  core.rmtree(core.mkdtemp(at .. "tXXXXXX"))
  pcall(core.stat, at .. "missing")
  pcall(core.rename, at .. "missing", at .. "other")
end)

inside(function(at)
  local file <close> = fs.open(at .. "f", "w+", { limit = 1000 })
  assert(tostring(file) and file:fileno() > 0)
  file:write("one\n", 2, " three\nfour"):flush():sync(true):sync()
  assert(file:seek("set") == 0 and file:seek("end") == 16 and file:seek("set", 0) == 0)
  assert(file:read() == "one" and file:read("n", "L") == 2 and file:read_some(2) == "fo")
  for line in file:lines("l") do assert(line == "ur") end
  assert(file:stat().size == 16 and file:truncate(1):seek("set", 0) == 0)
  assert(file:read("a") == "o")
  local waiting = async.create_task(file.read, file, 1)
  async.sleep(0)
  waiting:cancel()
  async.wait { waiting }
  fs.open(at .. "f")
end)

-- A terminal of its own to which nobody writes: what has no positions is waited for outside of the pool.
inside(function()
  local terminal <close> = fs.open("/dev/ptmx", "r+")
  local waiting = async.create_task(terminal.read, terminal, 1)
  async.sleep(0)
  waiting:cancel()
  async.wait { waiting }
  waiting = async.create_task(terminal.read, terminal, 1)
  async.sleep(0)
  terminal:close()
  pcall(async.await, waiting)
end)

inside(function(at)
  local watcher <close> = fs.watch(at)
  assert(tostring(watcher))
  core.mkdir(at .. "d")
  for event in watcher:iter() do
    assert(event.name == "d" and event.path == at .. "d")
    watcher:close()
  end
  assert(watcher:next() == nil)
end)

inside(function(at)
  fs.write_file(at .. "f", "text", { sync = false })
  assert(fs.read_file(at .. "f") == "text")
  fs.makedirs(at .. "a/b")
  fs.copy(at .. "f", at .. "a/b/f")
  for path, entry in fs.walk(at .. "a") do assert(path and entry.type) end
end)

-- lunation.fs: calls about paths: what they do, what they throw, what is left when they are cancelled.
local async = require "lunation"
local fs = require "lunation.fs"
local folder = require "spec.support.folder"
local helper = require "spec.helper"

local refuses, turns = helper.refuses, helper.turns
local at = folder.at

folder.each(before_each, after_each)

local function names(list)
  local found = {}
  for i, entry in ipairs(list) do found[i] = entry.name end
  return found
end

-- An OSError with these fields.
local function fails(code, call, path, dest, fn, ...)
  local e = refuses("OSError", code, fn, ...)
  assert.equal(code, e.code)
  assert.equal(call, e.syscall)
  assert.equal(path, e.path)
  assert.equal(dest, e.dest)
  assert.equal(("%s %s%s: %s"):format(call, path, dest and " -> " .. dest or "", code), e.message)
  assert.equal("integer", math.type(e.errno))
  return e
end

describe("facts about a file", function()
  it("are what the system says", function()
    fs.write_file(at "f", "12345", { mode = 0x1a0 }) -- 0640
    local st = fs.stat(at "f")
    assert.equal("file", st.type)
    assert.equal(5, st.size)
    assert.equal(0x1a0, st.mode)
    assert.equal(1, st.nlink)
    for _, field in ipairs { "ino", "dev", "uid", "gid", "rdev", "blksize", "blocks" } do
      assert.equal("integer", math.type(st[field]), field)
    end
    for _, field in ipairs { "atime", "mtime", "ctime", "birthtime" } do
      assert.equal("float", math.type(st[field]), field)
    end
    assert.is_true(math.abs(st.mtime - os.time()) < 100)
  end)

  it("name the type", function()
    fs.write_file(at "f", "")
    fs.symlink("f", at "link")
    os.execute("mkfifo " .. at "pipe")
    assert.equal("directory", fs.stat(at()).type)
    assert.equal("file", fs.stat(at "link").type)
    assert.equal("link", fs.lstat(at "link").type)
    assert.equal("fifo", fs.stat(at "pipe").type)
    assert.equal("char", fs.stat("/dev/null").type)
  end)

  it("exists, access", function()
    fs.write_file(at "f", "")
    fs.symlink("nowhere", at "broken")
    assert.is_true(fs.exists(at "f"))
    assert.is_false(fs.exists(at "g"))
    assert.is_false(fs.exists(at "f/below"))
    assert.is_false(fs.exists(at "broken"))
    fs.symlink("loop", at "loop")
    fails("ELOOP", "stat", at "loop", nil, fs.exists, at "loop")
    assert.is_true(fs.access(at "f"))
    assert.is_true(fs.access(at "f", "rw"))
    fails("EACCES", "access", at "f", nil, fs.access, at "f", "x")
    fails("ENOENT", "access", at "g", nil, fs.access, at "g", "")
    refuses("ValueError", "'rwx'", fs.access, at "f", "q")
  end)

  it("chmod, chown, utime", function()
    fs.write_file(at "f", "")
    fs.symlink("f", at "link")
    fs.chmod(at "f", 0x1ed)
    assert.equal(0x1ed, fs.stat(at "f").mode)
    fs.utime(at "link", 1000.5, 2000.25)
    local st = fs.stat(at "f")
    assert.equal(1000.5, st.atime)
    assert.equal(2000.25, st.mtime)
    fs.utime(at "link", 10, 20, { follow = false })
    assert.equal(20.0, fs.lstat(at "link").mtime)
    assert.equal(2000.25, fs.stat(at "f").mtime)
    for _, time in ipairs { -1.5, 1.9999999996, 1700000000.1234567, fs.stat(at()).mtime } do
      fs.utime(at "f", 0, time)
      local wanted = time == 1.9999999996 and 2.0 or time
      assert.equal(wanted, fs.stat(at "f").mtime)
    end
    fs.chown(at "f", -1, st.gid)
    fs.chown(at "link", st.uid, -1, { follow = false })
    assert.equal(st.uid, fs.stat(at "f").uid)
    refuses("ValueError", "4096", fs.chmod, at "f", 4096)
    refuses("TypeError", "NaN", fs.utime, at "f", 0 / 0, 1)
    refuses("ValueError", "no time", fs.utime, at "f", math.huge, 1)
    refuses("TypeError", "follow", fs.utime, at "f", 1, 1, { follow = 1 })
    refuses("ValueError", "-2", fs.chown, at "f", -2, 0)
  end)
end)

describe("names", function()
  it("rename, link, symlink, readlink, realpath, unlink, truncate", function()
    fs.write_file(at "a", "text")
    fs.rename(at "a", at "b")
    fs.link(at "b", at "c")
    fs.symlink("c", at "d")
    assert.equal("c", fs.readlink(at "d"))
    assert.equal(fs.realpath(at()) .. "/c", fs.realpath(at "./d"))
    assert.equal(2, fs.stat(at "d").nlink)
    fs.unlink(at "d")
    assert.equal("text", fs.read_file(at "c"))
    fs.truncate(at "c", 2)
    assert.equal("te", fs.read_file(at "b"))
    fs.truncate(at "c")
    assert.equal(0, fs.stat(at "b").size)
    assert.same({ "b", "c" }, names(fs.scandir(at())))
  end)

  it("errors name call and paths", function()
    fs.write_file(at "f", "")
    fails("ENOENT", "open", at "x", nil, fs.open, at "x")
    fails("ENOENT", "stat", at "x", nil, fs.stat, at "x")
    fails("ENOENT", "lstat", at "x", nil, fs.lstat, at "x")
    fails("ENOENT", "rename", at "x", at "y", fs.rename, at "x", at "y")
    fails("EEXIST", "symlink", "x", at "f", fs.symlink, "x", at "f")
    fails("ENOENT", "link", at "x", at "y", fs.link, at "x", at "y")
    fails("EINVAL", "readlink", at "f", nil, fs.readlink, at "f")
    fails("ENOENT", "realpath", at "x", nil, fs.realpath, at "x")
    fails("ENOTDIR", "scandir", at "f", nil, fs.scandir, at "f")
    fails("ENOTDIR", "rmdir", at "f", nil, fs.rmdir, at "f")
    fails("EISDIR", "unlink", at(), nil, fs.unlink, at())
    fails("EEXIST", "mkdir", at "f", nil, fs.mkdir, at "f")
    fails("ENOENT", "truncate", at "x", nil, fs.truncate, at "x", 1)
    fails("EISDIR", "truncate", at(), nil, fs.truncate, at(), 1)
    fails("ENOENT", "chmod", at "x", nil, fs.chmod, at "x", 0)
    fails("ENOENT", "utime", at "x", nil, fs.utime, at "x", 0, 0)
    fails("ENOENT", "open", "", nil, fs.open, "")
    local long = at(("x"):rep(5000))
    fails("ENAMETOOLONG", "open", long, nil, fs.open, long)
    fs.symlink("loop", at "loop")
    fails("ELOOP", "open", at "loop", nil, fs.open, at "loop")
  end)

  it("permissions of a user that is not root are obeyed", function()
    if fs.stat("/proc/self").uid == 0 then return end
    fs.mkdir(at "closed", { mode = 0 })
    fails("EACCES", "open", at "closed/f", nil, fs.open, at "closed/f", "w")
    fails("EACCES", "stat", at "closed/f", nil, fs.exists, at "closed/f")
    fs.symlink("closed/f", at "into")
    local types = {}
    for _, entry in fs.walk(at(), { follow = true, on_error = function() end }) do types[entry.name] = entry.type end
    assert.same({ closed = "directory", into = "link" }, types)
    fs.chmod(at "closed", 0x1ff)
  end)

  it("bad arguments are refused before anything happens", function()
    for name, fn in pairs(fs) do
      if name ~= "mkdtemp" and name ~= "mkstemp" then
        refuses("TypeError", { "#1", "string expected, got nil" }, function()
          local results = fn(nil)
          if type(results) == "function" then results() end
        end)
        local e = refuses("ValueError", "NUL", fn, "a\0b", name ~= "watch" and "x" or nil, 0, 0)
        assert.is_truthy(e.message:find("#1", 1, true))
      end
    end
    refuses("TypeError", { "#1", "number" }, fs.open, 12)
    refuses("ValueError", { "#2", "NUL" }, fs.rename, "a", "b\0")
    refuses("ValueError", { "#2", "invalid mode 'q'" }, fs.open, "a", "q")
    refuses("TypeError", "#2", fs.open, "a", 1)
    refuses("TypeError", "#3", fs.open, "a", "r", 1)
    refuses("ValueError", "limit", fs.open, "a", "r", { limit = 0 })
    refuses("ValueError", "mode", fs.open, "a", "w", { mode = 1 << 20 })
    refuses("TypeError", "parents", fs.mkdir, "a", { parents = 1 })
    refuses("TypeError", "#2", fs.write_file, "a", {})
  end)

  it("outside of a task every call says so", function()
    local e
    async.get_running_loop():call_soon(function() e = select(2, pcall(fs.stat, "/")) end)
    turns()
    assert.equal("RuntimeError", e.name)
  end)
end)

describe("scandir", function()
  it("gives names and types, sorted", function()
    fs.write_file(at "b", "")
    fs.mkdir(at "a")
    fs.symlink("a", at "c")
    fs.write_file(at ".hidden", "")
    assert.same({
      { name = ".hidden", type = "file" }, { name = "a", type = "directory" },
      { name = "b", type = "file" }, { name = "c", type = "link" },
    }, fs.scandir(at()))
    assert.same({}, fs.scandir(at "a"))
  end)

  it("bears a big folder", function()
    local n = helper.scaled(5000, 1000)
    os.execute(("cd %s && seq -f %%06.0f %d | xargs touch"):format(at(), n))
    local list = fs.scandir(at())
    assert.equal(n, #list)
    assert.equal("000001", list[1].name)
    assert.equal(("%06d"):format(n), list[n].name)
  end)
end)

describe("temporary folders and files", function()
  it("are there, and gone when closed", function()
    local path, inside
    do
      local temp <close> = fs.mkdtemp("spec-")
      path, inside = temp.path, temp .. "/a/b"
      assert.is_truthy(path:find("/spec%-[%w]+$"))
      assert.equal(path, tostring(temp))
      assert.equal(0x1c0, fs.stat(path).mode)
      fs.makedirs(inside)
      fs.write_file(inside .. "/f", "x")
      fs.symlink("/", inside .. "/root")
    end
    assert.is_false(fs.exists(path))
    local name
    do
      local temp <close> = fs.mkstemp()
      name = temp.path
      temp.file:write("abc"):seek("set")
      assert.equal("abc", temp.file:read("a"))
      assert.equal(0x180, fs.stat(name).mode)
    end
    assert.is_false(fs.exists(name))
  end)

  it("close twice, and after somebody removed them", function()
    local temp = fs.mkdtemp()
    fs.rmdir(temp.path)
    temp:close()
    temp:close()
  end)

  it("are removed though the task is cancelled, twice even", function()
    local path
    local task = async.create_task(function()
      local temp <close> = fs.mkdtemp()
      path = temp.path
      fs.write_file(temp .. "/f", "x")
      async.Future():cancel()
      async.sleep(100)
    end)
    assert.is_true(helper.eventually(function() return path and fs.exists(path .. "/f") end))
    turns()
    task:cancel()
    turns(1)
    task:cancel()
    async.wait { task }
    assert.is_true(helper.eventually(function() return not fs.exists(path) end))
  end)

  it("are removed where nothing may suspend", function()
    local out = helper.plain([[
      local fs = async.fs
      local dirs = {}
      async.run(function()
        for i = 1, 4 do
          dirs[i] = fs.mkdtemp()
          fs.write_file(dirs[i] .. "/f", "x")
        end
        coroutine.wrap(function() dirs[1]:close() end)()
        table.sort({ 1, 2 }, function(a, b) dirs[2]:close() return a < b end)
        async.get_running_loop():call_soon(function() dirs[3]:close() end)
        turns()
      end)
      dirs[4]:close()
      for i = 1, 4 do print(os.rename(dirs[i].path, dirs[i].path)) end
    ]])
    assert.equal(4, select(2, out:gsub("nil\t[^\n]*No such file", "")), out)
  end)

  it("that cannot be removed now may be removed later", function()
    local out = helper.command([[
      local fs = async.fs
      local dir, files, ok, e = fs.mkdtemp(), {}
      fs.write_file(dir .. "/f", "x")
      repeat ok, files[#files + 1] = pcall(fs.open, "/dev/null") until not ok
      print(pcall(dir.close, dir))
      files[1]:close()
      dir:close()
      print(fs.exists(dir))
    ]], { prefix = { "sh", "-c", "ulimit -n 40; exec \"$@\"", "sh" } })
    assert.is_truthy(out:find("^false\tOSError: rmtree %S+: EMFILE\nfalse\n$"), out)
  end)

  it("are removed by the collector", function()
    local path = fs.mkdtemp().path
    collectgarbage()
    collectgarbage()
    assert.is_false(fs.exists(path))
  end)

  it("are paths themselves", function()
    local temp <close> = fs.mkdtemp()
    local file <close> = fs.mkstemp(temp .. "/f")
    assert.equal("directory", fs.stat(temp).type)
    assert.equal(1, #fs.scandir(temp))
    assert.equal("", fs.read_file(file))
    fs.rename(file, setmetatable({}, { __fspath = function() return temp .. "/g" end }))
    for path in fs.walk(temp) do assert.equal(temp .. "/g", path) end
    fs.watch(temp):close()
    refuses("TypeError", "string expected", fs.stat, setmetatable({}, { __fspath = function() return 1 end }))
    refuses("TypeError", "string expected", fs.walk, setmetatable({}, { __fspath = function() return 1 end }))
  end)

  it("a prefix with a folder goes there", function()
    local temp <close> = fs.mkdtemp()
    local inner = fs.mkdtemp(temp .. "/x")
    assert.equal(temp.path, inner.path:match("^(.*)/x%w+$"))
    refuses("OSError", "mkdtemp", fs.mkdtemp, temp .. "/missing/x")
    local out = helper.command([[
      local temp <close> = async.fs.mkdtemp()
      print(temp)
    ]], { env = { TMPDIR = "" } })
    assert.is_truthy(out:find("^/tmp/lunation%-"), out)
    refuses("TypeError", "#1", fs.mkdtemp, 1)
  end)
end)

describe("a cancelled call", function()
  -- The library waits for what is in the pool; so does this.
  local function settled()
    local probe = require "lunation.probe"
    return helper.eventually(function()
      for _, row in ipairs(probe.live()) do
        if row.kind == "request" then return false end
      end
      return true
    end)
  end

  it("goes on at once, and what it had opened is closed", function()
    local before = #fs.scandir("/proc/self/fd")
    fs.write_file(at "f", "x")
    for _ = 1, 100 do
      local task = async.create_task(fs.open, at "f")
      async.sleep(0)
      task:cancel()
      async.wait { task }
      assert.is_true(task:cancelled())
    end
    assert.is_true(settled())
    collectgarbage()
    assert.equal(before, #fs.scandir("/proc/self/fd"))
  end)

  it("leaves no temporary file or folder, and no new file of mode x", function()
    local calls = {
      function() local _ <close> = fs.mkdtemp(at "t") end,
      function() local _ <close> = fs.mkstemp(at "t") end,
      function() fs.open(at "new", "wx"):close() end,
      function() fs.copy(at "f", at "copy") end,
    }
    fs.write_file(at "f", "x")
    for i = 1, 40 do
      local task = async.create_task(calls[i % #calls + 1])
      turns(i // #calls)
      task:cancel()
      async.wait { task }
      assert.is_true(settled())
      local left = names(fs.scandir(at()))
      if task:cancelled() then assert.same({ "f" }, left) end
      for _, name in ipairs(left) do
        if name ~= "f" then fs.rmtree(at(name)) end
      end
    end
  end)
end)

describe("whole files", function()
  it("are read and written", function()
    local text = ("0123456789"):rep(20000) .. "\0\r\n"
    fs.write_file(at "f", text)
    assert.equal(text, fs.read_file(at "f"))
    fs.write_file(at "f", 12)
    assert.equal("12", fs.read_file(at "f"))
    fs.write_file(at "f", "", { sync = false })
    assert.equal("", fs.read_file(at "f"))
    assert.same({ "f" }, names(fs.scandir(at())))
    fails("ENOENT", "open", at "x", nil, fs.read_file, at "x")
    fails("EISDIR", "read", at(), nil, fs.read_file, at())
    assert.is_truthy(fs.read_file("/proc/self/status"):find("^Name:"))
  end)

  it("keep their permissions, or get those that are named", function()
    local old = io.popen("umask"):read("n")
    assert.is_number(old)
    fs.write_file(at "new", "")
    fs.open(at "plain", "w"):close()
    assert.equal(fs.stat(at "plain").mode, fs.stat(at "new").mode)
    fs.chmod(at "new", 0x1c9)
    fs.write_file(at "new", "x")
    assert.equal(0x1c9, fs.stat(at "new").mode)
    fs.write_file(at "new", "x", { mode = 0x1b6 })
    assert.equal(0x1b6, fs.stat(at "new").mode)
  end)

  it("a symbolic link stays one", function()
    fs.mkdir(at "sub")
    fs.symlink("sub/f", at "link")
    fs.write_file(at "link", "first")
    assert.equal("first", fs.read_file(at "sub/f"))
    fs.write_file(at "link", "second")
    assert.equal("link", fs.lstat(at "link").type)
    assert.equal("second", fs.read_file(at "sub/f"))
    fs.symlink("link2", at "sub/link1")
    fs.symlink(at "sub/end", at "sub/link2")
    fs.write_file(at "sub/link1", "third")
    assert.equal("link", fs.lstat(at "sub/link2").type)
    assert.equal("third", fs.read_file(at "sub/end"))
    fs.symlink("loop", at "loop")
    fails("ELOOP", "open", at "loop", nil, fs.write_file, at "loop", "x")
  end)

  it("a file keeps its owner, where that may be", function()
    fs.write_file(at "f", "old", { mode = 0x1a0 })
    if fs.stat(at "f").uid == 0 then fs.chown(at "f", 12345, 23456) end
    local before = fs.stat(at "f")
    fs.write_file(at "f", "new")
    local after = fs.stat(at "f")
    assert.same({ before.uid, before.gid, before.mode }, { after.uid, after.gid, after.mode })
  end)

  it("what is no file is written itself", function()
    -- The command's output is a pipe, whose name in /proc leads nowhere.
    local out = helper.command([[async.fs.write_file("/dev/stdout", "told\n")]])
    assert.equal("told\n", out)
  end)

  it("in place and at the end", function()
    fs.write_file(at "f", "one")
    local ino = fs.stat(at "f").ino
    fs.write_file(at "f", "two", { atomic = false })
    fs.write_file(at "f", "three", { append = true, sync = true })
    assert.equal("twothree", fs.read_file(at "f"))
    assert.equal(ino, fs.stat(at "f").ino)
    fs.write_file(at "f", "new")
    assert.are_not.equal(ino, fs.stat(at "f").ino)
    fails("ENOSPC", "write", "/dev/full", nil, fs.write_file, "/dev/full", "x")
    assert.equal("char", fs.stat("/dev/full").type)
  end)

  it("a failed atomic write leaves the old file and nothing else", function()
    fs.write_file(at "f", "old")
    fails("ENOENT", "open", at "no/f", nil, fs.write_file, at "no/f", "x")
    fails("ENOTDIR", "open", at "f/x", nil, fs.write_file, at "f/x", "x")
    refuses("ValueError", { "'write_file'", "mode: permissions" }, fs.write_file, at "f", "x", { mode = 4096 })
    refuses("ValueError", { "'makedirs'", "mode: permissions" }, fs.makedirs, at "f", { mode = -1 })
    fs.mkdir(at "folder")
    refuses("OSError", "EISDIR", fs.write_file, at "folder", "x")
    -- No room: the limit on the size of files makes the write fail (the signal is ignored by the shell's trap).
    local out = helper.command(([[
      local fs = async.fs
      local ok, e = pcall(fs.write_file, %q, ("x"):rep(100000))
      print(e.code, e.path == %q, fs.read_file(e.path))
    ]]):format(at "f", at "f"), { prefix = { "sh", "-c", "trap '' XFSZ; ulimit -f 10; exec \"$@\"", "sh" } })
    assert.equal("EFBIG\ttrue\told\n", out)
    assert.same({ "f", "folder" }, names(fs.scandir(at())))
  end)

  it("a cancelled atomic write leaves the old file or the new one and nothing else", function()
    fs.write_file(at "f", "old")
    local data = ("new"):rep(1000000)
    for i = 1, 30 do
      local task = async.create_task(fs.write_file, at "f", data)
      for _ = 1, i do
        if task:done() then break end
        async.sleep(0.0003)
      end
      task:cancel()
      async.wait { task }
      local text = fs.read_file(at "f")
      assert.is_true(text == "old" or text == data)
      assert.is_true(helper.eventually(function() return #fs.scandir(at()) == 1 end))
      if text == data then break end
    end
  end)
end)

describe("descriptors", function()
  it("run out with EMFILE, and everything works again afterwards", function()
    local out = helper.command([[
      local fs = async.fs
      local files = {}
      local e
      repeat
        local ok, file = pcall(fs.open, "/dev/null")
        if ok then files[#files + 1] = file else e = file end
      until e
      print(e, #files > 10, pcall(fs.scandir, "/"))
      for _, file in ipairs(files) do file:close() end
      print(#fs.scandir("/") > 0)
    ]], { prefix = { "sh", "-c", "ulimit -n 40; exec \"$@\"", "sh" } })
    assert.equal("OSError: open /dev/null: EMFILE\ttrue\tfalse\tOSError: scandir /: EMFILE\ntrue\n", out)
  end)
end)

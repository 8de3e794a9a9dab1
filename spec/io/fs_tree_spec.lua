-- lunation.fs on whole trees: making, walking, copying, removing them.
local async = require "lunation"
local fs = require "lunation.fs"
local folder = require "spec.support.folder"
local helper = require "spec.helper"

local refuses, turns = helper.refuses, helper.turns
local at = folder.at

local function grow()
  fs.makedirs(at "tree/b/deep")
  fs.makedirs(at "tree/empty")
  fs.write_file(at "tree/a", "a", { mode = 0x1a0, sync = false })
  fs.write_file(at "tree/b/f", ("x"):rep(100000), { sync = false })
  fs.write_file(at "tree/b/deep/g", "g", { sync = false })
  fs.symlink("../a", at "tree/b/link")
  fs.symlink("b", at "tree/c")
  fs.symlink("nowhere", at "tree/broken")
end

-- The walk as text: one line an entry, without the folder's own path.
local function walked(root, opts)
  local list = {}
  for path, entry in fs.walk(root, opts) do
    assert.equal(path:match("[^/]*$"), entry.name)
    list[#list + 1] = ("%s %s %d"):format(path:sub(#root + 2), entry.type, entry.depth)
  end
  return list
end

folder.each(before_each, after_each)

describe("mkdir", function()
  it("with parents, and where something is already", function()
    refuses("OSError", { "mkdir " .. at "a/b", "ENOENT" }, fs.mkdir, at "a/b")
    fs.mkdir(at "a/b/c/", { parents = true, mode = 0x1c0 })
    assert.equal(0x1c0, fs.stat(at "a/b/c").mode)
    assert.are_not.equal(0x1c0, fs.stat(at "a/b").mode)
    assert.equal("EEXIST", refuses("OSError", "mkdir", fs.mkdir, at "a/b", { parents = true }).code)
    fs.mkdir(at "a/b", { exist_ok = true })
    fs.makedirs(at "a/b/c/d/e")
    fs.makedirs(at "a/b/c/d/e")
    fs.write_file(at "f", "")
    assert.equal("EEXIST", refuses("OSError", at "f", fs.makedirs, at "f").code)
    assert.equal("ENOTDIR", refuses("OSError", at "f/g", fs.makedirs, at "f/g").code)
    assert.equal("ENOENT", refuses("OSError", "mkdir", fs.makedirs, "").code)
    fs.makedirs("/")
  end)

  it("many tasks that make the same folders do not disturb each other", function()
    local tasks = {}
    for i = 1, 20 do tasks[i] = async.create_task(fs.makedirs, at "x/y/z/" .. i % 3) end
    async.gather(tasks)
    assert.equal(3, #fs.scandir(at "x/y/z"))
  end)
end)

describe("walk", function()
  before_each(grow)

  it("gives everything, depth first, by name", function()
    assert.same({
      "a file 1", "b directory 1", "b/deep directory 2", "b/deep/g file 3", "b/f file 2", "b/link link 2",
      "broken link 1", "c link 1", "empty directory 1",
    }, walked(at "tree"))
  end)

  it("folders after what is in them", function()
    assert.same({
      "a file 1", "b/deep/g file 3", "b/deep directory 2", "b/f file 2", "b/link link 2", "b directory 1",
      "broken link 1", "c link 1", "empty directory 1",
    }, walked(at "tree", { order = "post" }))
  end)

  it("follows links if asked, but not in circles", function()
    fs.symlink("..", at "tree/b/up")
    assert.same({
      "a file 1", "b directory 1", "b/deep directory 2", "b/deep/g file 3", "b/f file 2", "b/link file 2",
      "b/up directory 2", "broken link 1", "c directory 1", "c/deep directory 2", "c/deep/g file 3", "c/f file 2",
      "c/link file 2", "c/up directory 2", "empty directory 1",
    }, walked(at "tree", { follow = true }))
  end)

  it("passes over what the body skips", function()
    local list = {}
    for path, entry in fs.walk(at "tree") do
      list[#list + 1] = entry.name
      entry.skip = entry.name == "b"
      assert.is_truthy(path)
    end
    assert.same({ "a", "b", "broken", "c", "empty" }, list)
  end)

  it("can be left, and bears folders that go meanwhile", function()
    for _ in fs.walk(at "tree") do break end
    local list = {}
    for _, entry in fs.walk(at "tree") do
      list[#list + 1] = entry.name
      if entry.name == "b" then fs.rmtree(at "tree/b") end
    end
    assert.same({ "a", "b", "broken", "c", "empty" }, list)
  end)

  it("a root that cannot be read is an error, or told", function()
    assert.equal("ENOENT", refuses("OSError", at "no", fs.walk(at "no")).code)
    local told = {}
    local function note(e, path) told[#told + 1] = e.code .. " " .. path end
    assert.same({}, walked(at "tree/a", { on_error = note }))
    assert.same({ "ENOTDIR " .. at "tree/a" }, told)
    assert.is_nil(fs.walk(at "tree/empty")())
    refuses("ValueError", "'up'", fs.walk, at "tree", { order = "up" })
    refuses("TypeError", "follow", fs.walk, at "tree", { follow = 1 })
  end)
end)

describe("copy", function()
  before_each(grow)

  it("of a file keeps bytes, permissions and times", function()
    fs.utime(at "tree/a", 1000, 2000.5)
    fs.copy(at "tree/a", at "copy")
    local st = fs.stat(at "copy")
    assert.equal("a", fs.read_file(at "copy"))
    assert.equal(0x1a0, st.mode)
    assert.equal(2000.5, st.mtime)
    local e = refuses("OSError", "EEXIST", fs.copy, at "tree/b/f", at "copy")
    assert.equal(at "copy", e.dest)
    fs.copy(at "tree/b/f", at "copy", { overwrite = true })
    assert.equal(100000, fs.stat(at "copy").size)
    assert.equal("ENOENT", refuses("OSError", at "no", fs.copy, at "no", at "x").code)
    os.execute("mkfifo " .. at "pipe")
    assert.equal("ENOTSUP", refuses("OSError", "copy " .. at "pipe", fs.copy, at "pipe", at "x").code)
    fs.copy(at "tree/b/link", at "link")
    assert.equal("../a", fs.readlink(at "link"))
  end)

  it("of a file copies all that can be read, whatever its size is said to be", function()
    fs.copy("/proc/version", at "version")
    assert.equal(fs.read_file("/proc/version"), fs.read_file(at "version"))
  end)

  -- Until something of the copy is there, or all. (A virtual clock, by which one could wait, stands still meanwhile.)
  local function until_begun(task)
    while not task:done() and not (fs.exists(at "copy") and fs.stat(at "copy").size > 0) do end
  end

  it("of a file that is cut meanwhile ends", function()
    fs.open(at "big", "w"):truncate(100000000):close()
    local task = async.create_task(fs.copy, at "big", at "copy")
    until_begun(task)
    fs.truncate(at "big", 0)
    async.wait_for(task, 5 * helper.slow)
    assert.is_true(fs.stat(at "copy").size <= 100000000)
  end)

  it("of a big file stops when it is cancelled", function()
    local size = 3000000000
    fs.open(at "big", "w"):truncate(size):close()
    local task = async.create_task(fs.copy, at "big", at "copy")
    until_begun(task)
    if task:done() or fs.stat(at "copy").size == size then return end -- a file system that copies by sharing
    local copy <close> = fs.open(at "copy")
    task:cancel()
    async.wait { task }
    -- It is over, not only given up: nothing of it meets what comes to that place next.
    assert.is_false(fs.exists(at "copy"))
    assert.is_true(copy:stat().size < size)
  end)

  it("of a file onto itself leaves it as it is", function()
    fs.link(at "tree/a", at "other")
    for _, to in ipairs { "tree/a", "other" } do
      fs.copy(at "tree/a", at(to), { overwrite = true })
      assert.equal("a", fs.read_file(at "tree/a"))
    end
  end)

  it("that fails removes what it has made, and nothing else", function()
    fs.symlink("/dev/full", at "full") -- which goes in the place of the device, should anything
    local e = refuses("OSError", "ENOSPC", fs.copy, at "tree/b/f", at "full", { overwrite = true })
    assert.equal("copyfile", e.syscall)
    assert.equal("char", fs.stat(at "full").type)
    -- The limit on the size of files is met; the signal is ignored by the shell's trap.
    fs.open(at "there", "w"):close()
    local out = helper.command(([[
      local fs = async.fs
      for _, name in ipairs { "new", "there" } do
        local ok, e = pcall(fs.copy, %q, %q .. name, { overwrite = true })
        print(e.code, fs.exists(%q .. name))
      end
    ]]):format(at "tree/b/f", at "", at ""),
      { prefix = { "sh", "-c", "trap '' XFSZ; ulimit -f 10; exec \"$@\"", "sh" } })
    assert.equal("EFBIG\tfalse\nEFBIG\ttrue\n", out)
  end)

  it("of a tree keeps everything", function()
    fs.chmod(at "tree/empty", 0x140)
    fs.utime(at "tree/b", 1, 1000)
    fs.utime(at "tree/c", 1, 2000, { follow = false })
    fs.copy(at "tree", at "copy")
    assert.same(walked(at "tree"), walked(at "copy"))
    for path, entry in fs.walk(at "tree") do
      local a, b = fs.lstat(path), fs.lstat(at "copy" .. path:sub(#(at "tree") + 1))
      assert.equal(a.mode, b.mode, entry.name)
      assert.equal(a.mtime, b.mtime, entry.name)
      if entry.type == "file" then assert.equal(a.size, b.size) end
    end
    assert.equal("EEXIST", refuses("OSError", "mkdir", fs.copy, at "tree", at "copy").code)
    fs.write_file(at "tree/b/new", "new")
    fs.write_file(at "copy/own", "own")
    fs.copy(at "tree", at "copy", { overwrite = true })
    assert.equal("new", fs.read_file(at "copy/b/new"))
    assert.equal("own", fs.read_file(at "copy/own"))
  end)

  it("into itself is refused before anything is made", function()
    refuses("ValueError", at "tree", fs.copy, at "tree", at "tree/b/inside")
    refuses("ValueError", at "tree", fs.copy, at "tree", at "tree")
    fs.symlink("tree", at "way")
    refuses("ValueError", at "way", fs.copy, at "tree", at "way/inside")
    fs.symlink("tree/b/deep", at "down")
    refuses("ValueError", at "down", fs.copy, at "tree", at "down", { overwrite = true })
    fs.copy(at "tree", at "tree2")
    fs.copy(at "tree/b/deep", at "tree/b/deep/../../empty", { overwrite = true })
    assert.equal("g", fs.read_file(at "tree/empty/g"))
    assert.is_false(fs.exists(at "tree/inside"))
  end)

  it("can be cancelled anywhere", function()
    for i = 1, 25 do
      local task = async.create_task(fs.copy, at "tree", at("copy" .. i))
      for _ = 1, i do async.sleep(0.0002) end
      task:cancel()
      async.wait { task }
    end
    assert.equal("g", fs.read_file(at "tree/b/deep/g"))
  end)
end)

describe("rmtree", function()
  before_each(grow)

  it("removes everything below, and no link's target", function()
    fs.symlink(at "tree/b", at "way")
    fs.mkdir(at "other")
    fs.symlink("../tree", at "other/tree")
    fs.rmtree(at "other")
    fs.rmtree(at "way")
    assert.equal("g", fs.read_file(at "tree/b/deep/g"))
    fs.rmtree(at "tree/a")
    fs.rmtree(at "tree")
    assert.same({}, fs.scandir(at()))
    assert.equal("ENOENT", refuses("OSError", "rmtree " .. at "tree", fs.rmtree, at "tree").code)
    fs.rmtree(at "tree", { missing_ok = true })
    refuses("TypeError", "missing_ok", fs.rmtree, at "tree", { missing_ok = 1 })
  end)

  it("bears a tree of some depth and width", function()
    local deep = at "tree"
    for i = 1, 100 do deep = deep .. "/" .. i end
    fs.makedirs(deep)
    for i = 1, 300 do fs.open(at("tree/f" .. i), "w"):close() end
    fs.rmtree(at "tree")
    assert.is_false(fs.exists(at "tree"))
  end)

  it("goes on when it is cancelled", function()
    local task = async.create_task(fs.rmtree, at "tree")
    turns()
    task:cancel()
    async.wait { task }
    assert.is_true(helper.eventually(function() return not fs.exists(at "tree") end))
  end)
end)

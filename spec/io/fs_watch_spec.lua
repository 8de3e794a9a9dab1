-- fs.watch: what happens to a file or in a folder, as events.
local async = require "lunation"
local fs = require "lunation.fs"
local folder = require "spec.support.folder"
local helper = require "spec.helper"
local tasks = require "spec.support.tasks"

local refuses, turns, started = helper.refuses, helper.turns, tasks.started
local at = folder.at

folder.each(before_each, after_each)

-- Takes events until one is of this name and kind; the others are dropped.
local function expect(watcher, name, kind)
  for event in watcher:iter() do
    if event.name == name and event.kind == kind then return event end
  end
  error("the watcher was closed")
end

describe("a watcher of a folder", function()
  it("tells what comes, changes and goes #real", function()
    local watcher <close> = fs.watch(at())
    fs.write_file(at "f", "x", { atomic = false })
    assert.same({ kind = "rename", name = "f", path = at "f" }, watcher:next())
    expect(watcher, "f", "change")
    fs.rename(at "f", at "g")
    expect(watcher, "g", "rename")
    fs.unlink(at "g")
    expect(watcher, "g", "rename")
  end)

  it("wakes a task that waits #real", function()
    local watcher <close> = fs.watch(at() .. "/")
    local task = started(watcher.next, watcher)
    assert.is_false(task:done())
    refuses("RuntimeError", "another task", watcher.next, watcher)
    fs.mkdir(at "d")
    local event = async.await(task)
    assert.equal("d", event.name)
    assert.equal(at "d", event.path)
  end)

  it("several watch the same folder #real", function()
    local a <close> = fs.watch(at())
    local b <close> = fs.watch(at())
    fs.mkdir(at "d")
    assert.equal("d", a:next().name)
    assert.equal("d", b:next().name)
    a:close()
    fs.mkdir(at "e")
    assert.equal("e", b:next().name)
    assert.is_nil(a:next())
  end)

  it("keeps a bounded number of events, and says what is lost #real", function()
    local watcher <close> = fs.watch(at())
    for i = 1, 1400 do
      fs.open(at(i % 2 == 0 and "a" or "b"), "w"):close()
      if i % 2 == 0 then
        fs.unlink(at "a")
        fs.unlink(at "b")
      end
    end
    local n, last = 0, nil
    repeat
      last = watcher:next()
      n = n + 1
    until last.kind == "overflow" or n > 1025
    assert.equal("overflow", last.kind)
    assert.is_true(n <= 1025)
    assert.equal(at(), last.path)
    fs.mkdir(at "after")
    expect(watcher, "after", "rename")
  end)
end)

describe("a watcher of a file", function()
  it("tells its changes #real", function()
    fs.write_file(at "f", "x")
    local watcher <close> = fs.watch(at "f")
    fs.write_file(at "f", "y", { append = true })
    local event = watcher:next()
    assert.equal("change", event.kind)
    assert.equal(at "f", event.path)
    fs.unlink(at "f")
    repeat event = watcher:next() until event.kind == "rename"
    assert.equal(at "f", event.path)
  end)
end)

describe("the end of a watcher", function()
  it("is nil for who waits, and ends the loop over it", function()
    local watcher = fs.watch(at())
    assert.equal("<Watcher open " .. at() .. ">", tostring(watcher))
    local n = 0
    local task = started(function()
      for _ in watcher:iter() do n = n + 1 end
    end)
    watcher:close()
    watcher:close()
    async.await(task)
    assert.equal(0, n)
    assert.is_nil(watcher:next())
    assert.equal("<Watcher closed " .. at() .. ">", tostring(watcher))
  end)

  it("a cancel loses no event #real", function()
    local watcher <close> = fs.watch(at())
    for i = 1, 20 do
      local task = async.create_task(watcher.next, watcher)
      turns(i % 4)
      fs.mkdir(at("d" .. i))
      task:cancel()
      async.wait { task }
      local event = task:cancelled() and watcher:next() or task:result()
      assert.equal("d" .. i, event.name)
    end
  end)

  it("comes by the collector, and is told in debug", function()
    local reports = helper.reports(function()
      async.get_running_loop():set_debug(true)
      local _ <close> = async.defer(function() async.get_running_loop():set_debug(false) end)
      fs.watch(at())
      turns()
      collectgarbage()
      turns()
    end)
    assert.equal(1, #reports)
    assert.is_truthy(tostring(reports[1].object):find("<Watcher closed"))
  end)

  it("comes with the loop", function()
    local out = helper.plain([[
      local w
      async.run(function() w = async.fs.watch("/tmp") end)
      print(w)
      async.run(function() print(w:next()) end)
    ]])
    assert.equal("<Watcher closed /tmp>\n\n", out)
  end)
end)

describe("bad watches", function()
  it("are refused", function()
    local e = refuses("OSError", "watch " .. at "no" .. ": ENOENT", fs.watch, at "no")
    assert.equal("ENOENT", e.code)
    assert.equal("watch", e.syscall)
    refuses("ValueError", "recursive", fs.watch, at(), { recursive = true })
    refuses("TypeError", "#2", fs.watch, at(), 1)
    refuses("TypeError", "string expected", fs.watch)
    refuses("ValueError", "NUL", fs.watch, "a\0")
  end)
end)

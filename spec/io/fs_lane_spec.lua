-- Admission to libuv's pool: work on files leaves threads free for others, what waits can be withdrawn, every loop gets
-- on.
--
-- What keeps a thread of the pool: opening a FIFO that nobody writes to. Opening it for writing lets it go.
local async = require "lunation"
local fs = require "lunation.fs"
local net = require "lunation.net"
local command = require "spec.support.command"
local helper = require "spec.helper"

local dir
local function at(name) return dir .. "/" .. name end

-- Keeps a thread until it is let go.
local function blocked() local _ <close> = fs.open(at "pipe") end

local function requests()
  for _, row in ipairs(require "lunation.probe".live()) do
    if row.kind == "request" then return math.tointeger(row.text:match("%d+")) end
  end
  return 0
end

-- For a `<close>` variable: lets all that have opened the FIFO go, on every way out.
local function let_go()
  local path = command.quote(at "pipe")
  return async.defer(function()
    assert(helper.eventually(function()
      os.execute("exec 3<>" .. path) -- opened for both, it waits for nobody, and whoever waits has a writer
      async.sleep(0.002)
      return requests() == 0
    end), "the pool is still blocked")
  end)
end

describe("the lane of files", function()
  before_each(function()
    dir = command.temp_dir()
    os.execute("mkfifo " .. at "pipe")
  end)
  after_each(function() command.remove_dir(dir) end)

  it("a hundred blocked opens do not delay a lookup #real", function()
    local opens = {}
    do
      local _ <close> = let_go()
      for i = 1, 100 do opens[i] = async.create_task(blocked) end
      helper.turns()
      local list = async.wait_for(function() return net.getaddrinfo("localhost") end, 5 * helper.slow)
      assert.is_true(#list > 0)
      assert.is_false(opens[1]:done())
      assert.equal(100, requests())
    end
    async.gather(opens)
  end)

  it("what is cancelled while it waits never starts #real", function()
    local opens, made = {}, {}
    do
      local _ <close> = let_go()
      for i = 1, 40 do opens[i] = async.create_task(blocked) end
      helper.turns()
      for i = 1, 10 do made[i] = async.create_task(fs.mkdir, at("d" .. i)) end
      helper.turns()
      assert.equal(50, requests())
      for i = 1, 9 do made[i]:cancel() end
      async.wait { table.unpack(made, 1, 9) }
      assert.equal(41, requests())
      for _, task in ipairs(opens) do task:cancel() end
      async.wait(opens)
      local left = requests()
      assert.is_true(left > 0 and left < 20, left) -- those that have a thread, and the last mkdir
    end
    async.await(made[10])
    assert.same({ { name = "d10", type = "directory" }, { name = "pipe", type = "fifo" } }, fs.scandir(dir))
  end)

  it("a read that waits is withdrawn, and the file can be used #real", function()
    fs.write_file(at "f", "text")
    local file <close> = fs.open(at "f")
    local _ <close> = let_go()
    local opens = {}
    for i = 1, 40 do opens[i] = async.create_task(blocked) end
    helper.turns()
    local reader = async.create_task(file.read, file, "a")
    helper.turns()
    local before = requests()
    reader:cancel()
    async.wait { reader }
    assert.is_true(reader:cancelled())
    assert.equal(before - 1, requests())
    assert.equal(0, file:seek())
    local other = async.create_task(file.read, file, "a")
    helper.turns()
    file:close()
    async.wait { other }
    assert.equal("ECANCELED", other:exception().code)
    assert.equal(before - 1, requests())
    for _, task in ipairs(opens) do task:cancel() end
    async.wait(opens)
  end)

  it("requests of one loop come in order, however many there are", function()
    local tasks, order = {}, {}
    for i = 1, 200 do
      tasks[i] = async.create_task(function()
        fs.stat("/")
        order[#order + 1] = i
      end)
    end
    async.wait(tasks)
    assert.equal(200, #order)
  end)

  it("files that are open come first, so that a thousand can be asked for at once", function()
    local out = helper.command(([[
      local fs, dir, names = async.fs, %q, {}
      local function of(fn, ...)
        local jobs, more = {}, { ... }
        for i = 1, 1000 do jobs[i] = function() return fn(dir .. "/f" .. i %% 50, table.unpack(more)) end end
        return jobs
      end
      async.gather(of(fs.write_file, "text", { sync = false }))
      local texts = async.gather(of(fs.read_file))
      print(#texts, texts[1], texts[1000], #fs.scandir(dir))
    ]]):format(at ""), { prefix = { "sh", "-c", "ulimit -n 64; exec \"$@\"", "sh" } })
    assert.equal("1000\ttext\ttext\t51\n", out)
  end)

  it("an open gets its turn, however much is done with open files", function()
    fs.write_file(at "f", ("x"):rep(100000))
    local done = false
    local readers = {}
    for i = 1, 40 do
      readers[i] = async.create_task(function()
        local file <close> = fs.open(at "f")
        while not done do
          file:seek("set")
          file:read("a")
        end
      end)
    end
    helper.turns(10)
    for _ = 1, 5 do fs.open(at "f"):close() end
    done = true
    async.gather(readers)
  end)

  it("ends with its loop, whatever waits #real", function()
    local out = helper.plain(([[
      local fs, path = async.fs, %q
      async.run(function()
        for i = 1, 50 do async.create_task(fs.open, path) end
        turns()
        async.create_task(function()
          local file = fs.open(path) -- waits behind all of them
        end)
        turns()
        -- The blocked ones have to be let go before the loop can close; that is done from outside.
        os.execute("(sleep 0.1; exec 3<>" .. path .. "; sleep 0.2) >/dev/null 2>&1 &")
      end)
      print "closed"
    ]]):format(at "pipe"))
    assert.equal("closed\n", out)
  end)
end)

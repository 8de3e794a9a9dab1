-- A process with 64 descriptors that needs more: clear errors, nothing lost, nothing left, no spinning, and all is well
-- again as soon as there are some. Programs of their own, since the limit is the process's.
local helper = require "spec.helper"

-- What the programs share: `fill()` takes all descriptors but `n` and gives a function that gives them back; `denied(fn)`
-- is the OSError EMFILE that fn() must throw; `count()` is the number of descriptors.
local PRELUDE = [[
  local fs, net, process = async.fs, async.net, async.process
  local loop = async.get_running_loop()
  local held = {}
  local function fill(n)
    while true do
      local file = io.open("/dev/null")
      if not file then break end
      held[#held + 1] = file
    end
    for _ = 1, n or 0 do table.remove(held):close() end
  end
  local function empty()
    while #held > 0 do table.remove(held):close() end
  end
  local function denied(what, fn, ...)
    local e = thrown(fn, ...)
    eq("OSError", type(e) == "table" and e.name or tostring(e), what)
    eq("EMFILE", e.code, what)
    assert(e.message:find(": EMFILE", 1, true), e.message)
    return e
  end
  local function count()
    local n = 0
    for _ in ipairs(fs.scandir("/proc/self/fd")) do n = n + 1 end
    return n
  end
  local function steady(what, before)
    local after
    assert(h.eventually(function()
      collectgarbage()
      after = count()
      return after <= before
    end, 2), what .. ": descriptors are left")
    eq(0, loop:stats().requests, what)
  end
]]

local function program(text)
  local out, err, code = helper.command(PRELUDE .. text, {
    prefix = { "bash", "-c", 'ulimit -n 64; exec "$0" "$@"' }, limit = 60 * helper.slow,
  })
  assert.equal("", err)
  assert.equal(0, code)
  return out
end

describe("64 descriptors, all taken #real", function()
  it("are an EMFILE of whatever opens one, which names what it was, and nothing is left of it", function()
    program [[
      local server = net.listen("127.0.0.1", 0)
      local port = server:address().port
      local folder <close> = fs.mkdtemp()
      local unix = net.listen_unix(folder.path .. "/unix")
      local cases = {
        { "open /dev/null", fs.open, "/dev/null" },
        { "open /dev/null", fs.read_file, "/dev/null" },
        { "scandir /", fs.scandir, "/" },
        { "open ", fs.write_file, folder.path .. "/x", "text" },
        { "connect 127.0.0.1:" .. port, net.connect, "127.0.0.1", port },
        { "connect_unix ", net.connect_unix, folder.path .. "/unix" },
        { "socket 127.0.0.1:0", net.listen, "127.0.0.1", 0 },
        { "", net.listen_unix, folder.path .. "/other" },
        { "udp socket", net.udp, { host = "127.0.0.1" } },
        { "pipe", process.pipe },
        { "", process.spawn, "true" },
        { "", process.spawn, "true", {}, { stdin = "null", stdout = "pipe", stderr = "pipe" } },
        { "", process.run, "true" },
      }
      for i, case in ipairs(cases) do pcall(table.unpack(case, 2)) end -- whatever is made once is there
      collectgarbage()
      async.sleep(0.05)
      local before = count()
      for round = 1, 3 do
        for _, free in ipairs { 0, 1, 2, 3, 4, 5, 6, 7, 8, 12 } do
          for i, case in ipairs(cases) do
            fill(free)
            local ok, e = pcall(table.unpack(case, 2))
            empty()
            local what = ("case %d, %s, with %d free"):format(i, case[1], free)
            if ok then
              if type(e) == "userdata" or type(e) == "table" and e.close then e:close() end
              if free == 0 then error(what .. ": it needs none") end
            else
              assert(async.isinstance(e, async.OSError), what .. ": " .. tostring(e))
              eq("EMFILE", e.code, what)
              assert(e.message:find("EMFILE", 1, true) and e.message:find(case[1], 1, true), what .. ": " .. e.message)
            end
            case.once = case.once or ok
            e = nil
            steady(what, before)
          end
        end
      end
      for i, case in ipairs(cases) do assert(case.once, "case " .. i .. " has never worked") end
      server:close()
      unix:close()
    ]]
  end)

  it("free again, everything works at once", function()
    program [[
      local server = net.listen("127.0.0.1", 0)
      local port = server:address().port
      fill()
      for _ = 1, 20 do
        denied("open", fs.open, "/dev/null")
        denied("connect", net.connect, "127.0.0.1", port)
        denied("spawn", process.spawn, "true")
      end
      empty()
      fs.open("/dev/null"):close()
      net.connect("127.0.0.1", port):close()
      server:accept():close()
      eq(0, process.run("true").code)
      server:close()
    ]]
  end)

  it("cost a server no processor; its clients wait, and are served within a second once there are some", function()
    local out = program [[
      local reports = {}
      loop:set_exception_handler(function(_, context) reports[#reports + 1] = context end)
      local folder <close> = fs.mkdtemp()
      local _ <close> = async.defer(empty)
      for _, listen in ipairs {
        function() return net.listen("127.0.0.1", 0) end,
        function() return net.listen_unix(folder.path .. "/unix") end,
      } do
        local server = listen()
        local address = server:address()
        local function connect()
          if address.path then return net.connect_unix(address.path) end
          return net.connect("127.0.0.1", address.port)
        end
        local clients = {}
        while #clients < 10 do clients[#clients + 1] = connect() end -- the system's queue takes them
        fill()
        local task = async.create_task(server.serve, server, function(s) s:write(s:read("l"), "\n") end)
        local busy, began, told = os.clock(), loop:time(), #reports
        async.sleep(1.05)
        local seconds = loop:time() - began
        local cpu = (os.clock() - busy) / seconds
        assert(cpu < 0.05 * h.slow, "it costs " .. cpu)
        assert(#reports - told >= 1 and #reports - told <= 2 + seconds, #reports - told .. " reports")
        eq("EMFILE", reports[#reports].exception.code)
        eq(server, reports[#reports].server)
        empty()
        local freed = loop:time()
        async.map(clients, function(client, i)
          client:write(i, "\n")
          eq(i, client:read("n"))
          client:close()
        end)
        assert(loop:time() - freed < 1 * h.slow, "late")
        task:cancel()
        async.wait { task }
        server:close()
        steady("server", count())
      end
      print "served"
    ]]
    assert.equal("served\n", out)
  end)

  it("are given back by what is closed while others wait for them", function()
    program [[
      local server = net.listen("127.0.0.1", 0)
      local port = server:address().port
      local streams = {}
      local e
      repeat
        local ok, stream = pcall(net.connect, "127.0.0.1", port)
        if ok then streams[#streams + 1] = stream else e = stream end
      until not ok
      eq("EMFILE", e.code)
      assert(#streams > 20)
      for i = 1, #streams do streams[i]:close() end
      async.sleep(0)
      for i = 1, #streams do streams[i] = net.connect("127.0.0.1", port) streams[i]:close() end
      server:close()
    ]]
  end)
end)

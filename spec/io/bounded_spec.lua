-- What a stream holds on to: a reader that has stalled costs the writer its high-water mark and one write, a writer that
-- nobody reads from costs the reader one chunk, and an idle connection costs next to nothing.
local async = require "lunation"
local net = async.net
local helper = require "spec.helper"
local probe = require "lunation.probe"
local sockets = require "spec.support.sockets"

local HIGH, CHUNK, SLACK = 65536, 65536, 8192
local with_pair = sockets.with_pair

local function bytes() return async.get_running_loop():stats().bytes end

-- Runs writers.write(i) until it waits for long; the most bytes that the loop has had meanwhile, over what it had
-- before, and how often it wrote.
local function stalled(write)
  local before, most, times = bytes(), 0, 0
  local writer = async.create_task(function()
    while true do
      write()
      times = times + 1
      most = math.max(most, bytes() - before)
    end
  end)
  local last
  repeat
    last = times
    async.sleep(0.02)
    most = math.max(most, bytes() - before)
  until times == last
  writer:cancel()
  async.wait { writer }
  return most, times
end

describe("a stalled reader", function()
  for _, size in ipairs { 10, 1000, 60000, 300000 } do
    it(("costs the writer the mark and one write of %d bytes #real #nosweep"):format(size), function()
      with_pair(function(client)
        local text = ("x"):rep(size)
        local most, times = stalled(function() client:write(text) end)
        assert.is_true(times > 0)
        assert.is_true(most <= HIGH + size + SLACK, ("%d bytes held"):format(most))
        assert.is_true(most >= HIGH / 2, ("%d bytes held: it never waited"):format(most))
      end)
    end)
  end

  it("costs a copy no more #real #nosweep", function()
    with_pair(function(front, back)
      with_pair(function(far)
        local copy = async.create_task(back.copy_to, back, far)
        local text = ("x"):rep(60000)
        local most = stalled(function() front:write(text) end)
        -- Two queues and what the copy has read.
        assert.is_true(most <= 2 * (HIGH + CHUNK) + CHUNK + SLACK, ("%d bytes held"):format(most))
        copy:cancel()
        async.wait { copy }
      end)
    end)
  end)
end)

describe("a reader that stops asking", function()
  it("has read one chunk at most #real", function()
    with_pair(function(client, peer)
      local text = ("x"):rep(300000)
      local writer = async.create_task(client.write, client, text)
      assert.equal("x", peer:read(1))
      async.sleep(0.02)
      local held = bytes()
      async.sleep(0.02)
      assert.is_true(bytes() <= held)
      assert.equal(299999, #peer:read(299999))
      async.await(writer)
    end)
  end)

  it("gives back what it has not used #real", function()
    local before = bytes()
    with_pair(function(client, peer)
      local list = {}
      for i = 1, 20 do
        list[i] = async.create_task(function()
          with_pair(function(one, other)
            one:write("abc")
            assert.equal("a", other:read(1))
            async.sleep(0.02)
          end)
        end)
      end
      client:write("abc")
      assert.equal("a", peer:read(1))
      async.sleep(0.01)
      -- Forty-two connections with two bytes at hand in half of them, not forty-two chunks.
      assert.is_true(bytes() - before < 9 * CHUNK + 42 * 4096, bytes() - before)
      async.gather(list)
    end)
  end)
end)

describe("idle connections", function()
  it("cost no buffer, whatever has passed through them #real", function()
    local server <close> = net.listen("127.0.0.1", 0)
    local n, clients, serving = helper.scaled(100, 20), {}, nil
    serving = async.create_task(function()
      server:serve(function(stream)
        while true do
          local data = stream:read_some()
          if not data then return end
          stream:write(data)
        end
      end)
    end)
    local before = bytes()
    for i = 1, n do clients[i] = net.connect("127.0.0.1", server:address().port) end
    for _, c in ipairs(clients) do c:write(("x"):rep(3000)) end
    for _, c in ipairs(clients) do assert.equal(3000, #c:read(3000)) end
    async.sleep(0.02)
    local each = (bytes() - before - 10 * CHUNK) / n
    assert.is_true(each < 2 * 1000, ("%.0f bytes each"):format(each))
    for _, c in ipairs(clients) do c:close() end
    serving:cancel()
    async.wait { serving }
  end)
end)

describe("short writes", function()
  it("are bounded, too #real #nosweep", function()
    with_pair(function(client)
      local _ <close> = async.defer(function() probe.short_io() end)
      probe.short_io(1000)
      local text = ("x"):rep(5000)
      local most = stalled(function() client:write(text) end)
      assert.is_true(most <= HIGH + 5000 + SLACK, ("%d bytes held"):format(most))
    end)
  end)
end)

describe("high_water", function()
  it("is where a writer begins to wait #real #nosweep", function()
    local list = {}
    for _, high in ipairs { 0, 500000 } do
      with_pair(function(client, peer)
        local text = ("x"):rep(10000)
        for _, stream in ipairs { client, peer } do
          local most = stalled(function() stream:write(text) end)
          assert.is_true(most <= high + 10000 + SLACK, ("%d bytes held"):format(most))
          list[#list + 1] = most
        end
      end, { high_water = high })
    end
    assert.is_true(list[3] > 400000 and list[4] > 400000)
  end)

  it("is a number of bytes", function()
    for _, bad in ipairs { -1, 1.5, "x" } do
      assert.is_false(pcall(net.listen, "127.0.0.1", 0, { high_water = bad }))
    end
  end)
end)

-- What users of the runtime test: tasks, groups, timeouts, queues, and a server whose connections live between hooks.
local async = require "lunation"
local net = require "lunation.net"
local testing = require "lunation.testing"

describe("tasks", function()
  it("run side by side", function()
    local loop = async.get_running_loop()
    local ends = loop:time() + 0.02
    local function nap() async.sleep(0.02) end
    async.gather { nap, nap, nap }
    assert.is_true(loop:time() > ends - 1e-6 and loop:time() < ends + 5)
  end)

  it("are cancelled, and clean up", function()
    local cleaned, started = false, async.Event()
    local task = async.create_task(function()
      started:set()
      local _ <close> = async.defer(function()
        async.sleep(0.0005)
        cleaned = true
      end)
      async.sleep(100)
    end)
    started:wait()
    task:cancel "enough"
    async.wait { task }
    assert.is_true(task:cancelled())
    assert.is_true(cleaned)
  end)

  it("are limited", function()
    assert.error_matches(function()
      local _ <close> = async.timeout(0.001)
      async.sleep(100)
    end, "TimeoutError")
  end)

  it("form groups", function()
    local ended = {}
    local ok, e = pcall(function()
      local tg <close> = async.TaskGroup()
      tg:create_task(function()
        local _ <close> = async.defer(function() ended[#ended + 1] = "first" end)
        async.sleep(100)
      end)
      tg:create_task(function()
        async.sleep(0.0005)
        error "second"
      end)
    end)
    assert.is_false(ok)
    assert.equal("ExceptionGroup", e.name)
    assert.same({ "first" }, ended)
  end)

  it("hand over items", function()
    local queue, sum = async.Queue(2), 0
    async.gather {
      function()
        for i = 1, 20 do queue:put(i) end
        queue:shutdown()
      end,
      function() for item in queue:iter() do sum = sum + item end end,
    }
    assert.equal(210, sum)
  end)
end)

describe("a pair of streams", function()
  local near, far, echo

  setup(function() near, far = testing.stream_pair { max_read = 3 } end)

  teardown(function()
    near:close()
    assert.is_nil(far:read "l")
    far:close()
  end)

  before_each(function()
    near:write "from a hook\n"
    echo = async.create_task(function()
      for line in far:lines "L" do
        far:write(line)
        if line:find "test" then break end
      end
    end)
  end)
  after_each(function() async.await(echo) end)

  for i = 1, 2 do
    it("carries what hook and test write, time " .. i, function()
      near:write "from the test\n"
      assert.equal("from a hook", near:read "l")
      assert.equal("from the test", near:read "l")
    end)
  end
end)

describe("a server", function()
  local server, serving, client

  lazy_setup(function()
    server = net.listen("127.0.0.1", 0)
    serving = async.create_task(function()
      server:serve(function(stream)
        for line in stream:lines() do stream:write(line:upper(), "\n") end
      end)
    end)
  end)

  lazy_teardown(function()
    serving:cancel()
    async.wait { serving }
    server:close()
  end)

  before_each(function() client = net.connect("127.0.0.1", server:address().port) end)
  after_each(function() client:close() end)

  for _, word in ipairs { "one", "two", "three" } do
    it("answers " .. word, function()
      client:write(word, "\n")
      assert.equal(word:upper(), client:read "l")
    end)
  end

  it("answers several at once", function()
    local function ask(word)
      local other <close> = net.connect("127.0.0.1", server:address().port)
      other:write(word, "\n")
      return other:read "l"
    end
    assert.same({ "A", "B", "C", n = 3 }, async.map({ "a", "b", "c" }, ask))
  end)
end)

-- What closers and finalisers must not get at while something is being closed. Each in a process of its own.
local helper = require "spec.helper"

local plain = helper.plain

describe("while something is closed", function()
  it("a closer cannot close the loop again, nor run it", function()
    plain [[
      local runner, said = nil, {}
      runner = async.Runner { shutdown_grace = 0, exception_handler = function() end }
      local loop = runner:get_loop()
      local function closer()
        loop:close()
        runner:close()
        said[#said + 1] = select(2, pcall(loop.run_until_complete, loop, function() end)).message
        said[#said + 1] = select(2, pcall(loop.run_forever, loop)).message
      end
      runner:run(function()
        for _ = 1, 3 do
          async.create_task(function()
            local _ <close> = setmetatable({}, { __close = closer })
            while true do pcall(async.sleep, 10) end
          end)
        end
        async.sleep(0)
      end)
      runner:close()
      eq(true, loop:is_closed())
      eq(6, #said)
      for _, text in ipairs(said) do eq("Event loop is closing", text) end
    ]]
  end)

  it("a task whose coroutine is closed from outside still knows what it waits for", function()
    plain [[
      local function waits(task)
        turns(2)
        coroutine.close(task:get_coro())
        for _ = 1, 3 do collectgarbage() end
        local fill = {}
        for i = 1, 200 do fill[i] = async.Future() end
        task:cancel()
        refuses("RuntimeError", "closed from outside", async.await, task)
      end
      async.run(function()
        -- nobody had its coroutine when it began to wait
        waits(async.create_task(function() async.gather { function() async.sleep(1) end } end))
        waits(async.create_task(function() async.await(async.Future()) end))
        -- the stock yield waits for a future, too
        waits(async.create_task(function()
          async.current_task():get_coro()
          coroutine.yield(async.Future())
        end))
        waits(async.create_task(function() coroutine.yield(async.Future()) end))
      end)
    ]]
  end)

  it("a finaliser that closes the server in the middle of an accept ends the accept", function()
    plain [[
      local net = async.net
      collectgarbage("incremental", 1, 1000, 1)
      async.run(function()
        for n = 0, 30 do
          local server = net.listen("127.0.0.1", 0)
          local client = net.connect("127.0.0.1", server:address().port)
          async.sleep(0.001)
          local left = n
          local function bomb()
            if left <= 0 then server:close() return end
            left = left - 1
            setmetatable({}, { __gc = bomb })
          end
          setmetatable({}, { __gc = bomb })
          local ok, stream = pcall(server.accept, server)
          if ok then
            async.sleep(0)
            pcall(async.wait_for, function() stream:read_some() end, 0.001)
            stream:close()
          else
            eq("ECANCELED", stream.code == "EBADF" and "ECANCELED" or stream.code)
          end
          client:close()
          server:close()
        end
      end)
    ]]
  end)

  it("a connection that was made and not taken goes with its loop", function()
    plain [[
      local net = async.net
      for _ = 1, 5 do
        local runner = async.Runner { shutdown_grace = 0, exception_handler = function() end }
        runner:run(function()
          local server = net.listen("127.0.0.1", 0)
          local port = server:address().port
          for _ = 1, 10 do
            async.create_task(function() KEEP = { net.connect("127.0.0.1", port) } end)
            async.create_task(function()
              local stream <close> = net.connect("127.0.0.1", port)
              stream:write(("x"):rep(3000000))
            end)
          end
          async.sleep(0)
        end)
        runner:get_loop():close()
      end
    ]]
  end)
end)

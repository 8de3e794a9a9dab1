-- Things that tests of pure Lua do to their interpreter: coroutines, collections, hooks, output, environment, arg.
describe("the language", function()
  it("has coroutines", function()
    local co = coroutine.create(function(a)
      local b = coroutine.yield(a + 1)
      error { b = b }
    end)
    assert.same({ true, 2 }, { coroutine.resume(co, 1) })
    assert.same({ false, { b = 5 } }, { coroutine.resume(co, 5) })
    assert.equal("dead", coroutine.status(co))
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
    assert.is_true(coroutine.isyieldable(coroutine.create(print)))
    assert.is_false(select(2, coroutine.running()) and select(2, coroutine.running()) ~= true)
  end)

  it("has close", function()
    local closed = {}
    do
      local a <close> = setmetatable({}, { __close = function() closed[#closed + 1] = "a" end })
      local b <close> = setmetatable({}, { __close = function() closed[#closed + 1] = "b" end })
    end
    local co = coroutine.wrap(function()
      local _ <close> = setmetatable({}, { __close = function(_, e) closed[#closed + 1] = tostring(e) end })
      error("out", 0)
    end)
    assert.has_error(co, "out")
    assert.same({ "b", "a", "out" }, closed)
  end)

  it("collects", function()
    local weak = setmetatable({ {} }, { __mode = "v" })
    collectgarbage()
    assert.is_nil(weak[1])
    assert.is_number(collectgarbage "count")
  end)

  it("sorts, substitutes and finds itself", function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b) return a > b end)
    assert.same({ 3, 2, 1 }, list)
    assert.equal("<a><b>", (("ab"):gsub(".", function(c) return "<" .. c .. ">" end)))
    assert.matches("language_suite%.lua$", debug.getinfo(1, "S").source)
  end)

  it("has hooks and tracebacks", function()
    local count = 0
    debug.sethook(function() count = count + 1 end, "l")
    local x = 1
    x = x + 1
    debug.sethook()
    assert.is_true(count >= 2 and x == 2)
    assert.matches("language_suite", (debug.traceback("message", 1):match "^message\nstack traceback:\n%s*([^\n]*)"))
  end)

  it("writes", function()
    io.write("# io.write ", 1, " ", 2.5, "\n")
    io.stdout:write("# io.stdout\n")
    io.stderr:write("# io.stderr\n")
    print("# print", nil, true)
  end)

  it("has arg and the environment", function()
    assert.is_table(arg)
    assert.equal("function", type(os.getenv))
    print("# arg[0]: " .. tostring(arg[0]):match "[^/]*$")
  end)

  it("recurses deeply", function()
    local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
    assert.equal(1000, deep(1000))
  end)

  it("keeps xpcall's handlers", function()
    local ok, text = xpcall(function() local x = nil; return x.field end, function(e) return "handled: " .. e end)
    assert.is_false(ok)
    assert.matches("^handled: .*attempt to index a nil value %(local 'x'%)$", text)
  end)

  it("loads", function()
    assert.equal(3, load "return 1 + 2"())
    assert.same({ nil, '[string "x ="]:1: unexpected symbol near <eof>' }, { load "x =" })
    assert.has_error(function() require "words.nothing" end)
  end)
end)

describe("many", function()
  for i = 1, 120 do
    it("test " .. i .. (i % 10 == 0 and " #ten" or ""), function() assert.equal(i, i) end)
  end
end)

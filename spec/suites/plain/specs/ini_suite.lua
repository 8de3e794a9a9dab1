-- The ini parser: setup and teardown with a file, fixtures, table errors, expose and insulate.
local ini = require "words.ini"

describe("ini", function()
  local path

  setup(function()
    path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write("top = 1\n; comment\n[a]\nx = 1.5\ny = true\nname = \"q r\"\n\n[b]\n# no keys\n")
    file:close()
  end)

  teardown(function() assert(os.remove(path)) end)

  it("loads #fast", function()
    assert.same({ [""] = { top = 1 }, a = { x = 1.5, y = true, name = "q r" }, b = {} }, ini.load(path))
  end)

  it("says what it cannot load", function()
    local sections, e = ini.load "/nowhere/at/all.ini"
    assert.is_nil(sections)
    assert.matches("No such file", e, nil, true)
  end)

  it("throws tables", function()
    assert.has_error(function() ini.parse "a = 1\nwhat" end, { line = 2, text = "what", message = "not a pair" })
  end)

  it("goes round", function()
    local text = "k = v\n[s]\na = 1\nb = false\n"
    assert.equal(text, ini.format(ini.parse(text)))
    assert.message("the second time").equal(text, ini.format(ini.parse(ini.format(ini.parse(text)))))
  end)

  it("closes its file", function()
    local file = mock { read = function() return "x = 1" end, close = function() end }
    local open = spy.new(function() return file end)
    assert.same({ [""] = { x = 1 } }, ini.load("p", function(...) return open(...) end))
    assert.spy(open).was.called_with("p", "r")
    assert.spy(file.close).was.called_with(match.is_ref(file))
  end)
end)

insulate("insulated", function()
  _G.INSULATED = "inside"
  package.loaded["words.fake"] = { fake = true }

  it("sees its own globals", function()
    assert.equal("inside", INSULATED)
    assert.is_true(require "words.fake".fake)
    assert.equal(_G.INSULATED, INSULATED)
  end)

  it("may replace print", function()
    local real, said = print, {}
    _G.print = function(...) said[#said + 1] = table.concat({ ... }, " ") end
    print("to", "nobody")
    _G.print = real
    assert.same({ "to nobody" }, said)
  end)
end)

describe("after insulate", function()
  it("the globals are gone", function()
    assert.is_nil(rawget(_G, "INSULATED"))
    assert.is_nil(package.loaded["words.fake"])
  end)
end)

expose("exposed", function()
  EXPOSED = "environment"
  _G.EXPOSED_GLOBAL = "global"
  it("sees itself", function() assert.equal("environment", EXPOSED) end)
end)

describe("after expose", function()
  it("the names are still there", function()
    assert.equal("environment", EXPOSED)
    assert.equal("global", EXPOSED_GLOBAL)
  end)

  it("changes of the environment are the block's", function()
    EXPOSED = "changed"
    assert.equal("changed", EXPOSED)
    assert.is_nil(rawget(_G, "EXPOSED"))
  end)
end)

describe("fixtures", function()
  local fixtures = require "busted.fixtures"

  it("are found beside the suite", function()
    assert.matches("^%-%- The ini parser", (fixtures.read "ini_suite.lua"))
    assert.matches("lib/words$", fixtures.path "../lib/words")
    assert.is_function(fixtures.load("../lib/words/ini.lua").parse)
  end)
end)

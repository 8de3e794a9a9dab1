-- The tokenizer: plain describe, it, before_each, errors and tables of cases.
local tokenizer = require "words.tokenizer"

describe("tokenizer", function()
  local function kinds(text)
    local out = {}
    for token in tokenizer.each(text) do out[#out + 1] = token.kind .. ":" .. tostring(token.value) end
    return table.concat(out, " ")
  end

  describe("reads #fast", function()
    local cases = {
      { "x", "name:x" },
      { "x1 _y", "name:x1 name:_y" },
      { "12 3.5", "number:12 number:3.5" },
      { 'a = "b c"', "name:a operator:= string:b c" },
      { "a==b~=c<=d>=e..f", "name:a operator:== name:b operator:~= name:c operator:<= name:d operator:>= "
        .. "name:e operator:.. name:f" },
      { "f(x, #y);", "name:f operator:( name:x operator:, operator:# name:y operator:) operator:;" },
      { "  \n\t", "" },
    }
    for number, case in ipairs(cases) do
      it(("case %d: %s"):format(number, case[1]:gsub("%s", " ")), function()
        assert.equal(case[2], kinds(case[1]))
      end)
    end
  end)

  describe("strings", function()
    it("know escapes", function() assert.same("a\"b\\c\nd\t", tokenizer.next([["a\"b\\c\nd\t"]]).value) end)

    it("must end", function()
      assert.has_error(function() tokenizer.list 'x "abc' end, "unfinished string at 3")
      assert.has.errors(function() tokenizer.list '"' end)
      assert.error_matches(function() tokenizer.list [["\q"]] end, "bad escape at %d+")
    end)
  end)

  it("names what it does not know", function()
    local ok, e = pcall(tokenizer.next, "a ? b", 3)
    assert.is_false(ok)
    assert.matches("unexpected character \"%?\" at 3", e)
  end)

  context("as an iterator", function()
    it("ends", function()
      local each = tokenizer.each "a"
      assert.is_table(each())
      assert.is_nil(each())
      assert.has_error(each)
    end)

    it("may be left early", function()
      for token in tokenizer.each "a b c" do
        if token.value == "b" then break end
      end
    end)

    it("nests", function()
      local pairs_seen = {}
      for a in tokenizer.each "a b" do
        for b in tokenizer.each "1 2" do pairs_seen[#pairs_seen + 1] = a.value .. tostring(b.value) end
      end
      assert.same({ "a1", "a2", "b1", "b2" }, pairs_seen)
    end)
  end)
end)

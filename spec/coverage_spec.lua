-- scripts/tools/coverage.lua on a small core of its own: what it counts, and everything that it must not let pass.
local command = require "spec.support.command"

local SOURCE = [[
#define LUN_ASSERT(x) ((x) ? (void)0 : broken())
static void broken(void)
{
    __builtin_trap();
}
int lun_sign(int n)
{
    LUN_ASSERT(n < 1000);
    if (n < 0)
        return -1;
    if (n > 0 && n < 500)
        return 1;
    return 0;
}
]]

describe("the coverage tool", function()
  local root

  local function sh(line)
    local ok = os.execute("cd " .. command.quote(root) .. " && { " .. line .. "; } >log 2>&1")
    assert(ok, command.slurp(root .. "/log"))
  end

  -- Builds a program that calls lun_sign with these numbers, and runs it.
  local function cover(...)
    local calls = {}
    for i, n in ipairs { ... } do calls[i] = ("lun_sign(%d);"):format(n) end
    command.write_file(root .. "/main.c", "int lun_sign(int n); int main(void) { " .. table.concat(calls, " ")
      .. " return 0; }\n")
    sh "rm -f build/CMakeFiles/core_objects.dir/core/sign.c.gcda"
    sh "cc --coverage -O0 -c \"$PWD/core/sign.c\" -o build/CMakeFiles/core_objects.dir/core/sign.c.o"
    sh "cc --coverage main.c build/CMakeFiles/core_objects.dir/core/sign.c.o -o main && ./main"
  end

  -- What the tool prints, and whether it is content.
  local function judge(reasons, ...)
    command.write_file(root .. "/spec/coverage.txt", reasons or "# none\n")
    local stdout, stderr, code = command.run { "lua5.4", root .. "/scripts/tools/coverage.lua", root .. "/build", ... }
    return stdout .. stderr, code
  end

  before_each(function()
    root = command.temp_dir()
    sh "mkdir -p core spec scripts/tools build/CMakeFiles/core_objects.dir/core"
    command.write_file(root .. "/core/sign.c", SOURCE)
    command.write_file(root .. "/scripts/tools/coverage.lua", command.slurp "scripts/tools/coverage.lua")
  end)

  after_each(function() command.remove_dir(root) end)

  it("counts lines and branches", function()
    cover(-1, 1, 0, 600)
    local text, code = judge()
    assert.matches("core/sign%.c +9 +7 +77%.8 +8 +7 +87%.5\n", text)
    -- `broken` is the failing arm; on a line of its own it is as uncovered as any.
    assert.matches("missing: 77%.78 %% of the lines", text)
    assert.matches("coverage: 9 points, 1 failures\n$", text)
    assert.equal(1, code)
  end)

  describe("with all lines covered", function()
    before_each(function()
      local source = SOURCE:gsub("static void broken.-\n}\n", "#define broken __builtin_trap\n")
      command.write_file(root .. "/core/sign.c", source)
    end)

    it("is content when every branch was taken", function()
      cover(-1, 1, 0, 600)
      local text, code = judge()
      assert.equal(0, code, text)
      assert.matches("coverage: 7 points, 0 failures\n$", text)
    end)

    it("names a branch that was not taken", function()
      cover(-1, 1, 0)
      local text, code = judge()
      assert.equal(1, code)
      assert.matches("missing: core/sign%.c:%d+: lun_sign: 1 of 4 branches are not taken, .*: if %(n > 0 && n < 500%)\n",
        text)
      assert.matches("1 failures\n$", text)
      assert.matches("core/sign%.c:%d+: lun_sign: 1 of 4: if", (judge(nil, "--uncovered", "sign")))
      assert.is_nil((judge(nil, "--uncovered", "other")):find("lun_sign: 1 of 4: if", 1, true))
    end)

    it("takes a reason that fits, and no other", function()
      cover(-1, 1, 0)
      local entry = "core/sign.c lun_sign\n  1 of 4: if (n > 0 && n < 500)\n"
      local text, code = judge(entry .. "    Nobody has so much.\n")
      assert.equal(0, code, text)
      assert.matches("1 branches of core not taken, each with a reason", text)
      for wrong, says in pairs {
        [entry] = "no reason is given",
        [entry:gsub("1 of", "2 of") .. "    Why.\n"] = "the reason is for 2 of 4 branches, uncovered are 1 of 4",
        [entry:gsub("lun_sign", "lun_other") .. "    Why.\n"] = "no such branch is uncovered",
        [entry .. "    Why.\n  1 of 2: if (n < 0)\n    Why.\n"] = "no such branch is uncovered (any more): if (n < 0)",
        [entry .. "    Why.\n  1 of 4: if (n > 0 && n < 500)\n    Why.\n"] = "no such branch is uncovered",
      } do
        text, code = judge(wrong)
        assert.equal(1, code, text)
        assert.is_truthy(text:find(says, 1, true), text)
      end
      for _, wrong in ipairs { "core/sign.c\n", entry:gsub("1 of 4: ", ""), "    A reason.\n" } do
        text, code = judge(wrong)
        assert.equal(2, code, text)
      end
    end)

    it("refuses counts of another source, and no counts at all", function()
      cover(-1, 1, 0, 600)
      assert.equal(0, select(2, judge(nil, "--reset")))
      local text, code = judge()
      assert.equal(1, code)
      assert.matches("0%.00 %% of the lines", text)
      cover(-1, 1, 0, 600)
      sh "touch -d '1 hour' core/sign.c"
      text, code = judge()
      assert.equal(2, code, text)
      assert.matches("build again", text)
      sh "rm -r build/CMakeFiles"
      text, code = judge()
      assert.equal(2, code, text)
      assert.matches("no build with LUNATION_COVERAGE", text)
    end)
  end)
end)

-- The proof by a hostile collector: in the chaos build, which collects at every await, also at every few instructions
-- of the Lua machine. Whatever is only borrowed, or held a moment too late, is gone then.
--
--   lua5.4 spec/proofs/hostile.lua [FILE]...      from the repository's root; LUNATION, LUNATION_MODULE: a chaos build
--
-- The conformance programs, where they are at hand, the examples, and the specs (or only the FILEs). LUNATION_LONG=1:
-- also the specs of the tools, and more often. The seed, LUNATION_CHAOS_SEED, draws how many instructions pass each
-- time.
package.path = "./?.lua;" .. package.path
local proof = require "spec.support.proof"
local command = require "spec.support.command"

local long = os.getenv "LUNATION_LONG" == "1"
local seed = math.tointeger(tonumber(os.getenv "LUNATION_CHAOS_SEED")) or (long and os.time() // 3600 or 1)
local OFTEN, SELDOM = 7, long and 20 or 200
local LIMIT = long and 3600 or 300

local p = proof.new("hostile collector", seed, {
  LUNATION_CHAOS_SEED = seed, LUNATION_CHAOS_EVERY = OFTEN, LUNATION_SLOW = 100,
})

-- The collector must be there: a value that is only weakly held is gone after a few instructions.
p:program("the collector", {
  command.lunation, "-e", [[local w = setmetatable({ {} }, { __mode = "v" })
    for _ = 1, 100 do end
    os.exit(w[1] == nil and 0 or 1)]],
})

local function conformance()
  local runner = "../shared/conformance/run"
  if #proof.files(runner) == 0 then return end
  p:run("conformance", {
    runner, "-v", "--lua", table.concat(command.stock, " "), command.lunation,
    limit = 600, env = { LUA_CPATH = command.module .. "/?.so;;" },
  }, function(stdout, _, code)
    local failed = {}
    for line in stdout:gmatch("[^\n]+") do
      -- Executors are not built yet; until then this one case is owed.
      local owed = line:find("^FAIL story_executor: .*'run_in_executor'")
      if line:find("^FAIL ") and not owed then failed[#failed + 1] = line end
    end
    local passed = tonumber(stdout:match("\n(%d+) passed, %d+ failed\n") or 0)
    if passed == 0 then failed[#failed + 1] = ("nothing passed, status %d"):format(code) end
    return passed + #failed, failed
  end)
end

-- On the virtual clock: collecting takes longer than what they wait for. But that clock does not wait for children and
-- handshakes, which those examples give time enough.
local function examples()
  for _, path in ipairs(proof.files "scripts/examples/[0-9]*.lua") do
    local text = command.slurp(path)
    local real = text:find("async.process", 1, true) or text:find("tls =", 1, true)
    local words = { command.lunation, real and path or "--virtual-time", not real and path or nil }
    if text:match("^[^\n]*"):find("lua5.4", 1, true) then
      words = { env = { LUA_CPATH = command.module .. "/?.so;;" } }
      table.move(command.stock, 1, #command.stock, 1, words)
      words[#words + 1] = path
    end
    p:run(path, words, function(stdout, _, code)
      local expected = command.slurp("spec/examples/" .. path:match("([^/]*)%.lua$") .. ".out")
      local failed = {}
      if stdout ~= expected then failed[1] = "it printed something else" end
      if code ~= 0 then failed[#failed + 1] = ("ended with status %d"):format(code) end
      return 1, failed
    end)
  end
end

-- What a framework's own steps do is no matter of ours, and they are most of what such a run does.
local function specs(files)
  p.env.LUNATION_CHAOS_SKIP, p.env.LUNATION_CHAOS_EVERY = "@/usr/share/", SELDOM
  proof.by_clock(files, function(list, options)
    options.limit = LIMIT
    for _, file in ipairs(list) do p:specs({ file }, options) end
  end)
end

if #arg > 0 then
  specs(arg)
else
  conformance()
  examples()
  -- The chaos build runs those with peers as they are, see scripts/test.
  local without = { "/examples_spec", "/peers/", "faults_spec" }
  if not long then
    table.move(proof.BY_CHILDREN, 1, #proof.BY_CHILDREN, #without + 1, without)
    for _, name in ipairs { "dropped", "descriptors", "bounded", "short", "tls_stream", "process_many" } do
      without[#without + 1] = "/" .. name .. "_spec"
    end
  end
  specs(proof.all_specs(without))
end
p:finish()

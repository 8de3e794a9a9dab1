-- The proof that a seed is the same everywhere: the simulation, run by the command of each build with the same seeds,
-- must give the same digest of everything that happened, whichever compiler and sanitizer made the build.
--
--   lua5.4 spec/proofs/digest.lua BUILD...      from the repository's root; folders with a command `lunation`
--
-- Each seed of each build is a point. LUNATION_LONG=1: more seeds. Ends with status 77, passed over, if a build is
-- missing.
package.path = "./?.lua;" .. package.path
local proof = require "spec.support.proof"
local command = require "spec.support.command"

local long = os.getenv "LUNATION_LONG" == "1"
local SEED, RUNS = 1, long and 2000 or 100

for _, build in ipairs(arg) do
  if #proof.files(command.quote(build .. "/lunation")) == 0 then
    print("passed over: there is no command in " .. build)
    os.exit(77)
  end
end

-- The module of an asan build loads into a stock interpreter only behind the sanitizer's own library.
local function interpreter(build)
  if #proof.files(command.quote(build .. "/CMakeCache.txt")) == 0 then return "lua5.4" end
  local cache = command.slurp(build .. "/CMakeCache.txt")
  if not cache:find("LUNATION_SANITIZE:BOOL=ON", 1, true) then return "lua5.4" end
  local library = command.run { "gcc", "-print-file-name=libasan.so" }
  return "env LD_PRELOAD=" .. library:match("[^\n]+") .. " lua5.4"
end

local p = proof.new("digest", SEED)
local expected, first
for _, build in ipairs(arg) do
  p:run(build, {
    build .. "/lunation", "spec/proofs/simulation.lua", "--seed", tostring(SEED), "--runs", tostring(RUNS),
    limit = long and 3600 or 200,
    env = { LUNATION = build .. "/lunation", LUNATION_MODULE = build .. "/lua", LUNATION_LUA = interpreter(build) },
  }, function(stdout, _, code)
    local digest = stdout:match("digest: (%x+)")
    first, expected = first or build, expected or digest
    local failed = {}
    if code ~= 0 or not digest then failed[1] = ("no digest, status %d"):format(code) end
    if digest ~= expected then failed[1] = ("digest %s, that of %s is %s"):format(digest, first, expected) end
    if digest then print("  digest " .. digest) end
    return RUNS, failed
  end)
end
p:finish()

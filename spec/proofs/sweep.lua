-- The proof by sweep: every spec and every example is cut at each point at which it suspends, by a cancel or by an error,
-- and has to end, to let the cancel pass, to give back what it took and to leave nothing behind.
--
--   lua5.4 spec/proofs/sweep.lua cancel|throw [FILE]...      from the repository's root; LUNATION: the command
--
-- `lunation test --sweep` does it; this adds up. Our specs make tasks freely, as scripts do, so what ends when it is
-- cancelled is forgiven, as at the end of `async.run`; in the examples it is not. In CI at most MOST points of each test,
-- from all over it; LUNATION_LONG=1: all of them. First in, first out, as many specs expect: there is no seed.
-- Tests that measure real time (tag #real) are left out, save those that have real peers; `lunation test` passes over
-- those with #nosweep.
package.path = "./?.lua;" .. package.path
local proof = require "spec.support.proof"
local command = require "spec.support.command"

local mode = arg[1]
if mode ~= "cancel" and mode ~= "throw" then
  io.stderr:write("usage: lua5.4 spec/proofs/sweep.lua cancel|throw [FILE]...\n")
  os.exit(2)
end

local long = os.getenv "LUNATION_LONG" == "1"
local MOST, MOST_OF_EXAMPLE, MOST_WITH_PEERS = 5, 30, 1
local EXAMPLES = "spec/sweeps/examples_suite.lua"
-- Nothing of them suspends in a task of a test: they run programs in processes of their own, or loops of their own.
local WITHOUT = {
  "/examples_spec", "/cli_spec", "/readme_spec", "/interrupt_spec", "/module_spec", "/chains_spec", "/closing_spec",
  "/run_interrupt_spec", "/engine/run_spec", "/stdio_spec", "/tty_spec", "/io/tls_faults_spec", "/watchdog_spec",
  "/proof_spec",
}

-- They talk to other processes, which know nothing of a virtual clock.
local function has_peers(file) return file:find("/peers/", 1, true) or file:find("/faults_spec", 1, true) end

local p = proof.new(mode .. " sweep", 0)

-- What `lunation test` said: the points of its summary, and each point that failed, or a test that failed by itself.
local function judge(stdout, stderr, code)
  local failed = {}
  local points = tonumber(stdout:match("\nsweep %(" .. mode .. "%): (%d+) points "))
  for line in stdout:gmatch("[^\n]+") do
    if line:find("^[# ]*point %d+ ") then failed[#failed + 1] = line:gsub("^[# ]+", "") end
  end
  if #failed == 0 then
    for line in stdout:gmatch("not ok %d+ [^\n]+") do failed[#failed + 1] = line end
  end
  if #failed == 0 and (code ~= 0 or not points) then
    failed[1] = ("ended with status %d: %s"):format(code, stderr:sub(1, 200))
  end
  return points or 0, failed
end

local function sweep(file)
  local strict, peers = file == EXAMPLES, has_peers(file)
  local most = strict and MOST_OF_EXAMPLE or peers and MOST_WITH_PEERS or MOST
  local words = {
    command.lunation, "test", "--sweep=" .. mode, "--timeout=20",
    limit = long and 36000 or 240,
  }
  local function add(...) table.move({ ... }, 1, select("#", ...), #words + 1, words) end
  if not long then add("--sweep-max=" .. most) end
  if not peers then add("--virtual-time") end
  if strict then
    add("--pattern=_suite")
  else
    add("--sweep-scope=run", "--helper=spec/helper.lua")
    if not peers then add("--exclude-tags=real") end
  end
  add("-o", "TAP", file)
  p:run(file, words, judge)
end

local files = { table.unpack(arg, 2) }
if #files == 0 then
  table.move(proof.BY_CHILDREN, 1, #proof.BY_CHILDREN, #WITHOUT + 1, WITHOUT)
  files = proof.all_specs(WITHOUT)
  table.insert(files, 1, EXAMPLES)
end
for _, file in ipairs(files) do sweep(file) end
p:finish()

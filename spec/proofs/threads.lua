-- The proof of the thread sanitizer, over what uses threads: in its build, states in several threads at once, posts
-- from other threads, and the specs of requests, streams, signals and interrupts. A race is an exit status of its own.
--
--   lua5.4 spec/proofs/threads.lua [FILE]...      from the repository's root; LUNATION, LUNATION_MODULE: a tsan build
--
-- LUNATION_LONG=1: all specs (or the FILEs), and the threads for longer.
package.path = "./?.lua;" .. package.path
local proof = require "spec.support.proof"
local command = require "spec.support.command"

local long = os.getenv "LUNATION_LONG" == "1"
local p = proof.new("thread sanitizer", 0, { LUNATION_SLOW = 10, TSAN_OPTIONS = "halt_on_error=0 exitcode=66" })

-- The tests of a program made with cmocka are its points.
local function program(name)
  p:run(name, { command.libdir .. "/spec/c/" .. name, limit = 600 }, function(stdout, stderr, code)
    local passed = tonumber((stdout .. stderr):match("%[  PASSED  %] (%d+) test") or 0)
    local failed = {}
    if code ~= 0 or passed == 0 then failed[1] = ("%d passed, status %d"):format(passed, code) end
    return passed + #failed, failed
  end)
end

if #arg == 0 then
  program "threads_spec"
  program "core_post_spec"
  program "core_op_spec"
end
-- Not interrupt_spec: the sanitizer keeps signals back while code runs that it was not compiled into, as Lua's.
local OURS = {
  "run_interrupt", "net", "poll", "signal", "stream", "write", "dns", "udp", "tls_net", "fs_lane", "fs_file", "fs_tree",
  "process",
}
local function uses_threads(path)
  for _, name in ipairs(OURS) do
    if path:find("/" .. name .. "_spec.lua", 1, true) then return true end
  end
  return false
end
local files = arg
if #arg == 0 then
  files = {}
  for _, path in ipairs(proof.all_specs { "/interrupt_spec" }) do
    if long or uses_threads(path) then files[#files + 1] = path end
  end
end
for _, file in ipairs(files) do p:specs({ file }, { limit = long and 1200 or 300 }) end
p:finish()

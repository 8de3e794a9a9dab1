-- The proof by valgrind, which sees into the system's Lua and libuv, too: the C specs and the specs run under it.
--
--   lua5.4 spec/proofs/memcheck.lua [FILE]...      from the repository's root; LUNATION, LUNATION_MODULE: a debug build
--
-- Child processes of a spec run without it, so the specs that are all children, of the command and of tools, wait for
-- the long tier, LUNATION_LONG=1, and so do those with other programs as peers and those that count what is dropped. By
-- default several files share a process, since busted alone takes its seconds to load. The engine's timers are of a few
-- milliseconds, in which nothing gets done here: its specs run on the virtual clock, but for those of real time. Valgrind
-- catches every signal itself and keeps some, so what a spec reads of the system's dispositions is not true here (tag
-- #native).
package.path = "./?.lua;" .. package.path
local proof = require "spec.support.proof"
local command = require "spec.support.command"

local long = os.getenv "LUNATION_LONG" == "1"
local MEMCHECK = {
  "valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
  "--show-leak-kinds=definite", "--child-silent-after-fork=yes",
}
local p = proof.new("memcheck", 0, { LUNATION_SLOW = 30 })

local function program(path)
  local words = { limit = 600 }
  for _, word in ipairs(MEMCHECK) do words[#words + 1] = word end
  words[#words + 1] = path
  p:program(path:match("[^/]*$"), words)
end

if #arg == 0 then
  for _, path in ipairs(proof.files(command.quote(command.libdir) .. "/spec/c/*_spec")) do program(path) end
end
local without = {}
if not long then
  without = {
    "/testing/", "/cli_spec", "/examples_spec", "/interrupt_spec", "/readme_spec", "/proof_spec", "/peers/",
    "/dropped_spec", "/descriptors_spec", "faults_spec", "/short_spec", "/bounded_spec", "/storm_spec", "/library_spec",
    "/stdio_spec", "/tty_spec", "/traps_spec", "/signal_interrupt_spec", "_many_spec", "/tls_stream_spec",
  }
  table.move(proof.BY_CHILDREN, 1, #proof.BY_CHILDREN, #without + 1, without)
end
local at_once = (long or #arg > 0) and 1 or 8

proof.by_clock(#arg > 0 and arg or proof.all_specs(without), function(files, options)
  options.prefix, options.limit = MEMCHECK, long and 1200 or 400
  options.exclude = options.exclude and "native," .. options.exclude or "native"
  for i = 1, #files, at_once do
    p:specs(table.move(files, i, math.min(#files, i + at_once - 1), 1, {}), options)
  end
end)
p:finish()

-- lunation.testing: what specs need beyond a runner: a clock that the test moves, streams without a network, what was
-- left behind, and many orders of ready tasks instead of one.
--
-- It works wherever a loop runs: under `lunation test`, in scripts of the command, in async.run under the stock
-- interpreter. Everything acts on the loop that runs; outside of one every function throws RuntimeError. Bad arguments
-- throw TypeError or ValueError and change nothing.
--
-- Law: whatever is switched here is put back on every way out: by `<close>`, by an error, by a cancel.
local async = require "lunation"
local probe = require "lunation.probe"

local testing = {}

--- testing.clock(opts?) -> Clock
-- From now on the loop's time stands still and jumps to the next deadline when every task waits: a day of sleeping
-- takes no time. opts.autojump = false: it moves by clock:advance alone. Closable: `local clock <close> =
-- testing.clock()`. Does not suspend. See lunation.testing.clock for its methods: now, advance, autojump, close.
testing.clock = require "lunation.testing.clock".open

--- testing.explore(fn, opts?) -> number of runs
-- Runs fn() many times, each time with another order of ready tasks, and throws the first failure with what replays
-- it. Suspends, safe to cancel. See lunation.testing.explore for the options: runs, seed, clock.
testing.explore = require "lunation.testing.explore"

--- testing.leaks(before?) -> list of {kind, text, where?}
-- What is alive in the loop now: unfinished tasks, pending timers and callbacks, open handles, requests in flight.
-- Without the running task and those that wait for it. `before`, an earlier result: only what is new since then.
-- tostring(list) is a line for each. Without `before` it also switches testing.sites on, so that what is made later
-- is told with its place. Does not suspend. TypeError if `before` is no such list.
testing.leaks = require "lunation.testing.leaks".list

--- testing.sites(on?) -> boolean before
-- Whether tasks, timers, callbacks, streams, servers and the like that are made from now on remember where that was:
-- leaks, reports to the exception handler and probe.site then say "file:line". A stream or server that is dropped
-- unclosed is reported then, too. nil only asks; TypeError for anything else. Does not suspend.
testing.sites = probe.sites

--- testing.wait_all_blocked()
-- Suspends until every other task waits, for I/O, a timer or another task, and no callback is due. Time does not pass
-- on a clock of testing.clock meanwhile. Safe to cancel. RuntimeError outside a task.
testing.wait_all_blocked = probe.blocked

--- testing.stream_pair(opts?) -> a, b
-- Two connected streams in memory: memory.pair of lunation.memory. Does not suspend.
testing.stream_pair = require "lunation.memory".pair

--- testing.tree() -> text
-- Every unfinished task as a tree, who waits for whom, with the stack of each: what async.dump prints. Does not
-- suspend.
testing.tree = require "lunation.testing.leaks".tree

return testing

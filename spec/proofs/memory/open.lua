-- The library itself is opened, and its modules; the only program that does not find it open.
local async = require "lunation"
local net = async.net
assert(async._VERSION and net == require "lunation.net")

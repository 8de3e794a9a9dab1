-- The helper of busted's that makes every block a task: `helper = "lunation.busted"` in .busted, with
-- `lua = "lunation"`. Options as those of `lunation test`, through busted's -Xhelper: -Xhelper virtual-time,seed=7
--
-- Under `lunation test` it is at work already; then only `timeout` and `virtual-time` count, unless the command line has
-- said something else. Returns true.
require "lunation.busted.session".as_helper(arg or {})
return true

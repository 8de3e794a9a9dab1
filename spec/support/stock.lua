-- For programs that need loops of their own: under the command, where a script is a task of a loop that runs already,
-- the program starts itself again under the stock interpreter: LUNATION_LUA (lua5.4) with the module in
-- LUNATION_MODULE, or in lua/ beside the command. Called first; it returns in the program that has no loop.
local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

return function()
  local ok, async = pcall(require, "lunation")
  if ok and not async.current_task() then return end
  if os.getenv "LUNATION_STARTED_AGAIN" then error(ok and "no interpreter without a loop" or async, 0) end
  local first = 0
  while arg[first - 1] do first = first - 1 end
  local beside = (os.getenv "LUNATION" or arg[first]):match("^(.*)/[^/]*$") or "."
  local words = {
    "LUNATION_STARTED_AGAIN=1",
    "LUA_CPATH=" .. quote((os.getenv "LUNATION_MODULE" or beside .. "/lua") .. "/?.so;;"),
    os.getenv "LUNATION_LUA" or "lua5.4", quote(arg[0]),
  }
  for _, word in ipairs(arg) do words[#words + 1] = quote(word) end
  local _, _, code = os.execute(table.concat(words, " "))
  os.exit(code)
end

-- lunation.fs.temp: folders and files of one's own that go when they are closed.
--
--   do
--     local dir <close> = fs.mkdtemp()
--     fs.write_file(dir .. "/notes", "...")
--   end                                     -- the folder is gone, with all that is in it
--
-- Law: closing one removes it, whatever happens meanwhile: a removal that has been asked for is not cancelled, and
-- where nothing may suspend it is done at once.
local async = require "lunation"
local core = require "lunation.fs.core"
local check = require "lunation.fs.check"

local temp = {}

local function template(fn, prefix)
  if prefix == nil then prefix = "lunation-" end
  prefix = check.path(fn, 1, prefix)
  local folder = os.getenv("TMPDIR")
  if not folder or folder == "" then folder = "/tmp" end
  if not prefix:find("/", 1, true) then prefix = check.join(folder, prefix) end
  return prefix .. "XXXXXX"
end

-- Removes what `self.path` names, once. A removal that has begun goes on though its task is cancelled; one that cannot
-- begin, outside a task, in a plain coroutine, without memory, is done here. After an OSError there may be another try.
local function remove(self)
  if self.removed then return end
  local ok, e = pcall(core.rmtree, self.path, true)
  local begun = ok or async.isinstance(e, async.CancelledError)
  self.removed = begun or not async.isinstance(e, async.OSError) and core.remove_now(self.path)
  if not ok and (begun or not self.removed) then error(e, 0) end
end

local function class(name, close)
  local methods = { close = close }
  return {
    __name = name, __index = methods, __close = close, __gc = function(self)
      if not self.removed then core.remove_now(self.path) end
    end,
    __tostring = function(self) return self.path end,
    __fspath = function(self) return self.path end,
    __concat = function(a, b)
      return (type(a) == "table" and a.path or a) .. (type(b) == "table" and b.path or b)
    end,
  }
end

--- dir:close(): removes the folder with all that is in it; harmless the second time. Throws OSError, after which it may
-- be called again. Suspends where it can.
local TempDir = class("TempDir", remove)

--- temp_file:close(): closes the file and removes it; harmless the second time. Suspends where it can.
local TempFile = class("TempFile", function(self)
  local _ <close> = async.defer(function() remove(self) end)
  self.file:close()
end)

-- An object with room for all that it will know: once the folder is there, nothing asks for memory any more.
local function unmade(meta) return setmetatable({ file = false, path = "", removed = true }, meta) end

--- fs.mkdtemp(prefix?) -> TempDir
-- Makes a new folder that only this user can enter: prefix ("lunation-") and some letters, in $TMPDIR or /tmp unless
-- the prefix has a folder. dir.path is its path, so are tostring(dir) and dir .. "/name", and the functions of fs take
-- dir itself. dir:close(), or the end of the block of a `<close>` variable, removes it with all that is in it; so does
-- the collector, in the end. Throws OSError. Suspends; cancelled, no folder is left.
function temp.mkdtemp(prefix)
  local self = unmade(TempDir)
  self.path = core.mkdtemp(template("mkdtemp", prefix))
  self.removed = false
  return self
end

--- fs.mkstemp(prefix?) -> TempFile
-- Makes a new file that only this user can read, named as fs.mkdtemp names folders. temp.file is the File, open for
-- reading and writing, temp.path its path. temp:close(), or the end of the block of a `<close>` variable, closes and
-- removes it. Throws OSError. Suspends; cancelled, no file is left.
function temp.mkstemp(prefix)
  local self = unmade(TempFile)
  self.file, self.path = core.mkstemp(template("mkstemp", prefix))
  self.removed = false
  return self
end

return temp

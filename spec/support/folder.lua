-- For specs: a new folder for each test of a block, which goes with all that is in it after the test.
local fs = require "lunation.fs"

local folder = {}

local dir

-- In the body of a block: folder.each(before_each, after_each).
function folder.each(before, after)
  before(function() dir = fs.mkdtemp() end)
  after(function()
    if dir then dir:close() end
    dir = nil
  end)
end

-- The path of what has this name in the folder, or of the folder itself.
function folder.at(name) return name and dir .. "/" .. name or dir.path end

return folder

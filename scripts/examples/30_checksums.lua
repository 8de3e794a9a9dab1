-- Checksums of a tree of files, by programs of the system: sha256sum for each file, a few at a time.
local async = require "lunation"
local fs, process = async.fs, async.process

-- A tree to work on; it is removed at the end, whatever happens.
local tree <close> = fs.mkdtemp()
for _, folder in ipairs { "a", "a/deep", "b" } do fs.mkdir(tree .. "/" .. folder) end
for i, name in ipairs { "a/one", "a/two", "a/deep/three", "b/four with spaces", "five", "-six" } do
  fs.write_file(tree .. "/" .. name, ("line\n"):rep(i * 1000), { sync = false })
end

local files = {}
for path, entry in fs.walk(tree.path) do
  if entry.type == "file" then files[#files + 1] = path:sub(#tree.path + 2) end
end
table.sort(files)

-- A list of arguments and no shell: nothing in a file's name is special. A failure is an error.
local function checksum(name)
  local done = process.run("sha256sum", { "--", name }, { cwd = tree, timeout = 60, check = true })
  return done.stdout:match("^%x+")
end

-- At most four children at a time; the results are in the order of the files.
local sums = async.map(files, checksum, { limit = 4 })
for i, name in ipairs(files) do print(sums[i]:sub(1, 16), name) end

-- Programs connected by pipes, without us in between.
local words = process.pipeline({ { "sort", "-u" }, { "wc", "-l" } }, { input = table.concat(sums, "\n") .. "\n" })
print("different sums", math.tointeger(tonumber(words.stdout)))

-- One child for all of them, talked to line by line.
do
  local sed <close> = process.spawn("sed", { "-u", "s/^/checked: /" }, { stdin = "pipe", stdout = "pipe" })
  for _, name in ipairs(files) do
    sed.stdin:write(name, "\n")
    print(sed.stdout:read("l"))
  end
end -- closed, killed, reaped

-- What fails says so; what takes too long is ended, and nothing of it is left.
local ok, e = async.pcall(process.run, "sha256sum", { "no such file" }, { cwd = tree, check = true })
print(ok, e)
ok, e = async.pcall(process.run, "sh", { "-c", "sleep 1000 & sleep 1000" }, { timeout = 0.2 })
print(ok, e)

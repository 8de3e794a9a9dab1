-- A fault: the worker tries again whatever is thrown, a cancel too.
local async = require "lunation"

local function fetch() return async.sleep(0.001, "data") end -- HERE

local function fetch_somehow()
  for _ = 1, 3 do
    local ok, data = pcall(fetch)
    if ok then return data end
  end
  return "nothing"
end

describe("worker", function()
  it("fetches", function()
    local task = async.create_task(fetch_somehow)
    assert.equal("data", async.await(task))
  end)
end)

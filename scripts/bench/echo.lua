#!/usr/bin/env lua5.4
-- What does a server cost? An echo server, a sink and a source, as scripts for Lunation, in C on
-- bare libuv, and for Node, Go and Python's uvloop where these are installed; all in one run, in
-- turns, under the same load (echo_load.c). Prints CPU time of the server per message, or per
-- chunk of 64 KiB, and its ratio to bare libuv in the same round: medians over all rounds, and the
-- least and the greatest ratio.
--
--   scripts/bench/echo.lua [--check] [--rounds N] [--seconds S] [--alone] [--control] [mode...]
--
--   mode      small64 small512 bulk sink source idle; all of them
--   --alone   Lunation and libuv only
--   --control libuv once more, to see by how much a ratio wavers without any difference
--   --check   exit 1 if a bar is missed
--
-- LUNATION names another binary to measure (default: build/release/lunation).

local MODES = {
  { name = "small64", mode = "small", peers = 64, what = "64 B ping-pong, 64 connections", bar = 1.3 },
  { name = "small512", mode = "small", peers = 512, what = "64 B ping-pong, 512 connections", bar = 1.3 },
  { name = "bulk", mode = "bulk", peers = 8, what = "64 KiB echoed, 8 connections", bar = 1.3 },
  { name = "sink", mode = "sink", peers = 8, what = "64 KiB read, 8 connections", bar = 1.3 },
  { name = "source", mode = "source", peers = 8, what = "64 KiB written, 8 connections", bar = 1.3 },
  { name = "idle", mode = "idle", peers = 10000, what = "10,000 idle connections", most = 6144, once = true },
}

local options = { rounds = 9, seconds = 0.5 }
local wanted = {}
do
  local i = 1
  while arg[i] do
    local a = arg[i]
    if a == "--check" or a == "--alone" or a == "--control" then
      options[a:sub(3)] = true
    elseif a == "--rounds" or a == "--seconds" then
      i = i + 1
      options[a:sub(3)] = assert(tonumber(arg[i]), a .. ": number expected")
    else
      local known = false
      for _, m in ipairs(MODES) do known = known or m.name == a end
      if not known then
        io.stderr:write("usage: scripts/bench/echo.lua [--check] [--rounds N] [--seconds S] [--alone] [--control] [mode...]\n")
        os.exit(2)
      end
      wanted[a] = true
    end
    i = i + 1
  end
end

local here = arg[0]:match("^.*/") or "./"

local function capture(command)
  local p = assert(io.popen(command))
  local text = p:read("a")
  return p:close() and text
end

local dir = capture("mktemp -d"):match("[^\n]+")

local function leave(status)
  os.execute("rm -rf '" .. dir .. "'")
  os.exit(status)
end

local function fail(text)
  io.stderr:write("echo: ", text, "\n")
  leave(2)
end

local function compile(name)
  local made = os.execute(("%s -std=gnu11 -O2 -Wall -Wextra -Werror %s%s.c -o %s/%s $(pkg-config --cflags --libs libuv)")
    :format(os.getenv("CC") or "cc", here, name, dir, name))
  return made and dir .. "/" .. name or fail("no compiler for " .. name .. ".c")
end

local load, libuv = compile("echo_load"), compile("echo_libuv")
local lunation = os.getenv("LUNATION") or here .. "../../build/release/lunation"
local servers = { { name = "libuv", run = libuv }, { name = "lunation", run = lunation .. " " .. here .. "echo_server.lua" } }

if options.control then servers[#servers + 1] = { name = "control", run = libuv } end

-- Writes a rival's source, builds it; says so if it is not here.
local function rival(r)
  if not os.execute(r.needs .. " >/dev/null 2>&1") then
    print(r.name .. " is not installed")
    return
  end
  local path = dir .. "/" .. r.file
  local function fill(command) return (command:gsub("%$F", path):gsub("%$D", dir)) end
  local f <close> = assert(io.open(path, "w"))
  f:write(r.source)
  f:close()
  if r.build and not os.execute(fill(r.build) .. " >/dev/null") then
    print(r.name .. " cannot be built")
    return
  end
  servers[#servers + 1] = { name = r.name, run = fill(r.run) }
end

if not options.alone then
  for _, r in ipairs(dofile(here .. "echo_rivals.lua")) do rival(r) end
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- Units and what they cost, of one server in one mode, once.
local function measure(m, s)
  local text = capture(("%s %s %d %g %s"):format(load, m.mode, m.peers, options.seconds, s.run))
  local units, cost, wall = (text or ""):match("^(%S+) (%S+) (%S+)")
  if not units then fail(("%s failed in %s"):format(s.name, m.name)) end
  return tonumber(cost) / tonumber(units), tonumber(wall) > 0 and tonumber(units) / tonumber(wall) * 1e9
end

local missed = false
local function row(m, s, costs, rates, ratios)
  local cost, rate, ratio = median(costs), median(rates), median(ratios)
  local verdict = ""
  if s.name == "lunation" then
    local kept = m.bar and ratio <= m.bar or m.most and cost <= m.most
    missed = missed or not kept
    verdict = (m.bar and "<= " .. m.bar or "<= " .. m.most .. " B") .. (kept and "  ok" or "  OVER")
  end
  print((("%-34s %-9s %9.0f %s %12s %7.2f %4.2f-%4.2f  %s"):format(m.what, s.name, cost, m.once and "B " or "ns",
    rate and ("%.0f/s"):format(rate) or "", ratio, ratios[1], ratios[#ratios], verdict):gsub("%s+$", "")))
  io.stdout:flush()
end

print(("%-34s %-9s %12s %12s %7s %9s  %s"):format("CPU time of the server, median", "", "each", "", "ratio", "from-to", "bar"))
for _, m in ipairs(MODES) do
  if not next(wanted) or wanted[m.name] then
    local costs, rates = {}, {}
    for i in ipairs(servers) do costs[i], rates[i] = {}, {} end
    for n = 1, m.once and 1 or options.rounds do
      for i, s in ipairs(servers) do costs[i][n], rates[i][n] = measure(m, s) end
    end
    local ratios = {}
    for i in ipairs(servers) do
      ratios[i] = {}
      for n, cost in ipairs(costs[i]) do ratios[i][n] = cost / costs[1][n] end
    end
    for i, s in ipairs(servers) do row(m, s, costs[i], rates[i], ratios[i]) end
  end
end
leave(not (options.check and missed))

-- An output handler of the project's own: one line an event, with everything that busted hands over but times.
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local given = {}
  for i, option in ipairs(options.arguments or {}) do given[i] = option end
  print("handler: " .. table.concat(given, " "))

  local function say(...)
    local list = table.pack(...)
    for i = 1, list.n do list[i] = tostring(list[i]) end
    io.write(table.concat(list, " "), "\n")
    return nil, true
  end

  local function tell(word)
    return function(element, parent, detail, trace)
      local place = element.trace and element.trace.short_src .. ":" .. element.trace.currentline or "-"
      local from = trace and type(trace) == "table" and trace.short_src
        and trace.short_src .. ":" .. trace.currentline or "-"
      return say(word, element.descriptor, element.name or "-", place,
        type(parent) == "table" and parent.name or parent or "-", detail or "-", from)
    end
  end

  for _, kind in ipairs { "suite", "file", "describe", "test" } do
    for _, side in ipairs { "start", "end", "reset" } do
      busted.subscribe({ kind, side }, tell(kind .. " " .. side))
    end
  end
  busted.subscribe({ "pending" }, tell "pending")
  busted.subscribe({ "failure" }, tell "failure")
  busted.subscribe({ "error" }, tell "error")
  busted.subscribe({ "exit" }, function() return say "exit" end)
  return handler
end

-- Refusals of a request: errors whose value is a table with the sentence for the caller.

local refusal = {}

function refusal.refuse(...)
  error({ sentence = string.format(...) })
end

-- Return a name of a request as a sentence may show it.
function refusal.shown(name)
  return type(name) == "string" and #name <= 40 and name:match("^[%w_.-]+$") or "(not a plain name)"
end

-- Return the names of a set, sorted.
function refusal.names(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

return refusal

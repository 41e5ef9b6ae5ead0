-- Decode the inference requests of Triton's HTTP protocol (KServe's, version 2), as far as this service uses it: JSON,
-- then the tensors in binary.
--
-- The parser is stricter than JSON: it refuses escapes, keys that appear twice, null, and numbers that are no integers.

local refusal = require("refusal")
local refuse, shown, names = refusal.refuse, refusal.shown, refusal.names

local LONGEST_JSON, DEEPEST_JSON = 4096, 6
local LIST = {} -- marks a table that was a list, with a key that no JSON has

local function parse_json(text)
  local position = 1
  local value

  -- Skip white space and return what matches there, after which the position is.
  local function take(pattern)
    local _, last, found = text:find("^[ \t\r\n]*(" .. pattern .. ")", position)
    if last then position = last + 1 end
    return found
  end

  local function take_string()
    local found = take('"[^%c"\\\128-\255]*"')
    return found and found:sub(2, -2)
  end

  local function take_items(close, take_item)
    if take(close) then return end
    repeat take_item() until not take(",")
    if not take(close) then refuse("JSON: expected ',' or the end of a list or object at byte %d", position) end
  end

  local function take_object(depth)
    local object = {}
    take_items("}", function()
      local key = take_string() or refuse("JSON: expected a key at byte %d", position)
      if object[key] ~= nil then refuse("JSON: key %s appears twice", shown(key)) end
      if not take(":") then refuse("JSON: expected ':' at byte %d", position) end
      object[key] = value(depth + 1)
    end)
    return object
  end

  local function take_list(depth)
    local list = { [LIST] = true }
    take_items("%]", function() list[#list + 1] = value(depth + 1) end)
    return list
  end

  function value(depth)
    if depth > DEEPEST_JSON then refuse("JSON: nested too deep") end
    if take("{") then return take_object(depth) end
    if take("%[") then return take_list(depth) end
    local found = take_string()
    if found then return found end
    found = take("%a+")
    if found == "true" or found == "false" then return found == "true" end
    found = take("-?%d+%f[^%w.+-]")
    if found and #found <= 15 and (found == "0" or found:match("^-?[1-9]%d*$")) then return math.tointeger(tonumber(found)) end
    refuse("JSON: expected an object, a list, a plain string, an integer or a boolean at byte %d", position)
  end

  local result = value(1)
  if not text:find("^[ \t\r\n]*$", position) then refuse("JSON: expected its end at byte %d", position) end
  return result
end

-- Return a value that must be an object with none but the allowed keys.
local function object(value, allowed, name)
  if type(value) ~= "table" or value[LIST] then refuse("JSON: %s: expected an object", name) end
  for key in pairs(value) do
    if not allowed[key] then refuse("JSON: %s: %s is not accepted; accepted: %s", name, shown(key), names(allowed)) end
  end
  return value
end

local function list(value, name)
  if type(value) ~= "table" or not value[LIST] then refuse("JSON: %s: expected a list", name) end
  return value
end

local function decode_input(value)
  local input = object(value, { name = true, datatype = true, shape = true, parameters = true }, "an input")
  local bytes = object(input.parameters, { binary_data_size = true }, "parameters of an input").binary_data_size
  if math.type(bytes) ~= "integer" or bytes < 0 then refuse("JSON: binary_data_size: expected a number of bytes") end
  return { name = input.name, datatype = input.datatype, shape = list(input.shape, "shape"), bytes = bytes }
end

local function decode_output(value)
  local output = object(value, { name = true, parameters = true }, "an output")
  local parameters = object(output.parameters, { binary_data = true }, "parameters of an output")
  if parameters.binary_data ~= true then refuse('JSON: parameters of an output: expected "binary_data": true') end
  return output.name
end

-- Return the request in a body. `json_length` is the text of Inference-Header-Content-Length.
return function(body, path, json_length)
  local length = #json_length <= 7 and json_length:match("^[1-9]%d*$") and math.tointeger(tonumber(json_length))
  if not length or length > #body then
    refuse("expected tensors in binary after the JSON, whose length is in Inference-Header-Content-Length")
  elseif length > LONGEST_JSON then
    refuse("JSON: expected at most %d bytes, got %d", LONGEST_JSON, length)
  end
  local keys = { id = true, inputs = true, outputs = true, parameters = true }
  local top = object(parse_json(body:sub(1, length)), keys, "the request")
  local request = {
    model = path:match("^/v2/models/([^/]+)/"),
    version = path:match("/versions/([^/]+)/") or "",
    id = top.id or "",
    parameters = top.parameters or {},
    inputs = {},
    outputs = {},
  }
  local bytes = length
  for index, value in ipairs(list(top.inputs, "inputs")) do
    request.inputs[index] = decode_input(value)
    bytes = bytes + request.inputs[index].bytes
  end
  if bytes ~= #body then
    refuse("expected a body of %d bytes, by the JSON's length and binary_data_size, got %d", bytes, #body)
  end
  for index, value in ipairs(list(top.outputs, "outputs")) do request.outputs[index] = decode_output(value) end
  if type(request.parameters) ~= "table" or request.parameters[LIST] then
    refuse("JSON: parameters: expected an object")
  end
  return request
end

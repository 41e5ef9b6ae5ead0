-- Decode the messages of Triton's gRPC protocol (KServe's, version 2), as far as this service uses it.
--
-- The decoder is stricter than protobuf: it refuses fields that are not in the tables, fields that appear twice, and
-- numbers that are longer than they need to be.

local refusal = require("refusal")
local refuse, shown = refusal.refuse, refusal.shown

local VARINT, BYTES = 0, 2 -- wire types
local MOST_REPEATED = 16 -- of a repeated field

local NO_FIELDS = {}
local MODEL = { [1] = { "name", BYTES }, [2] = { "version", BYTES } }
local INDEX = { [1] = { "name", BYTES }, [2] = { "ready", VARINT } }
local INFER = {
  [1] = { "name", BYTES },
  [2] = { "version", BYTES },
  [3] = { "id", BYTES },
  [4] = { "parameters", BYTES, repeated = true },
  [5] = { "inputs", BYTES, repeated = true },
  [6] = { "outputs", BYTES, repeated = true },
  [7] = { "raw_input_contents", BYTES, repeated = true },
}
local INPUT = { [1] = { "name", BYTES }, [2] = { "datatype", BYTES }, [3] = { "shape", BYTES } }
local OUTPUT = { [1] = { "name", BYTES } }
local MAP_ENTRY = { [1] = { "key", BYTES }, [2] = { "value", BYTES } }
local PARAMETER = { [2] = { "integer", VARINT }, [3] = { "string", BYTES } }
local METHODS = {
  ServerLive = NO_FIELDS,
  ServerReady = NO_FIELDS,
  ServerMetadata = NO_FIELDS,
  ModelReady = MODEL,
  ModelMetadata = MODEL,
  ModelConfig = MODEL,
  RepositoryIndex = INDEX,
  ModelInfer = INFER,
}

-- Return the number at a position, which must end at `last`, and the position after it.
local function varint(data, position, last)
  local value = 0
  for index = 0, 9 do
    if position + index > last then refuse("the message ends within a number") end
    local byte = data:byte(position + index)
    value = value | (byte & 0x7f) << 7 * index
    if byte < 0x80 then
      if byte == 0 and index > 0 then break end
      return value, position + index + 1
    end
  end
  refuse("the message has a number that is longer than it needs to be")
end

-- Return the fields of data[first..last] by name: a number, or {first, last} of bytes; a list of these if repeated.
local function decode(data, first, last, schema, message)
  local fields, position = {}, first
  for _, field in pairs(schema) do
    if field.repeated then fields[field[1]] = {} end
  end
  while position <= last do
    local tag = data:byte(position)
    local field = schema[tag >> 3]
    if not field or field[2] ~= tag & 7 then refuse("field %d of %s is not accepted", tag >> 3, message) end
    local name, value = field[1], nil
    value, position = varint(data, position + 1, last)
    if field[2] == BYTES then
      local length = value
      if length < 0 or length > last - position + 1 then refuse("field %s of %s is cut off", name, message) end
      value = { position, position + length - 1 }
      position = position + length
    end
    if field.repeated then
      local list = fields[name]
      if #list == MOST_REPEATED then refuse("%s: expected at most %d", name, MOST_REPEATED) end
      list[#list + 1] = value
    elseif fields[name] then
      refuse("field %s of %s appears twice", name, message)
    else
      fields[name] = value
    end
  end
  return fields
end

local function decode_parameters(data, text, ranges)
  local parameters = {}
  for _, range in ipairs(ranges) do
    local entry = decode(data, range[1], range[2], MAP_ENTRY, "a parameter")
    local name = text(entry.key)
    if parameters[name] ~= nil then refuse("parameter %s appears twice", shown(name)) end
    if not entry.value then refuse("parameter %s has no value", shown(name)) end
    local value = decode(data, entry.value[1], entry.value[2], PARAMETER, "the value of parameter " .. shown(name))
    if value.integer and value.string then refuse("parameter %s has two values", shown(name)) end
    parameters[name] = value.integer or text(value.string)
  end
  return parameters
end

local function decode_inputs(data, text, ranges, contents)
  if #ranges ~= #contents then refuse("expected raw_input_contents for each input") end
  local inputs = {}
  for index, range in ipairs(ranges) do
    local input = decode(data, range[1], range[2], INPUT, "an input")
    local shape, position, last = {}, table.unpack(input.shape or { 1, 0 })
    while position <= last do
      shape[#shape + 1], position = varint(data, position, last)
    end
    inputs[index] = {
      name = text(input.name),
      datatype = text(input.datatype),
      shape = shape,
      bytes = contents[index][2] - contents[index][1] + 1,
    }
  end
  return inputs
end

-- Return the request in a gRPC message, and whether it is an inference.
return function(body, path)
  local method = path:match("^/inference%.GRPCInferenceService/(%a+)$")
  local schema = METHODS[method] or refuse("the method is not open to callers")
  if #body < 5 or body:byte(1) ~= 0 or string.unpack(">I4", body, 2) ~= #body - 5 then
    refuse("expected one gRPC message, of the length that it announces")
  end
  local function text(range) return range and body:sub(range[1], range[2]) or "" end
  local fields = decode(body, 6, #body, schema, "the request")
  local request = { model = text(fields.name), version = text(fields.version) }
  if schema ~= INFER then return request, false end
  request.id = text(fields.id)
  request.parameters = decode_parameters(body, text, fields.parameters)
  request.inputs = decode_inputs(body, text, fields.inputs, fields.raw_input_contents)
  request.outputs = {}
  for index, range in ipairs(fields.outputs) do
    request.outputs[index] = text(decode(body, range[1], range[2], OUTPUT, "an output").name)
  end
  return request, true
end

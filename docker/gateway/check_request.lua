-- Check every request before Triton sees it.
--
-- Some parts of a request that this service has no use for end Triton 2.51, or make it take gigabytes: `classification`
-- on an output, tensors as JSON, shared memory, a malformed number, a call of an inner model. These tables do not list
-- what is forbidden: a request passes only if all of it was understood and all of it is in the tables.
--
-- `lua.check_request` is "accepted", or the reason of the refusal. HAProxy has the whole body when it evaluates it.

local decode_grpc = require("grpc_request")
local decode_http = require("http_request")
local refusal = require("refusal")
local refuse, shown, names = refusal.refuse, refusal.shown, refusal.names

local INPUTS = {
  AUDIO = "FP32",
  AUDIO_START = "INT64",
  CLIP_SAMPLES = "INT64",
  FRAME_COUNT = "INT64",
  FRAME_START = "INT64",
  LOOP_OFFSET = "INT64",
}
local OUTPUTS = { FRAMES = true, H264 = true, I420 = true, JPEG = true }
local PARAMETERS = {
  crf = "integer",
  jpeg_quality = "integer",
  keyint = "integer",
  preset = "string",
  timeout = "integer",
}
local INNER_MODELS = { audio_encoder = true, audio_window = true, mel = true, stream = true }
local INNER_SUFFIXES = { "_compositor", "_generator", "_raw" }
local BYTES = { FP32 = 4, INT64 = 8 } -- of an element
local LONGEST_NAME, LONGEST_ID, LONGEST_VERSION = 128, 128, 9

local function check_model(name, version)
  if #name > LONGEST_NAME or not name:match("^%w[%w_.-]*$") then refuse("the model's name is not a plain name") end
  if #version > LONGEST_VERSION or not version:match("^%d*$") then refuse("the model's version: expected a number") end
end

local function check_is_avatar(name)
  local inner = INNER_MODELS[name]
  for _, suffix in ipairs(INNER_SUFFIXES) do inner = inner or name:sub(-#suffix) == suffix end
  if inner then refuse("model %s is not open to callers; expected an avatar", shown(name)) end
end

local function check_parameter(name, value)
  local kind = PARAMETERS[name] or refuse("parameter %s is not accepted; accepted: %s", shown(name), names(PARAMETERS))
  if kind == "integer" and not (math.type(value) == "integer" and value >= 0) then
    refuse("parameter %s: expected an integer from 0 on", name)
  elseif kind == "string" and not (type(value) == "string" and #value <= 32 and value:match("^[%w_-]+$")) then
    refuse("parameter %s: expected a plain name", name)
  end
end

local function check_input(input)
  local datatype = INPUTS[input.name] or refuse("input %s is not accepted; accepted: %s", shown(input.name), names(INPUTS))
  if input.datatype ~= datatype then refuse("input %s: expected datatype %s", input.name, datatype) end
  local count, size = input.shape[1], BYTES[datatype]
  if #input.shape ~= 1 or count ~= input.bytes // size or input.bytes % size ~= 0 then
    refuse("input %s: expected one dimension, and %d bytes for each element", input.name, size)
  elseif input.name ~= "AUDIO" and count ~= 1 then
    refuse("input %s: expected one element", input.name)
  end
end

local function check_inference(request)
  check_is_avatar(request.model)
  if type(request.id) ~= "string" or #request.id > LONGEST_ID or not request.id:match("^[ -~]*$") then
    refuse("id: expected at most %d printable ASCII characters", LONGEST_ID)
  end
  for name, value in pairs(request.parameters) do check_parameter(name, value) end
  local seen = {}
  for _, input in ipairs(request.inputs) do
    check_input(input)
    if seen[input.name] then refuse("input %s appears twice", input.name) end
    seen[input.name] = true
  end
  if not seen.AUDIO then refuse("expected the input AUDIO") end
  if #request.outputs ~= 1 or not OUTPUTS[request.outputs[1]] then refuse("expected one output of %s", names(OUTPUTS)) end
end

local function check_http(fetch, body)
  local path = fetch:path()
  if fetch:method() == "GET" then
    if body ~= "" then refuse("expected no body with GET") end
  elseif path == "/v2/repository/index" then
    local ready = #body <= 64 and body:match('^%s*{%s*"ready"%s*:%s*(%l+)%s*}%s*$')
    if body ~= "" and not (#body <= 64 and body:match("^%s*{%s*}%s*$")) and ready ~= "true" and ready ~= "false" then
      refuse('expected {} or {"ready": true}')
    end
  else
    if fetch:req_fhdr_cnt("inference-header-content-length") > 1 then
      refuse("Inference-Header-Content-Length: expected one")
    end
    local request = decode_http(body, path, fetch:req_fhdr("inference-header-content-length") or "")
    check_model(request.model, request.version)
    check_inference(request)
  end
end

local function check_grpc(fetch, body)
  local request, is_inference = decode_grpc(body, fetch:path())
  if request.model ~= "" or is_inference then check_model(request.model, request.version) end
  if is_inference then check_inference(request) end
end

core.register_fetches("check_request", function(txn)
  local check = txn:get_var("txn.grpc") and check_grpc or check_http
  local accepted, reason = pcall(check, txn.f, txn.f:req_body() or "")
  if accepted then return "accepted" end
  if type(reason) == "table" then return reason.sentence end
  core.Alert("check_request: " .. tostring(reason))
  return "the request could not be checked"
end)

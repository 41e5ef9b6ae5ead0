// Calls of the service's HTTP API. Every failure is an Error whose message can be shown.

let token = sessionStorage.getItem("token") ?? "";

export function setToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

export class NeedsToken extends Error {}

export async function call(method, path, { body, type, progress } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (type) headers["content-type"] = type;
  let response;
  try {
    response = await fetch(path, { method, headers, body });
  } catch {
    throw new Error("The service does not answer. Is lipsync-web still running?");
  }
  if (response.status === 401) throw new NeedsToken("The token is missing or wrong.");
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `The service answered ${response.status}.`);
  }
  return response;
}

export const json = async (method, path, options) => (await call(method, path, options)).json();
export const sdp = (path, body) => call("POST", path, { body, type: "application/sdp" });
export const blobUrl = async (path) => URL.createObjectURL(await (await call("GET", path)).blob());

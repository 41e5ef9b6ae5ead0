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

// Yield the data of server-sent events. EventSource cannot send a token. A stream that breaks is opened again.
export async function* events(path) {
  for (let broken = 0; broken < 20; broken += 1) {
    const reader = (await call("GET", path)).body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      while (true) {
        const { value, done } = await reader.read();
        if (done) return;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
          if (data.length) { yield JSON.parse(data.join("\n")); broken = 0; }
        }
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the connection was lost
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } finally {
      reader.cancel().catch(() => {});
    }
  }
  throw new Error("The connection to the service was lost.");
}

import { blobUrl, call, events, json, NeedsToken, setToken } from "./api.js";
import { LiveSession } from "./live.js";

const $ = (id) => document.getElementById(id);
const state = { avatar: null, iceServers: [], session: null, file: null, job: null, startedAt: 0 };
window.lipsync = state; // for those who look from the console

function say(message) {
  $("notice").textContent = message ?? "";
  $("notice").hidden = !message;
}

// Run what a control asks for; a failure is shown, a missing token is asked for.
async function run(work) {
  say(null);
  try {
    return await work();
  } catch (error) {
    if (error instanceof NeedsToken) { $("login").showModal(); return undefined; }
    say(error.message);
    return undefined;
  } finally {
    update();
  }
}

function update() {
  const live = state.session !== null;
  $("start").hidden = live;
  $("start").disabled = state.avatar === null;
  for (const id of ["microphone", "interrupt", "stop"]) $(id).disabled = !live;
  const speaking = Boolean(state.session?.microphone);
  $("microphone").setAttribute("aria-pressed", String(speaking));
  $("microphone").textContent = speaking ? "Stop the microphone" : "Speak with the microphone";
  $("speak").disabled = $("render").disabled = state.file === null || state.avatar === null;
  if (!live) {
    $("f-state").textContent = "off";
    for (const id of ["f-latency", "f-fps", "f-repeated"]) $(id).textContent = "–";
  }
}

async function load() {
  state.iceServers = (await json("GET", "v1/config")).ice_servers;
  const avatars = await json("GET", "v1/avatars");
  if (!avatars.length) throw new Error("The server has no avatar that is ready.");
  $("server").textContent = `${avatars.length} avatar${avatars.length > 1 ? "s" : ""} ready`;
  $("avatars").querySelectorAll("label").forEach((label) => label.remove());
  for (const { name } of avatars) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", value: name });
    const image = Object.assign(document.createElement("img"), { alt: "" });
    radio.onchange = () => run(() => choose(name));
    label.append(radio, image, name);
    $("avatars").append(label);
    if (state.avatar === null) { radio.checked = true; state.avatar = name; }
    blobUrl(`v1/avatars/${encodeURIComponent(name)}/thumbnail.jpg`).then((url) => {
      image.src = url;
      if (name === state.avatar) $("video").poster = url;
    }, () => {});
  }
}

async function choose(name) {
  state.avatar = name;
  const image = document.querySelector(`#avatars input[value="${CSS.escape(name)}"] + img`);
  $("video").poster = image.src;
  if (state.session) { await stop(); await start(); }
}

async function start() {
  if (state.session) return;
  const session = new LiveSession(state.avatar, $("video"), state.iceServers, (reason) => {
    say(reason);
    stop();
  });
  state.startedAt = performance.now();
  state.session = session;
  update();
  try {
    await session.open();
  } catch (error) {
    await stop();
    throw error;
  }
  poll(session);
}

async function stop() {
  const session = state.session;
  state.session = null;
  await session?.close();
  update();
}

async function poll(session) {
  while (state.session === session) {
    try {
      const { service, peer } = await session.figures();
      if (state.session !== session) return;
      if (service.ended) { say(service.error ?? "The session has ended."); await stop(); return; }
      if (service.error) say(service.error);
      const latency = service.latency_s === null ? null : service.latency_s + (peer.buffer_s ?? 0);
      $("f-state").textContent = service.idle ? "idle" : "speaking";
      $("f-latency").textContent = latency === null ? "–" : `${latency.toFixed(2)} s`;
      $("f-fps").textContent = peer.fps === undefined ? service.fps.toFixed(0) : String(peer.fps);
      $("f-repeated").textContent = `${service.repeated} of ${service.frames}`;
    } catch (error) {
      if (state.session === session) { say(error.message); await stop(); }
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function take(file) {
  state.file = file ?? null;
  $("chosen").textContent = file ? `${file.name} (${(file.size / 1e6).toFixed(1)} MB)` : "No file chosen.";
  update();
}

async function render() {
  const query = new URLSearchParams({ avatar: state.avatar });
  const job = await json("POST", `v1/jobs?${query}`, { body: state.file, type: "application/octet-stream" });
  state.job = job.id;
  $("job").hidden = false;
  $("download").hidden = true;
  $("cancel").hidden = false;
  show(job);
  for await (const now of events(`v1/jobs/${job.id}/events`)) {
    if (state.job !== job.id || now.status === undefined) return;
    show(now);
    if (now.status === "failed") { $("job").hidden = true; throw new Error(now.error); }
    if (now.status !== "done") continue;
    $("progress").value = 1;
    $("cancel").hidden = true;
    $("download").href = await blobUrl(`v1/jobs/${job.id}/video`);
    $("download").download = `${state.avatar}.mp4`;
    $("download").hidden = false;
    $("download").focus();
    return;
  }
}

function show(job) {
  if (job.progress === null) $("progress").removeAttribute("value");
  else $("progress").value = job.progress;
  const eta = job.eta_s === null ? "" : `, ${Math.ceil(job.eta_s)} s left`;
  $("job-text").textContent = job.status === "running"
    ? `${job.frames} of ${job.expected_frames ?? "?"} frames${eta}` : job.status;
}

$("start").onclick = () => run(start);
$("stop").onclick = () => run(stop);
$("interrupt").onclick = () => run(() => state.session.interrupt());
$("microphone").onclick = () => run(() =>
  state.session.microphone ? state.session.stopMicrophone() : state.session.startMicrophone());
$("speak").onclick = () => run(async () => { await start(); await state.session.say(state.file); });
$("render").onclick = () => run(render);
$("cancel").onclick = () => run(async () => {
  const job = state.job;
  state.job = null;
  $("job").hidden = true;
  await call("DELETE", `v1/jobs/${job}`);
});
$("file").onchange = () => take($("file").files[0]);
$("login").onclose = () => { setToken($("token").value); run(load); };
for (const type of ["dragenter", "dragover"]) {
  $("drop").addEventListener(type, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const type of ["dragleave", "drop"]) {
  $("drop").addEventListener(type, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
}
$("drop").addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
addEventListener("pagehide", () => { state.session?.close(); });
run(load);

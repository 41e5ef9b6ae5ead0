// A live session: one WebRTC connection to watch (WHEP), one for the microphone (WHIP).

import { call, json, sdp } from "./api.js";

const GATHERING_MS = 2000; // longest wait for ICE candidates; those found by then are enough

async function offerOf(connection) {
  await connection.setLocalDescription(await connection.createOffer());
  if (connection.iceGatheringState !== "complete") {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, GATHERING_MS);
      connection.addEventListener("icegatheringstatechange", () => {
        if (connection.iceGatheringState === "complete") { clearTimeout(timer); resolve(); }
      });
    });
  }
  return connection.localDescription.sdp;
}

export class LiveSession {
  constructor(avatar, video, iceServers, onEnd) {
    Object.assign(this, { avatar, video, iceServers, onEnd, microphone: null });
  }

  async open() {
    const supported = RTCRtpReceiver.getCapabilities("video").codecs;
    if (!supported.some((codec) => codec.mimeType.toLowerCase() === "video/h264")) {
      throw new Error("This browser cannot play H.264 over WebRTC.");
    }
    this.watching = new RTCPeerConnection({ iceServers: this.iceServers });
    this.watching.addTransceiver("video", { direction: "recvonly" });
    this.watching.addTransceiver("audio", { direction: "recvonly" });
    const stream = new MediaStream();
    this.watching.ontrack = ({ track }) => { stream.addTrack(track); this.video.srcObject = stream; };
    const begun = performance.now();
    this.video.requestVideoFrameCallback?.(() => { this.firstFrame_s = (performance.now() - begun) / 1000; });
    this.watching.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(this.watching.connectionState)) this.onEnd("The connection was lost.");
    };
    const answer = await sdp(`v1/avatars/${encodeURIComponent(this.avatar)}/whep`, await offerOf(this.watching));
    this.path = answer.headers.get("location").replace(/^\//, "");
    await this.watching.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    this.video.muted = false;
    // Not awaited: it ends with the first frame, and what keeps that from coming is to be shown before.
    this.video.play().catch(() => { this.video.muted = true; return this.video.play(); }).catch(() => {});
  }

  async startMicrophone() {
    if (!navigator.mediaDevices) {
      throw new Error("The browser gives the microphone only to pages on localhost or over HTTPS.");
    }
    let media;
    try {
      media = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true } });
    } catch (error) {
      throw new Error(error.name === "NotFoundError"
        ? "No microphone was found." : `The microphone cannot be used: ${error.message}`);
    }
    const speaking = new RTCPeerConnection({ iceServers: this.iceServers });
    this.microphone = { media, speaking };
    speaking.addTransceiver(media.getAudioTracks()[0], { direction: "sendonly" });
    const answer = await sdp(`${this.path}/whip`, await offerOf(speaking));
    await speaking.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  }

  async stopMicrophone() {
    if (!this.microphone) return;
    this.microphone.media.getTracks().forEach((track) => track.stop());
    this.microphone.speaking.close();
    this.microphone = null;
    await call("DELETE", `${this.path}/whip`);
  }

  say(file) { return json("POST", `${this.path}/audio`, { body: file }); }
  interrupt() { return call("POST", `${this.path}/interrupt`); }

  async figures() {
    const service = await json("GET", this.path);
    const peer = { decoded: 0, freezes: 0, first_frame_s: this.firstFrame_s };
    for (const entry of (await this.watching.getStats()).values()) {
      if (entry.type === "inbound-rtp" && entry.kind === "video") {
        peer.decoded = entry.framesDecoded ?? 0;
        peer.fps = entry.framesPerSecond;
        peer.freezes = entry.freezeCount ?? 0;
        peer.buffer_s = entry.jitterBufferEmittedCount ? entry.jitterBufferDelay / entry.jitterBufferEmittedCount : 0;
      }
    }
    return { service, peer };
  }

  async close() {
    this.onEnd = () => {};
    this.microphone?.media.getTracks().forEach((track) => track.stop());
    this.microphone?.speaking.close();
    this.watching?.close();
    this.video.srcObject = null;
    if (this.path) await call("DELETE", this.path).catch(() => {});
  }
}

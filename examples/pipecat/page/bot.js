// One peer connection: the microphone out, the avatar in, and a data channel for what is typed.

const $ = (selector) => document.querySelector(selector);
let channel;

const send = (message) => channel.send(JSON.stringify(message));
const say = (text) => { $("#notice").textContent = text; };

async function start() {
  $("#start").disabled = true;
  const peer = new RTCPeerConnection();
  channel = peer.createDataChannel("bot");
  channel.onopen = () => {
    $("#interrupt").disabled = $("#say button").disabled = false;
    say("Connected: speak, or type something.");
  };
  const stream = new MediaStream();
  $("#video").srcObject = stream;
  peer.ontrack = ({ track }) => stream.addTrack(track);
  peer.onconnectionstatechange = () => {
    if (["failed", "closed", "disconnected"].includes(peer.connectionState)) say("The bot is gone. Reload the page.");
  };
  // Pipecat takes the first section for audio and the second one for video.
  try {
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTransceiver(microphone.getAudioTracks()[0]);
  } catch {
    say("There is no microphone: the bot hears nothing.");
    peer.addTransceiver("audio");
  }
  peer.addTransceiver("video", { direction: "recvonly" });
  await peer.setLocalDescription();
  await new Promise((resolve) => {
    if (peer.iceGatheringState === "complete") resolve();
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
  });
  const response = await fetch("offer", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(peer.localDescription),
  });
  if (!response.ok) throw new Error(`The bot answered ${response.status}.`);
  await peer.setRemoteDescription(await response.json());
}

$("#start").onclick = () => start().catch((error) => say(error.message));
$("#interrupt").onclick = () => send({ type: "interrupt" });
$("#say").onsubmit = (event) => {
  event.preventDefault();
  send({ type: "say", text: $("#text").value });
  $("#text").value = "";
};

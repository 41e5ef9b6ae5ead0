// Record what the page's peer connection decodes: the mouth's region of each frame, the loudness of each 10 ms
// of audio, and which of them were shown and played at what time. Called with the region; `window.take()`
// returns what has come since the last call.
async ({ x, y, width, height }) => {
  const stream = document.getElementById("video").srcObject;
  const receivers = window.lipsync.session.watching.getReceivers();
  const fresh = () => ({ frames: [], crops: [], blocks: [], played: [] });
  const seen = fresh();

  async function each(track, use) {
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 250 }).readable.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      await use(value);
      value.close();
    }
  }

  // Note the time and the RTP timestamp of the latest frame shown and the latest packet played, ms.
  function note() {
    const latest = {};
    for (const receiver of receivers) {
      for (const { timestamp, rtpTimestamp } of receiver.getSynchronizationSources()) {
        latest[receiver.track.kind] = [timestamp - performance.timeOrigin, rtpTimestamp];
      }
    }
    if (latest.video && latest.audio) seen.played.push([...latest.video, ...latest.audio]);
  }

  each(stream.getVideoTracks()[0], async (frame) => {
    const rect = { x, y, width, height };
    const bytes = new Uint8Array(frame.allocationSize({ rect }));
    await frame.copyTo(bytes, { rect }); // the first plane is the grey
    seen.crops.push(btoa(String.fromCharCode(...bytes.subarray(0, width * height))));
    seen.frames.push(frame.metadata().rtpTimestamp);
  });
  each(stream.getAudioTracks()[0], (data) => {
    note();
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    seen.blocks.push([data.timestamp / 1000, Math.sqrt(power)]);
  });
  window.take = () => {
    const taken = { ...seen };
    Object.assign(seen, fresh());
    return taken;
  };
}

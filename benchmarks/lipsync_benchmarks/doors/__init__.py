"""The doors of the service, measured at their peers: WebRTC, a bot of Pipecat's, LiveKit, a browser."""

"""Render a video with audio, in one call.

python examples/library/render_to_file.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import sys

from lipsync_client import LipSyncClient

url, audio, avatar = sys.argv[1:]

with LipSyncClient(url) as client:
    summary = client.render_to_file(audio, "talk.mp4", avatar)

print(f"{summary.output}: {summary.frames} frames in {summary.seconds:.1f} s")

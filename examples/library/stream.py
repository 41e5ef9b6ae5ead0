"""Take the frames of a clip from one call of the server: here the first two seconds, as JPEG files.

The server cuts the clip, and stops when the loop is left. This needs gRPC, and sends the audio as a whole, so
long clips are for `render`.

    python examples/library/stream.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import sys
from contextlib import closing
from pathlib import Path

from lipsync_client import LipSyncClient, RenderOptions

url, audio, avatar = sys.argv[1:]
folder = Path("frames")
folder.mkdir(exist_ok=True)

with (
    LipSyncClient(url) as client,
    closing(client.stream(audio, avatar, RenderOptions("JPEG"))) as chunks,
):
    for chunk in chunks:
        for number, jpeg in enumerate(chunk.frames, start=chunk.start):
            (folder / f"{number:05}.jpg").write_bytes(jpeg)
        if chunk.start + len(chunk.frames) >= 50:
            break

print(f"{len(list(folder.iterdir()))} frames in {folder}")

"""The same frames from one call, here the first two seconds of them as pictures.

The server cuts the clip, and stops when the loop is left. gRPC only; the sound is sent as a whole, so for
long clips there is `render`.

    python examples/library/stream.py grpc://127.0.0.1:8001 examples/speech.wav demo
"""

import sys
from contextlib import closing
from pathlib import Path

from lipsync_client import LipSyncClient, RenderOptions

url, audio, avatar = sys.argv[1:]
folder = Path("pictures")
folder.mkdir(exist_ok=True)

with (
    LipSyncClient(url) as client,
    closing(client.stream(audio, avatar, RenderOptions("JPEG"))) as chunks,
):
    for chunk in chunks:
        for number, picture in enumerate(chunk.frames, start=chunk.start):
            (folder / f"{number:05}.jpg").write_bytes(picture)
        if chunk.start + len(chunk.frames) >= 50:
            break

print(f"{len(list(folder.iterdir()))} pictures in {folder}")

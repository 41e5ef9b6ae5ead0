"""List the avatars of a server.

python examples/library/avatars.py grpc://127.0.0.1:8001
"""

import sys

from lipsync_client import LipSyncClient

with LipSyncClient(sys.argv[1]) as client:
    for avatar in client.avatars():
        print(f"{avatar.name}: {avatar.width}x{avatar.height}, a loop of {avatar.frames} frames")

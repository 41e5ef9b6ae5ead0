"""Check that every model works, by asking each avatar for a frame.

The exit code is 1 if a model does not work. Several servers are URLs with commas between them.

    python examples/library/health.py grpc://127.0.0.1:8001
"""

import sys

from lipsync_client import LipSyncClient, ServerError

try:
    with LipSyncClient(sys.argv[1]) as client:
        states = client.health()
except ServerError as error:
    sys.exit(str(error))

for model, works in states.items():
    print(f"{model}: {'works' if works else 'does not work'}")
sys.exit(not all(states.values()))

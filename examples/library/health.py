"""Whether every model works, by asking each avatar for a frame: no word is taken for it.

Ends with 1 if one does not; URLs with commas between them are several servers.

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

"""From datasets and checkpoints to avatars in a model repository."""

import os

# ONNX Runtime 1.29 and later sends the names and hashes of models to its makers, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

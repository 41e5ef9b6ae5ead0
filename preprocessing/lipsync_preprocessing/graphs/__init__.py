"""ONNX graphs: a user's networks, and the graphs that Triton serves."""

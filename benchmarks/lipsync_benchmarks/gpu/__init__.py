"""Speed on a machine with an NVIDIA GPU: the network (plain, compiled, with TensorRT) and the service."""

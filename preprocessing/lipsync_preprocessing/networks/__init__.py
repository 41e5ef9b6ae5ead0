"""The contract's two networks: their layers, their ONNX graphs, and the checkpoints of the training code."""

from lipsync_preprocessing.networks.build import build_audio_encoder, build_generator

__all__ = ["build_audio_encoder", "build_generator"]

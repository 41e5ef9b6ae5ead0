"""TensorRT's options for the compiled generator and for the audio encoder."""

from __future__ import annotations

from collections.abc import Mapping

from lipsync_preprocessing.contract import AUDIO_SHAPE, FACE, FACE_INPUT_SHAPE, MEL_SHAPE

# Tensors where TensorRT's part of the compiled generator may begin. It takes no uint8 weights, so it does
# not begin at the inputs, and every tensor that enters it needs its shapes. The others are ignored.
GENERATOR_SHAPES: dict[str, tuple[int, ...]] = {
    "loop_index": (1,),
    "audio": AUDIO_SHAPE,
    "frame": (),
    "pixels": (3, FACE, FACE),
    "levels": (3, FACE, FACE),
    "face": (3, FACE, FACE),
    "masked": (3, FACE, FACE),
    "face_out": FACE_INPUT_SHAPE,
}
ENCODER_SHAPES: dict[str, tuple[int, ...]] = {"mel": MEL_SHAPE}
_WORKSPACE_BYTES = 4 << 30
# Smaller parts stay with CUDA: the arithmetic of the frame number is not worth an engine.
_SMALLEST_ENGINE_NODES = 20


def parameters(
    shapes: Mapping[str, tuple[int, ...]], largest_batch: int, engine_cache: str
) -> dict[str, str]:
    """Return the accelerator's parameters: FP16, batches from 1 to the largest, cached engines.

    Args:
        shapes: of the tensors that may enter TensorRT, without the batch.
        largest_batch: the model's max_batch_size.
        engine_cache: folder for engines and timings.
    """
    return {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": str(_WORKSPACE_BYTES),
        "trt_min_subgraph_size": str(_SMALLEST_ENGINE_NODES),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": engine_cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": engine_cache,
        "trt_profile_min_shapes": _shapes(shapes, 1),
        "trt_profile_opt_shapes": _shapes(shapes, max(1, largest_batch // 2)),
        "trt_profile_max_shapes": _shapes(shapes, largest_batch),
    }


def _shapes(shapes: Mapping[str, tuple[int, ...]], batch: int) -> str:
    texts = {name: "x".join(map(str, (batch, *shape))) for name, shape in shapes.items()}
    return ",".join(f"{name}:{text}" for name, text in texts.items())

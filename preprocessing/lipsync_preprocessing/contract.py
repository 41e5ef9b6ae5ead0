"""The numbers of the model contract (docs/contract.md): shapes, sizes in pixels, and the mask.

Shapes are without the batch. Images are uint8 (height, width, 3) BGR; tensors are channels first.
"""

from __future__ import annotations

FRAME_RATE = 25  # video frames per second

CROP = 328  # side of the square that a face rectangle is resized to, pixels
FACE = 320  # side of the square that the generator takes and returns, pixels
BORDER = (CROP - FACE) // 2  # pixels of the crop on each side of the face; they stay original

# The part of the face that the generator must not see is black: x 5…314, y 5…309, inclusive.
MASK_COLUMNS = slice(5, 315)
MASK_ROWS = slice(5, 310)

FACE_INPUT_SHAPE = (6, FACE, FACE)  # the face and the masked face, 0…1
FACE_OUTPUT_SHAPE = (3, FACE, FACE)  # 0…1

WINDOW = 16  # embeddings that a frame depends on
EMBEDDING = 512  # numbers in an embedding
AUDIO_SHAPE = (32, 16, 16)  # WINDOW embeddings, reshaped row-major
MEL_SHAPE = (1, 80, 16)  # one mel window

# Parsing colours (BGR) where the original pixel stays.
KEPT_COLOURS = ((0, 0, 255), (255, 255, 255))

# Triton release whose native ONNX Runtime backend sets the limits below: it carries ONNX Runtime 1.19.
SERVER_RELEASE = "24.10"
NEWEST_IR_VERSION = 10
NEWEST_OPSET = 21
# Gather of uint8 and negative indices; every export of the training code is newer or equal.
OLDEST_OPSET = 11

"""The dataset folder of a trained avatar: frames, face rectangles, parsing masks."""

from lipsync_preprocessing.dataset.layout import read_dataset
from lipsync_preprocessing.dataset.types import Dataset, DatasetOptions, Frame

__all__ = ["Dataset", "DatasetOptions", "Frame", "read_dataset"]

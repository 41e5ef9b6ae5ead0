"""The model repository that the commands use: made of the models and the demo avatar in this package."""

from lipsync_preprocessing.bundle.locating import default_repository, find_repository
from lipsync_preprocessing.bundle.making import make_repository

__all__ = ["default_repository", "find_repository", "make_repository"]

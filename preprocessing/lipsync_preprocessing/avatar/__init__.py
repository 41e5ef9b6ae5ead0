"""Avatars in a model repository: added, updated, removed, inspected, tried."""

from lipsync_preprocessing.avatar.adding import add_avatar, fill_template
from lipsync_preprocessing.avatar.removing import models_of, remove_avatar
from lipsync_preprocessing.avatar.updating import (
    add_student,
    prune_versions,
    remove_students,
    roll_back,
    update_generator,
)

__all__ = [
    "add_avatar",
    "add_student",
    "fill_template",
    "models_of",
    "prune_versions",
    "remove_avatar",
    "remove_students",
    "roll_back",
    "update_generator",
]

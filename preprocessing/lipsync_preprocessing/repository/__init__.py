"""The Triton model repository on disk: avatars, their configs, and changes to them."""

from lipsync_preprocessing.repository import configs
from lipsync_preprocessing.repository.config_files import (
    read_config,
    set_parameter,
    step_with_input,
    write_config,
)
from lipsync_preprocessing.repository.names import (
    COMPOSITOR,
    CONFIG,
    CONFIGS,
    GENERATOR,
    PACK,
    RAW,
    check_name,
)
from lipsync_preprocessing.repository.repository import InstalledAvatar, Repository, profiles_of
from lipsync_preprocessing.repository.students import STUDENT_CARD, Student, width_name

__all__ = [
    "COMPOSITOR",
    "CONFIG",
    "CONFIGS",
    "GENERATOR",
    "PACK",
    "RAW",
    "STUDENT_CARD",
    "InstalledAvatar",
    "Repository",
    "Student",
    "check_name",
    "configs",
    "profiles_of",
    "read_config",
    "set_parameter",
    "step_with_input",
    "width_name",
    "write_config",
]

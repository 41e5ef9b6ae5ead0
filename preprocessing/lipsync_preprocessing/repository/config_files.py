"""Reading and writing Triton model configs through their protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelEnsembling

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository.names import CONFIG


def read_config(path: Path) -> ModelConfig:
    """Return the config of a file; raise RepositoryError if it is none."""
    try:
        return text_format.Parse(path.read_text(), ModelConfig())
    except OSError as error:
        raise RepositoryError(f"{path}: cannot be read: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path}: expected a Triton model config: {error}") from error


def write_config(directory: Path, config: ModelConfig) -> None:
    """Write a config as text into a model's directory."""
    text = f"# Written by lipsync-avatar.\n{text_format.MessageToString(config)}"
    (directory / CONFIG).write_text(text)


def step_with_input(config: ModelConfig, tensor: str) -> ModelEnsembling.Step:
    """Return the ensemble's step that takes an input of this name."""
    for step in config.ensemble_scheduling.step:
        if tensor in step.input_map:
            return step
    raise RepositoryError(f"{config.name}: expected an ensemble with a step that takes {tensor!r}")


def set_parameter(config: ModelConfig, name: str, value: object) -> None:
    """Set a parameter of a config."""
    config.parameters[name].string_value = str(value)

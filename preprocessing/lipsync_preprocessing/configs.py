"""The configs of a new avatar's models: the template's, changed through the protobuf."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.networks import AUDIO_SHAPE
from lipsync_preprocessing.onnx_models import FACE_INPUT_SHAPE, FACE_OUTPUT_SHAPE
from lipsync_preprocessing.repository import (
    COMPOSITOR,
    GENERATOR,
    RAW,
    Repository,
    set_parameter,
    step_with_input,
    write_config,
)

FRAMES_OUTPUT = "FRAMES"
_LONGEST_SILENCE_S = 0.23  # the 0.35 s that `mel` tells of, less the easing


@dataclass(frozen=True)
class PasteOptions:
    """How the compositor pastes. All off is the contract's hard paste.

    Attributes:
        paste_feather_px: width of the soft edge of the patch, pixels of the 320 square.
        paste_colour_match: match the patch to the original rim.
        paste_silence_db: where the sound stays below this level, dB of full scale, the mouth eases to the
            avatar's own frame.
        paste_silence_after_s: how long it must be silent before and after; 0.2 if not given.
    """

    paste_feather_px: float | None = None
    paste_colour_match: bool = False
    paste_silence_db: float | None = None
    paste_silence_after_s: float | None = None

    def __post_init__(self) -> None:
        feather = self.paste_feather_px
        if feather is not None and not 0 <= feather <= 160:
            raise RepositoryError(f"feather: expected 0 to 160 pixels, got {feather}")
        level, after = self.paste_silence_db, self.paste_silence_after_s
        if level is not None and not -100 <= level <= 0:
            raise RepositoryError(
                f"silence gate: expected -100 to 0 dB of full scale, got {level:g}"
            )
        if after is not None and level is None:
            raise RepositoryError("silence after: expected a silence gate with it, got none")
        if after is not None and not 0.05 <= after <= _LONGEST_SILENCE_S:
            raise RepositoryError(
                f"silence after: expected 0.05 to {_LONGEST_SILENCE_S} s, what a request hears about a frame;"
                f" got {after:g}"
            )

    def parameters(self) -> dict[str, str]:
        """The options that are on, as config parameters."""
        chosen = {k: v for k, v in asdict(self).items() if v is not None and v is not False}
        return {k: "1" if v is True else f"{v:g}" for k, v in chosen.items()}


def write_generator(store: Repository, template: str, name: str, directory: Path) -> None:
    """NAME_generator's config."""
    config = store.config(template + GENERATOR)
    config.name = name + GENERATOR
    write_config(directory, config)


def write_compositor(
    store: Repository,
    template: str,
    name: str,
    directory: Path,
    size: tuple[int, int],
    paste: PasteOptions | None,
) -> None:
    """NAME_compositor's config; the template's own paste options don't pass on."""
    config = store.config(template + COMPOSITOR)
    config.name = name + COMPOSITOR
    _set_frame_size(config, size)
    for option in asdict(PasteOptions()):
        config.parameters.pop(option, None)
    for option, value in (paste or PasteOptions()).parameters().items():
        set_parameter(config, option, value)
    write_config(directory, config)


def write_ensemble(
    store: Repository,
    template: str,
    name: str,
    directory: Path,
    encoder: str,
    frames: int,
    size: tuple[int, int],
) -> None:
    """NAME's config, wired to its own models and its audio encoder."""
    config = store.config(template)
    config.name = name
    _set_frame_size(config, size)
    step_with_input(config, "mel").model_name = encoder
    for suffix in (GENERATOR, COMPOSITOR):
        own = [s for s in config.ensemble_scheduling.step if s.model_name == template + suffix]
        if not own:
            raise RepositoryError(
                f"{template}: expected an ensemble with {template + suffix} in it"
            )
        for step in own:
            step.model_name = name + suffix
    for key, value in (("avatar_frames", frames), ("width", size[0]), ("height", size[1])):
        set_parameter(config, key, value)
    write_config(directory, config)


def write_raw(store: Repository, template: str, name: str, directory: Path) -> None:
    """NAME_raw's config: the generator's, with the contract's float tensors."""
    config = store.config(template + GENERATOR)
    config.name = name + RAW
    inputs = {"input": FACE_INPUT_SHAPE, "audio": AUDIO_SHAPE}
    fp32 = config.input[1].data_type
    del config.input[:]
    del config.output[:]
    for tensor, shape in inputs.items():
        config.input.add(name=tensor, data_type=fp32, dims=shape)
    config.output.add(name="output", data_type=fp32, dims=FACE_OUTPUT_SHAPE)
    for warmup in config.model_warmup:
        warmup.inputs.clear()
        for tensor, shape in inputs.items():
            sample = warmup.inputs[tensor]
            sample.data_type, sample.zero_data = fp32, True
            sample.dims.extend(shape)
    write_config(directory, config)


def _set_frame_size(config: Any, size: tuple[int, int]) -> None:
    """The config's FRAMES output as [-1, height, width, 3]."""
    output = next((o for o in config.output if o.name == FRAMES_OUTPUT), None)
    if output is None:
        raise RepositoryError(f"{config.name}: expected an output {FRAMES_OUTPUT} in its config")
    del output.dims[:]
    output.dims.extend((-1, size[1], size[0], 3))

"""The configs of a new avatar's models: the template's, changed through the protobuf."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from lipsync_preprocessing.contract import AUDIO_SHAPE, FACE, FACE_INPUT_SHAPE, FACE_OUTPUT_SHAPE
from lipsync_preprocessing.errors import RepositoryError
from lipsync_preprocessing.repository.config_files import (
    set_parameter,
    step_with_input,
    write_config,
)
from lipsync_preprocessing.repository.names import COMPOSITOR, GENERATOR, RAW
from lipsync_preprocessing.repository.repository import Repository

_WIDEST_FEATHER_PX = FACE // 2
_SHORTEST_SILENCE_S = 0.05
_LONGEST_SILENCE_S = 0.23  # `mel` reports the level 0.35 s about a frame; the easing takes the rest


@dataclass(frozen=True)
class PasteOptions:
    """Options of the paste, under the names of the compositor's config parameters.

    With all of them off, the patch is pasted as the contract says.

    Attributes:
        paste_feather_px: width of the patch's soft edge, pixels of the 320 square.
        paste_colour_match: match the patch's colours to the original rim.
        paste_silence_db: where the audio stays below this level, dB of full scale, the mouth eases to the
            avatar's own frame.
        paste_silence_after_s: silence that this needs before and after, seconds; 0.2 if not given.

    Raises:
        RepositoryError: an option is out of its range.
    """

    paste_feather_px: float | None = None
    paste_colour_match: bool = False
    paste_silence_db: float | None = None
    paste_silence_after_s: float | None = None

    def __post_init__(self) -> None:
        feather = self.paste_feather_px
        if feather is not None and not 0 <= feather <= _WIDEST_FEATHER_PX:
            raise RepositoryError(
                f"feather: expected 0 to {_WIDEST_FEATHER_PX} pixels, got {feather}"
            )
        level, after = self.paste_silence_db, self.paste_silence_after_s
        if level is not None and not -100 <= level <= 0:
            raise RepositoryError(
                f"silence gate: expected -100 to 0 dB of full scale, got {level:g}"
            )
        if after is not None and level is None:
            raise RepositoryError("silence after: expected a silence gate with it, got none")
        if after is not None and not _SHORTEST_SILENCE_S <= after <= _LONGEST_SILENCE_S:
            raise RepositoryError(
                f"silence after: expected {_SHORTEST_SILENCE_S} to {_LONGEST_SILENCE_S} s, the audio about"
                f" a frame that a request has; got {after:g}"
            )

    def parameters(self) -> dict[str, str]:
        """Return the options that are on, as config parameters."""
        chosen = {k: v for k, v in asdict(self).items() if v is not None and v is not False}
        return {k: "1" if v is True else f"{v:g}" for k, v in chosen.items()}


def write_generator(store: Repository, template: str, name: str, directory: Path) -> None:
    """Write the config of NAME_generator."""
    config = store.config(template + GENERATOR)
    config.name = name + GENERATOR
    config.ClearField("version_policy")  # it names the template's own versions
    write_config(directory, config)


def write_compositor(
    store: Repository,
    template: str,
    name: str,
    directory: Path,
    size: tuple[int, int],
    paste: PasteOptions | None,
) -> None:
    """Write the config of NAME_compositor; it does not get the template's own paste options."""
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
    """Write the config of NAME, connected to its own models and its audio encoder."""
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
    """Write the config of NAME_raw: the generator's, with the contract's float tensors."""
    config = store.config(template + GENERATOR)
    config.name = name + RAW
    config.ClearField("version_policy")
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


def _set_frame_size(config: ModelConfig, size: tuple[int, int]) -> None:
    """Set the shapes of the config's raw outputs: FRAMES is BGR; I420 has even sides."""
    width, height = size
    shapes = {
        "FRAMES": (-1, height, width, 3),
        "I420": (-1, (height & ~1) * 3 // 2, width & ~1),
    }
    outputs = {output.name: output for output in config.output}
    for name, shape in shapes.items():
        if name not in outputs:
            raise RepositoryError(f"{config.name}: expected an output {name} in its config")
        del outputs[name].dims[:]
        outputs[name].dims.extend(shape)

"""The choice of an output's audio track: the clip's own packets, or its samples encoded."""

from __future__ import annotations

from .._audio import AudioFile
from .._errors import InputError
from .copied_audio import CopiedAudio
from .encoded_audio import EncodedAudio
from .formats import FormatError, OutputFormat


def audio_track_for(output_format: OutputFormat, source: AudioFile) -> CopiedAudio | EncodedAudio:
    """Return the audio track that an output format with audio gets from a clip.

    Raises:
        FormatError: the audio mode is "copy" and the container cannot hold this codec.
        InputError: the audio mode is "copy" and the packets' times do not follow the samples.
    """
    spec = output_format.spec
    check_copy(output_format, source)
    if output_format.audio != "aac" and source.codec in spec.audio_codecs:
        try:
            return CopiedAudio(source.path)
        except InputError:
            if output_format.audio == "copy":
                raise
    assert spec.audio_encoder is not None
    return EncodedAudio(spec.audio_encoder, source.sample_rate, source.layout)


def check_copy(output_format: OutputFormat, source: AudioFile) -> None:
    """Raise FormatError if the audio is to be copied and the container cannot hold its codec."""
    if output_format.audio == "copy" and source.codec not in output_format.spec.audio_codecs:
        raise FormatError(
            f"{source.path}: the audio is {source.codec}, and {output_format.name} holds only"
            f" {', '.join(sorted(output_format.spec.audio_codecs))} unchanged; the audio mode auto encodes it"
        )

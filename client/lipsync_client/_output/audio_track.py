"""The choice of an output's audio track: the clip's own packets, or its samples encoded."""

from __future__ import annotations

from .._audio import AudioFile
from .._errors import InputError
from .copied_audio import CopiedAudio
from .encoded_audio import EncodedAudio
from .formats import FormatError, OutputFormat

# Audio that browsers play: with AC-3 or ALAC, a video would play without audio in most of them.
_BROWSER_CODECS = frozenset({"aac", "mp3", "opus", "flac"})
_BROWSER_AAC_PROFILES = ("LC", "HE-AAC", "HE-AACv2", None)


def audio_track_for(output_format: OutputFormat, source: AudioFile) -> CopiedAudio | EncodedAudio:
    """Return the audio track that an output format with audio gets from a clip.

    Raises:
        FormatError: the audio mode is "copy" and the container cannot hold this codec.
        InputError: the audio mode is "copy" and the packets' times do not follow the samples.
    """
    spec = output_format.spec
    check_copy(output_format, source)
    mode = output_format.audio
    if mode == "copy" or (mode == "auto" and _can_be_copied(output_format, source)):
        try:
            return CopiedAudio(source.path, source.track)
        except InputError:
            if mode == "copy":
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


def _can_be_copied(output_format: OutputFormat, source: AudioFile) -> bool:
    """Return whether the container holds the audio unchanged and browsers play it."""
    if source.codec == "aac" and source.profile not in _BROWSER_AAC_PROFILES:
        return False
    return source.codec in output_format.spec.audio_codecs & _BROWSER_CODECS

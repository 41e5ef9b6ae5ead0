"""Export the trained checkpoints as the ONNX files that are committed.

python export.py WORK ../weights
"""

from __future__ import annotations

from pathlib import Path

import click
import onnx

from lipsync_preprocessing.networks.checkpoint import export_audio_encoder, export_generator


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
def main(work: Path, weights: Path) -> None:
    """Write generator.onnx and audio_encoder.onnx."""
    weights.mkdir(exist_ok=True)
    onnx.save(export_generator(work / "generator.pth"), str(weights / "generator.onnx"))
    onnx.save(export_audio_encoder(work / "audio_encoder.pth"), str(weights / "audio_encoder.onnx"))


if __name__ == "__main__":
    main()

"""lipsync-avatar: avatars in a Triton model repository.

Exit codes: 0 success, 1 failure (one line on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import click

from lipsync_preprocessing.commands.add import add
from lipsync_preprocessing.commands.check import check
from lipsync_preprocessing.commands.create import create
from lipsync_preprocessing.commands.dataset import dataset
from lipsync_preprocessing.commands.distil import distil
from lipsync_preprocessing.commands.inspect import inspect
from lipsync_preprocessing.commands.list import list_avatars
from lipsync_preprocessing.commands.remove import remove
from lipsync_preprocessing.commands.train import train
from lipsync_preprocessing.commands.tune import tune
from lipsync_preprocessing.commands.update import update


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="lipsync-triton")
def main() -> None:
    """Make avatars of recordings, add them to a Triton model repository, and look after them."""


for _command in (
    create,
    dataset,
    train,
    add,
    list_avatars,
    remove,
    check,
    inspect,
    update,
    tune,
    distil,
):
    main.add_command(_command)

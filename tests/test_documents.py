"""The commands in the documents are commands that exist, with options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lipsync_client._cli.main import main as client
from lipsync_embedded.cli import main as server
from lipsync_preprocessing.cli import main as avatar
from lipsync_web.cli import main as web
from support.toy_avatars import ROOT

COMMANDS = {
    "lipsync-client": client,
    "lipsync-avatar": avatar,
    "lipsync-server": server,
    "lipsync-web": web,
}
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def commands(text: str) -> Iterator[list[str]]:
    """Yield our own commands of the shell blocks, each as its arguments."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in re.sub(r"\\\n|(?<=\|)\n", " ", block).splitlines():
            words = shlex.split(line, comments=True)
            for at, word in enumerate(words):
                if word in COMMANDS:
                    rest = words[at:]
                    ends = [n for n, w in enumerate(rest) if w in ("|", "&", "&&", ">", "2>")]
                    yield rest[: min(ends, default=len(rest))]


def parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Let click check arguments as it does before it runs a command."""
    with command.make_context(name, list(arguments)) as context:
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if isinstance(command, click.Group) and (rest or not command.invoke_without_command):
            found, inner, rest = command.resolve_command(context, rest)
            assert inner is not None
            parse(inner, str(found), rest)


FOUND = [words for page in PAGES for words in commands(page.read_text())]


@pytest.mark.parametrize("words", FOUND, ids=" ".join)
def test_a_command_in_a_document(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The examples' files do not exist here.
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _ctx: Path(value))
    parse(COMMANDS[words[0]], words[0], words[1:])


def test_there_are_commands() -> None:
    assert len(FOUND) > 20

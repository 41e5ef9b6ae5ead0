"""The benchmarks' commands: python -m lipsync_benchmarks COMMAND, with benchmarks/ on PYTHONPATH."""

from __future__ import annotations

import importlib

import click

# Command: module with the function `main`, and help. A module is imported only for the command that runs, so
# that an environment needs only what that command uses.
COMMANDS = {
    "report": ("report", "Measure everything and write the page (about an hour on 2 cores)."),
    "quick": ("quick", "Measure a few short rows and compare them with the kept ratios."),
    "memory": ("memory", "Measure the memory of each process, and its parts."),
    "sessions": ("sessions", "Measure the number of live sessions that this machine carries."),
    "quality": ("quality", "Compare engines and students with an avatar's own generator."),
    "live": ("live", "Measure live sessions as a conversation has them."),
    "doors": ("doors.command", "Measure WebRTC, a bot, LiveKit and the page with real peers."),
    "gpu": ("gpu.command", "Measure the network and the service on an NVIDIA GPU."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lipsync_benchmarks.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.main
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup)
def main() -> None:
    """Benchmarks of the lip-sync service."""


if __name__ == "__main__":
    main(prog_name="python -m lipsync_benchmarks")

"""The place of a result: what may be replaced, what is refused and stays, what killed processes left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lipsync_client import OutputError
from lipsync_client._output.files import check_output_path, is_pipe, open_output_path
from lipsync_client._output.pipe import Pipe


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder, with the contents of the files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def write_file(path: Path, *, force: bool = False, data: bytes = b"new") -> None:
    check_output_path(path, force=force)
    with open_output_path(path, force=force) as target:
        assert isinstance(target, Path)
        target.write_bytes(data)


def write_images(path: Path, count: int, *, force: bool = False) -> None:
    check_output_path(path, folder=True, force=force)
    with open_output_path(path, folder=True, force=force) as target:
        assert isinstance(target, Path)
        for n in range(count):
            (target / f"{n:06d}.png").write_bytes(b"image")


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force replaces it"):
        write_file(path)
    assert path.read_bytes() == b"old"
    write_file(path, force=True)
    assert snapshot(tmp_path) == {"out.mp4": b"new"}


def test_the_images_of_an_earlier_render_are_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    write_images(path, 5)
    with pytest.raises(OutputError, match="--force replaces them"):
        write_images(path, 3)
    write_images(path, 3, force=True)
    assert sorted(snapshot(tmp_path)) == ["frames", *(f"frames/{n:06d}.png" for n in range(3))]
    empty = tmp_path / "empty"
    empty.mkdir()
    write_images(empty, 1)
    assert sorted(snapshot(empty)) == ["000000.png"]


FOREIGN = {
    "photos": ["IMG_0001.jpg", "IMG_0002.jpg"],
    "one file more": ["000000.png", "000001.png", "notes.txt"],
    "a subfolder": ["000000.png", "000001.png/deep/file"],
    "a gap": ["000000.png", "000002.png"],
    "counted from 1": ["000001.jpg", "000002.jpg"],
    "two kinds": ["000000.png", "000001.jpg"],
    "another kind": ["000000.tif"],
    "a hidden file": ["000000.png", ".git"],
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_with_anything_else_is_untouched(tmp_path: Path, name: str, force: bool) -> None:
    folder = tmp_path / "folder"
    for entry in FOREIGN[name]:
        (folder / entry).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry).write_bytes(b"precious")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="not from a render: nothing in it is touched"):
        write_images(folder, 2, force=force)
    assert snapshot(tmp_path) == before


def test_a_folder_with_a_link_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious.png").write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "000000.png").symlink_to(tmp_path / "precious.png")
    with pytest.raises(OutputError, match="not from a render"):
        write_images(folder, 2, force=True)
    assert (folder / "000000.png").is_symlink()


@pytest.mark.parametrize("path", [".", "..", "../..", "/", "sub/..", "sub/../../work"])
def test_the_current_directory_and_its_parents_are_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "work" / "sub").mkdir(parents=True)
    (tmp_path / "work" / "sub").rmdir()  # so that the current directory is empty
    monkeypatch.chdir(tmp_path / "work")
    if path.startswith("sub"):
        (tmp_path / "work" / "sub").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="holds the current directory"):
        write_images(Path(path), 2, force=True)
    assert snapshot(tmp_path) == before


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"precious")
    before = snapshot(tmp_path)
    for path in (tmp_path / "folder", tmp_path / "file/..", tmp_path):
        with pytest.raises(OutputError, match=r"is a folder; name a file in it|cannot be written"):
            write_file(path, force=True)
    with pytest.raises(OutputError, match="is a file; the images need a folder"):
        write_images(tmp_path / "file", 2, force=True)
    assert snapshot(tmp_path) == before


def test_a_link_stands_for_its_target(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere/real.mp4", tmp_path / "link.mp4"
    link.symlink_to(target)
    write_file(link)  # to a file that does not exist yet
    with pytest.raises(OutputError, match="exists already"):
        write_file(link)
    write_file(link, force=True, data=b"newer")
    assert link.is_symlink()
    assert target.read_bytes() == b"newer"
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    with pytest.raises(OutputError, match=r"loop\.mp4 cannot be written"):
        write_file(loop, force=True)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(OutputError, match="neither a file nor a folder nor a pipe"):
            write_file(Path("socket"), force=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/out.mp4", "the directory .*no does not exist"),
        ("https://example.org/out.mp4", "is a URL"),
        ("file/out.mp4", "the directory .*file does not exist"),
        ("x" * 256, "cannot be written: File name too long"),
        ("zero\0byte", "cannot be written"),
    ],
)
def test_paths_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(OutputError, match=message):
        write_file(Path(path), force=True)


@pytest.mark.parametrize(
    "name", ["a b.mp4", "a:b.mp4", "-.mp4", "%d.mp4", "ä.mp4", "x" * 251 + ".mp4"]
)
def test_unusual_names(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name)
    write_file(tmp_path / name, force=True, data=b"newer")
    assert snapshot(tmp_path) == {name: b"newer"}


def test_a_result_never_replaces_what_came_meanwhile(tmp_path: Path) -> None:
    path, folder = tmp_path / "out.mp4", tmp_path / "frames"
    with (
        pytest.raises(OutputError, match="exists already"),
        open_output_path(path),
    ):
        path.write_bytes(b"precious")
    with (  # noqa: PT012
        pytest.raises(OutputError, match=r"holds 'notes.txt', which is not from a render"),
        open_output_path(folder, folder=True, force=True),
    ):
        folder.mkdir()
        (folder / "notes.txt").write_bytes(b"precious")
    assert snapshot(tmp_path) == {
        "out.mp4": b"precious", "frames": None, "frames/notes.txt": b"precious",
    }  # fmt: skip


def test_nothing_stays_of_a_failed_result(tmp_path: Path) -> None:
    for folder in (False, True):
        with (
            pytest.raises(KeyboardInterrupt),
            open_output_path(tmp_path / "out", folder=folder),
        ):
            raise KeyboardInterrupt
    assert snapshot(tmp_path) == {}


WRITE_AND_WAIT = """
import sys
from pathlib import Path
from lipsync_client._output.files import open_output_path
with open_output_path(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as target:
    (target / "000000.png" if sys.argv[2] == "folder" else target).write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_partial_results_of_killed_processes_are_deleted(tmp_path: Path, kind: str) -> None:
    """Those of processes that run stay, and their results appear."""

    def start(path: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_AND_WAIT, str(path), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        return process

    def partial() -> set[str]:
        return {p.name for p in tmp_path.iterdir() if "partial" in p.name}

    foreign = tmp_path / ".photos.partial"
    foreign.write_bytes(b"precious")
    killed = start(tmp_path / "killed")
    killed.kill()
    killed.communicate()
    left = partial() - {foreign.name}
    assert len(left) == 1
    running = start(tmp_path / "running")
    assert len(partial() - {foreign.name} - left) == 1
    assert not left & partial()
    write_file(tmp_path / "other.mp4")
    assert len(partial() - {foreign.name}) == 1
    running.communicate(b"")
    assert running.returncode == 0
    assert partial() == {foreign.name}
    assert (tmp_path / "running").exists()


def test_fifos_and_devices_are_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert is_pipe(fifo)
    assert is_pipe(Path("/dev/null"))
    received = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    with open_output_path(fifo, force=True) as target:
        assert isinstance(target, Pipe)
        reader.start()
        target.write(b"x" * 200_000)
    reader.join(60)
    assert received == [b"x" * 200_000]
    with open_output_path(Path("/dev/null"), force=True) as target:
        assert isinstance(target, Pipe)
        target.write(b"x" * 200_000)
    assert is_pipe(fifo)
    assert is_pipe(Path("/dev/null"))


def test_a_fifo_without_a_reader_can_be_given_up(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    errors: list[OutputError] = []

    def write(pipe: Pipe) -> None:
        try:
            pipe.write(b"x")
        except OutputError as e:
            errors.append(e)

    pipe = Pipe(fifo)
    writer = threading.Thread(target=write, args=(pipe,))
    writer.start()
    pipe.stop()
    writer.join(60)
    assert [str(e) for e in errors] == ["the write was stopped"]

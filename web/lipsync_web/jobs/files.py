"""The files of jobs: uploads, chunks of unfinished renders and videos, in a folder or in an object store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .settings import JobSettings

_BLOCK = 1 << 20  # bytes that are read at once
_CHUNKS = ".{}.chunks"  # the client's folder beside a file that is being rendered


class FilesUnreachable(Exception):
    """The object store does not answer, or refuses."""


class JobFiles:
    """The files of all jobs.

    Those of a job are in a folder of its id: `audio`, the video, and while it is rendered the chunks that are
    made. In an object store the chunks are in `chunks/`, so that a worker on another machine can continue.

    Args:
        settings: where the files are.

    Attributes:
        local: whether the files are in a folder, which all workers share.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._work = settings.root / "work"
        url = settings.files or str(settings.root / "files")
        self.local = "://" not in url or url.startswith("file://")
        if self.local:
            self._folder = Path(url.removeprefix("file://"))
            self._folder.mkdir(parents=True, exist_ok=True)
            self._work = self._folder
        else:
            import fsspec

            try:
                self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
            except ImportError as e:
                raise FilesUnreachable(f"{url} needs a package that is not installed: {e}") from e
            self._root = str(root).rstrip("/")

    def put_audio(self, key: str, path: Path) -> None:
        """Keep an upload; the file at `path` is moved or copied.

        Raises:
            FilesUnreachable: the object store fails.
        """
        if self.local:
            (self._folder / key).mkdir()
            shutil.move(path, self._folder / key / "audio")
        else:
            self._remote(self._fs.put_file, str(path), self._name(key, "audio"))

    def begin(self, key: str, attempt: int) -> tuple[Path, Path]:
        """Return the upload, and the folder of an attempt, which has the chunks of earlier ones.

        The chunks are moved, so a worker that was taken for dead and goes on finds its folder gone.

        Raises:
            FilesUnreachable: the object store fails.
            OSError: the folder cannot be made.
        """
        job = self._work / key
        folder = job / f"attempt-{attempt}"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(job.glob("attempt-*")):
            if old != folder:
                _move_chunks(old, folder)
                shutil.rmtree(old, ignore_errors=True)
        audio = job / "audio"
        if not self.local:
            if not audio.exists():
                part = folder / "audio"
                self._remote(self._fs.get_file, self._name(key, "audio"), str(part))
                part.replace(audio)
            self._fetch_chunks(key, folder)
        return audio, folder

    def keep_chunks(self, key: str, video: Path, kept: set[str]) -> None:
        """Copy the chunks of a render that is not complete to the object store; `kept` names those there.

        Raises:
            FilesUnreachable: the object store fails.
        """
        if self.local:
            return
        for path in _chunk_folder(video).glob("*.response"):
            if path.name not in kept:
                with suppress(FileNotFoundError):  # the render is complete meanwhile
                    self._remote(self._fs.put_file, str(path), self._name(key, "chunks", path.name))
                kept.add(path.name)

    def publish(self, key: str, video: Path) -> None:
        """Put a complete video in its place and delete what its render left.

        Raises:
            FilesUnreachable: the object store fails.
            OSError: the attempt's folder is gone, because another worker has taken over.
        """
        name = f"video{video.suffix}"
        if self.local:
            video.replace(self._folder / key / name)
        else:
            self._remote(self._fs.put_file, str(video), self._name(key, name))
            with suppress(FilesUnreachable, FileNotFoundError):
                self._remote(self._fs.rm, self._name(key, "chunks"), recursive=True)
        self.end(key)

    def end(self, key: str) -> None:
        """Delete the attempts of a job on this machine."""
        for folder in (self._work / key).glob("attempt-*"):
            shutil.rmtree(folder, ignore_errors=True)
        if not self.local:
            shutil.rmtree(self._work / key, ignore_errors=True)

    def leave(self, key: str, attempt: int) -> None:
        """Delete the folder of an attempt that another worker has taken over from."""
        shutil.rmtree(self._work / key / f"attempt-{attempt}", ignore_errors=True)

    def read_video(self, key: str, suffix: str, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a video from `begin` to before `end`.

        Raises:
            FilesUnreachable: the object store fails.
            FileNotFoundError: the video was deleted.
        """
        if self.local:
            with (self._folder / key / f"video{suffix}").open("rb") as file:
                file.seek(begin)
                while begin < end and (block := file.read(min(_BLOCK, end - begin))):
                    yield block
                    begin += len(block)
            return
        name = self._name(key, f"video{suffix}")
        for start in range(begin, end, _BLOCK):
            last = min(start + _BLOCK, end)
            yield self._remote(self._fs.cat_file, name, start=start, end=last)

    def remove(self, key: str) -> None:
        """Delete all files of a job.

        Raises:
            FilesUnreachable: the object store fails.
        """
        shutil.rmtree(self._work / key, ignore_errors=True)
        if not self.local:
            with suppress(FileNotFoundError):
                self._remote(self._fs.rm, self._name(key), recursive=True)

    def all_ids(self) -> set[str]:
        """Return the jobs that have files.

        Raises:
            FilesUnreachable: the object store fails.
        """
        found = {path.name for path in self._work.iterdir()} if self._work.is_dir() else set()
        if not self.local:
            with suppress(FileNotFoundError):
                names = self._remote(self._fs.ls, self._root, detail=False)
                found |= {str(name).rstrip("/").rpartition("/")[2] for name in names}
        return found

    def _fetch_chunks(self, key: str, folder: Path) -> None:
        """Fetch the chunks that a worker of another machine has left."""
        try:
            names = self._remote(self._fs.ls, self._name(key, "chunks"), detail=False)
        except FileNotFoundError:
            return
        chunks = folder / "chunks"
        chunks.mkdir(exist_ok=True)
        for name in names:
            target = chunks / str(name).rpartition("/")[2]
            if target.suffix == ".response" and not target.exists():
                self._remote(self._fs.get_file, name, f"{target}.part")
                Path(f"{target}.part").replace(target)

    def _name(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _remote(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as e:  # each file system of fsspec has errors of its own
            raise FilesUnreachable(f"the object store failed: {type(e).__name__}: {e}") from e


def place_chunks(folder: Path, video: Path) -> None:
    """Put the chunks of earlier attempts where the client looks for those of `video`."""
    chunks = folder / "chunks"
    if chunks.is_dir():
        chunks.rename(_chunk_folder(video))


def _chunk_folder(video: Path) -> Path:
    return video.with_name(_CHUNKS.format(video.name))


def _move_chunks(old: Path, new: Path) -> None:
    """Move what an earlier attempt has made: its chunks, and its video if that is complete."""
    chunks = new / "chunks"
    chunks.mkdir(exist_ok=True)
    for path in old.rglob("*.response"):
        with suppress(FileNotFoundError):
            path.replace(chunks / path.name)
    for path in old.glob("video.*"):
        with suppress(FileNotFoundError):
            path.replace(new / path.name)

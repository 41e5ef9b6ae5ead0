"""The parts of nvidia-pytriton's wheel: the binary, its libraries, the Python backend and its stubs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

OUR_BACKENDS = Path(__file__).with_name("backends")


class WheelError(Exception):
    """The embedded server cannot run in this environment; the message says what to install."""


@dataclass(frozen=True)
class Wheel:
    """The parts of the wheel.

    Attributes:
        binary: tritonserver.
        libraries: directories for LD_LIBRARY_PATH.
        python_backend: the wheel's backends/python.
        stub: the Python backend's stub for this interpreter.
    """

    binary: Path
    libraries: list[Path]
    python_backend: Path
    stub: Path

    def assemble_backends(self, directory: Path) -> None:
        """Fill tritonserver's backend directory: its Python backend with the right stub, and our backends."""
        python = directory / "python"
        python.mkdir(parents=True)
        for part in [
            *self.python_backend.glob("*.py"),
            *self.python_backend.glob("*.so"),
            self.stub,
        ]:
            shutil.copy2(
                part, python
            )  # not a link: tritonserver refuses a library outside its directory
        for backend in OUR_BACKENDS.iterdir():
            shutil.copytree(backend, directory / backend.name)


def find_wheel() -> Wheel:
    """Locate the wheel's parts.

    Raises:
        WheelError: a part is missing, or numpy is one the stub cannot work with.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise WheelError(
            "the embedded server needs nvidia-pytriton: pip install 'lipsync-triton[embedded]'"
        )
    numpy_version = importlib.metadata.version("numpy")
    if int(numpy_version.split(".")[0]) >= 2:
        raise WheelError(
            f"numpy {numpy_version} is installed, but under numpy 2 tritonserver's Python stub hands every"
            " model empty tensors: pip install 'numpy<2'"
        )
    root = Path(spec.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    binary = root / "bin" / "tritonserver"
    for part in (binary, stub):
        if not part.exists():
            raise WheelError(
                f"{part} is missing: the embedded server needs nvidia-pytriton 0.7.0 and Python 3.10 to 3.12"
                f" (this is {version})"
            )
    libraries = [root.parent.parent / "nvidia_pytriton.libs", _libpython_directory(version)]
    return Wheel(binary, libraries, root / "backends" / "python", stub)


def _libpython_directory(version: str) -> Path:
    """Return the directory of the shared libpython that the stub is linked with."""
    name = f"libpython{version}.so.1.0"
    places = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    places += [f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib"]
    for place in places:
        if place and (Path(place) / name).exists():
            return Path(place)
    raise WheelError(
        f"tritonserver's Python backend needs {name}, which this Python does not bring: install it"
        f" (Debian: apt-get install libpython{version}; pyenv: build with --enable-shared)"
    )

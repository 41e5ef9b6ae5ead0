"""The embedded server starts honestly and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lipsync_embedded import EmbeddedServerError, Server, ServerStartError
from support.triton_calls import shared_memory

pytestmark = pytest.mark.server
COMMAND = [str(Path(sys.executable).with_name("lipsync-server"))]
FREE_PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]


def wait_until_gone(pids: list[int], timeout_s: float = 25) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(p) and alive(p) for p in pids):
            return
        time.sleep(0.05)
    pytest.fail(f"processes left: {[psutil.Process(p) for p in pids if psutil.pid_exists(p)]}")


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    parent = psutil.Process(pid)
    return [pid, *(child.pid for child in parent.children(recursive=True))]


def test_it_stops_without_a_trace_and_may_be_started_again(one_model: Path) -> None:
    server = Server(one_model)
    for _ in range(2):
        with server:
            assert server.pid is not None
            pids = family(server.pid)
            assert len(pids) >= 3  # guard, tritonserver, a stub
            segments = shared_memory(pids)
            assert segments
            assert server.poll() is None
            with pytest.raises(EmbeddedServerError, match="running already"):
                server.start()
        assert not [pid for pid in pids if alive(pid)]
        assert not [segment for segment in segments if segment.exists()]
        server.stop()  # once more does no harm


def start(
    repository: Path, scratch: Path, *arguments: str, wait: bool = True
) -> subprocess.Popen[str]:
    """`lipsync-server` in a session of its own, its temporary files in `scratch`; ready if waited for."""
    scratch.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "--repository", str(repository), *(arguments or FREE_PORTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
        start_new_session=True,
    )
    if wait:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: grpc://127.0.0.1:")
    return process


def left_in(scratch: Path) -> list[Path]:
    return [path for path in scratch.iterdir() if path.name != ".ses"]  # that is tritonserver's own


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_the_command_takes_everything_with_it(
    one_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(one_model, tmp_path / "scratch")
    pids = family(process.pid)
    segments = shared_memory(pids)
    assert segments
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.send_signal(number)
    process.communicate(timeout=90)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    wait_until_gone(pids)
    assert not [segment for segment in segments if segment.exists()]
    if number != signal.SIGKILL:
        assert left_in(tmp_path / "scratch") == []


@pytest.mark.parametrize(
    ("number", "moment_s"),
    [(signal.SIGINT, 0.0), (signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 0.0)],
)
def test_ended_while_it_starts(
    one_model: Path, tmp_path: Path, number: signal.Signals, moment_s: float
) -> None:
    process = start(one_model, tmp_path / "scratch", wait=False)
    deadline = time.monotonic() + 20
    while len(family(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)  # until guard and tritonserver are there
    time.sleep(moment_s)
    pids = family(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=90)
    assert "Traceback" not in errors
    wait_until_gone(pids)
    if number != signal.SIGKILL:
        assert left_in(tmp_path / "scratch") == []


def test_the_death_of_a_program_that_holds_a_server(one_model: Path) -> None:
    """The library leaves nothing either, whatever its owner dies of."""
    program = (
        "import sys, time; from lipsync_embedded import Server\n"
        f"with Server({str(one_model)!r}): print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        pids = family(owner.pid)
        segments = shared_memory(pids)
        owner.kill()
    wait_until_gone(pids)
    assert not [segment for segment in segments if segment.exists()]


def test_the_death_of_tritonserver_is_noticed(one_model: Path) -> None:
    with Server(one_model) as server:
        assert server.pid is not None
        pids = family(server.pid)
        os.kill(pids[1], signal.SIGKILL)
        assert server.wait() == 128 + signal.SIGKILL
        wait_until_gone(pids, 5)


def test_a_model_that_does_not_load_is_an_error_with_the_reason(one_model: Path) -> None:
    """Report the reason; test_onnx_model.py has the other refusals."""
    config = one_model / "audio_window/config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_INT64", "TYPE_INT32"))
    with pytest.raises(ServerStartError) as failure:
        Server(one_model).start()
    assert failure.value.exit_code == 1
    assert "audio_window" in failure.value.log_tail
    assert "TYPE_INT32 in the config" in failure.value.log_tail
    assert "exit code 1" in str(failure.value)


def test_a_startup_that_takes_too_long_ends(one_model: Path) -> None:
    with pytest.raises(ServerStartError, match="not ready in") as failure:
        Server(one_model, startup_timeout_s=0.1).start()
    assert failure.value.exit_code is None


def test_a_repository_that_is_not_there() -> None:
    with pytest.raises(EmbeddedServerError, match="is not a directory"):
        Server("/nowhere").start()

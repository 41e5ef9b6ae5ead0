"""The origin of the images and the secrets, and the permissions of the secrets."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from support.containers import DOCKER, compose_secrets

LOCKS = {
    "Dockerfile": "requirements.txt",
    "Dockerfile.cpu": "requirements.cpu.txt",
    "Dockerfile.bulk": "requirements.client.txt",
    "Dockerfile.web": "requirements.web.txt",
}


@pytest.mark.parametrize("dockerfile", LOCKS)
def test_every_installation_has_hashes(dockerfile: str) -> None:
    """Our own package has none, so it is built with locked setuptools and brings nothing else."""
    text = (DOCKER / dockerfile).read_text().replace("\\\n", " ")
    installations = re.findall(r"pip install ([^&\n]*)", text)
    assert installations
    for arguments in installations:
        if "--require-hashes" in arguments:
            assert f"/tmp/{LOCKS[dockerfile]}" in arguments
            assert "--only-binary :all:" in arguments
        else:
            assert arguments.split()[-1] == "/src"
            assert "--no-deps" in arguments
            assert "--no-build-isolation" in arguments
            lock = (DOCKER / LOCKS[dockerfile]).read_text()
            assert re.search(r"^setuptools==\S+ \\\n +--hash=sha256:", lock, re.MULTILINE)


def test_lock_writes_digests(tmp_path: Path) -> None:
    """Run it twice with programs that stand for two states of a registry; our own images stay."""
    docker = tmp_path / "docker"
    shutil.copytree(DOCKER, docker, ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "bin").mkdir()
    for digit in "ab":
        program = tmp_path / "bin/docker"
        program.write_text(f"#!/bin/sh\necho sha256:{digit * 64}\n")
        program.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            [docker / "lock", "images"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert f"haproxy:2.6@sha256:{digit * 64}" in done.stdout
    digest = "@sha256:" + "b" * 64
    for file in (
        "Dockerfile",
        "Dockerfile.cpu",
        "Dockerfile.bulk",
        "Dockerfile.web",
        "compose.yaml",
        "k8s/base/gateway.yaml",
        "k8s/components/jobs/redis.yaml",
    ):
        text = (docker / file).read_text()
        images = re.findall(r"^\s*(?:FROM|image:) (\S+:\S+)", text, re.MULTILINE)
        assert images, file
        for image in images:
            assert image.startswith("lipsync-") or image.endswith(digest), image
            assert image.count("@") <= 1


def test_only_the_owner_and_the_container_read_the_secrets(secrets: Path) -> None:
    """A container gets single files, which Docker mounts as root; any other user stops at the folder."""
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    files = [secrets / Path(file).name for file in compose_secrets().values()]
    assert all(file.stat().st_mode & stat.S_IROTH for file in files)
    if os.getuid() != 0:
        return  # the rest needs another user and a mount
    script = f"""
        mount --bind {secrets.parent} /mnt
        setpriv --reuid 99 --clear-groups cat /mnt/secrets/triton_admin_key >/dev/null 2>&1 && echo outside
        touch /tmp/mounted.$$ && mount --bind /mnt/secrets/triton_admin_key /tmp/mounted.$$
        setpriv --reuid 99 --clear-groups cat /tmp/mounted.$$ >/dev/null && echo inside
        umount /tmp/mounted.$$; rm /tmp/mounted.$$
    """
    seen = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True
    )
    assert seen.stdout == "inside\n", seen.stderr

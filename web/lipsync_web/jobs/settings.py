"""Settings of the jobs, which the service hands to its workers as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class JobSettings:
    """Settings of the jobs.

    Attributes:
        folder: the database and the files of jobs; None for a temporary folder, deleted when the service
            ends.
        queue: `redis://HOST:PORT/NUMBER`, so that workers can be on many machines; None for a SQLite
            database in the folder.
        files: URL of fsspec for uploads and videos, such as `s3://BUCKET/PREFIX`; None for the folder.
        workers: worker processes that the service starts; each renders one job at a time.
        max_jobs: jobs that wait or run; a further one is refused with status 503.
        max_caller_jobs: those of one caller; a further one is refused with status 429.
        max_tries: a job fails after so many tries without a new frame.
        retention_s: a job and its video are deleted this long after its end.
        lease_s: a worker that was silent for so long is taken for dead, and another takes up its job.
        webhook_secret: `whsec_...`, the key that signs webhooks; None: no webhooks.
        url_hosts: hosts that audio may be fetched from, `*.example.org` for all below it; empty: none.
        networks: networks in CIDR form that URLs may lead to although they are not public.
    """

    folder: Path | None = None
    queue: str | None = field(default=None, repr=False)
    files: str | None = None
    workers: int = 1
    max_jobs: int = 256
    max_caller_jobs: int = 32
    max_tries: int = 8
    retention_s: float = 24 * 3600.0
    lease_s: float = 30.0
    webhook_secret: str | None = field(default=None, repr=False)
    url_hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The folder, which is given by now."""
        assert self.folder is not None
        return self.folder

    @property
    def check_s(self) -> float:
        """Seconds after which a job that waits is looked for in the queue, and queued again if it is lost."""
        return min(60.0, 2 * self.lease_s)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process.

    Attributes:
        jobs: those of the jobs.
        url, token, ca_file: the lip-sync server, as for AsyncLipSyncClient.
    """

    jobs: JobSettings
    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """Return the settings that `to_json` wrote."""
        values = json.loads(text)
        jobs = values["jobs"]
        jobs["folder"] = Path(jobs["folder"])
        for name in ("url_hosts", "networks"):
            jobs[name] = tuple(jobs[name])
        values["ca_file"] = values["ca_file"] and Path(values["ca_file"])
        return cls(**{**values, "jobs": JobSettings(**jobs)})

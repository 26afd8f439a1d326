"""Uploaded weights on their way to the worker that imports them."""

import os
import time
from pathlib import Path
from uuid import uuid4

from perceptd.service.jobs.queue import Jobs
from perceptd.service.store import db

JOBS = "jobs"  # the folder of the store where jobs work
PREFIX = ".upload-"
ORPHAN_S = 3600.0  # after which a file that no job waits for was left by a killed process


class Uploads:
    """Files in the folder of jobs; a job's plan names its own."""

    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self._folder = folder
        self._jobs = jobs

    def keep(self, content: bytes) -> str:
        """Write a file to disk for good; its name. Raises `DiskError`, and leaves nothing then."""
        name = f"{PREFIX}{uuid4().hex}"
        path = self._folder / name
        with db.store_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return name

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove files that no unfinished job waits for."""
        oldest = time.time() - ORPHAN_S
        old = [path for path in self._folder.glob(f"{PREFIX}*") if _modified_at(path) < oldest]
        if old:
            waited_for = {job.plan.get("upload") for job in self._jobs.unfinished()}
            for path in old:
                if path.name not in waited_for:
                    path.unlink(missing_ok=True)


def _modified_at(path: Path) -> float:
    """Never, where another worker has removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")

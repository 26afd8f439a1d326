"""Uploaded weights, saved until a worker imports them."""

import os
import time
from pathlib import Path
from uuid import uuid4

from perceptd.service.jobs.queue import Jobs
from perceptd.service.store import db

JOBS = "jobs"  # the folder of the store with the working folders of jobs
PREFIX = ".upload-"
ORPHAN_S = 3600.0  # age at which a file without a job must be from a killed process


class Uploads:
    """Files in the folder of jobs; the plan of a job names its file."""

    def __init__(self, folder: Path, jobs: Jobs) -> None:
        self._folder = folder
        self._jobs = jobs

    def save(self, content: bytes) -> str:
        """Write a file, synced to disk, and return its name. Raises `DiskError`."""
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
        """Remove old files that no unfinished job needs."""
        oldest = time.time() - ORPHAN_S
        old = [path for path in self._folder.glob(f"{PREFIX}*") if _modified_at(path) < oldest]
        if old:
            needed = {job.plan.get("upload") for job in self._jobs.unfinished()}
            for path in old:
                if path.name not in needed:
                    path.unlink(missing_ok=True)


def _modified_at(path: Path) -> float:
    """Seconds since 1970; infinite if another worker has just removed the file."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")

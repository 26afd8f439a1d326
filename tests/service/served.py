"""A running `perceptd serve` with its child processes and its log."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.service.site import is_gone
from tests.waiting import PATIENCE_S, eventually

TAKES_JOBS = re.compile(r"worker [^ :]*:(\d+):\w+ takes jobs")
STARTED = re.compile(r"Started server process \[(\d+)\]")
SERVES = re.compile(r"perceptd serves on ((?:https?|unix):\S+)")


class Served:
    """Configured by options and variables; the log is all that it prints."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "perceptd", "serve", "--port", "0", *options],
                env={
                    **os.environ,
                    "PERCEPTD_DATA_DIR": str(self.data_dir),
                    "TMPDIR": str(folder),
                    **variables,
                },
                stdout=log,
                stderr=log,
            )

    @property
    def url(self) -> str:
        """Its address, as soon as it serves."""
        self.eventually(
            lambda: self.process.poll() is not None or self._logged(SERVES), "the server serves"
        )
        (url,) = self._logged(SERVES)
        return url

    def worker(self, number: int) -> int:
        """The process id of its first, second, ... worker, as soon as that takes jobs."""
        return self._pid(TAKES_JOBS, number, f"worker {number} takes jobs")

    def server(self, number: int) -> int:
        """The process id of its first, second, ... server process, as soon as that starts."""
        return self._pid(STARTED, number, f"server process {number} starts")

    def started(self) -> list[int]:
        """The process ids of all workers and server processes in the log."""
        return [int(pid) for pid in self._logged(TAKES_JOBS) + self._logged(STARTED)]

    def all_gone(self) -> bool:
        return all(is_gone(pid) for pid in self.started())

    def eventually(
        self, check: Callable[[], object], what: str, *, seconds: float = PATIENCE_S
    ) -> float:
        """Wait until `check` holds; a failure shows the end of the log."""
        return eventually(check, what, seconds=seconds, log=self.log)

    def end(self) -> None:
        """Kill it; its child processes must end on their own."""
        self.process.kill()
        self.process.wait()
        self.eventually(self.all_gone, "all child processes end")

    def _pid(self, pattern: re.Pattern[str], number: int, what: str) -> int:
        self.eventually(lambda: len(self._logged(pattern)) >= number, what)
        return int(self._logged(pattern)[number - 1])

    def _logged(self, pattern: re.Pattern[str]) -> list[str]:
        return pattern.findall(self.log.read_text())

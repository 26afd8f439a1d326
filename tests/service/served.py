"""A running `perceptd serve` with whatever it runs beside itself, and what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.service.site import is_gone
from tests.waiting import eventually

TAKES_JOBS = re.compile(r"worker [^ :]*:(\d+):\w+ takes jobs")
STARTED = re.compile(r"Started server process \[(\d+)\]")
SERVES = re.compile(r"perceptd serves on (http://\S+)")


class Served:
    """It is told its settings by options and variables; its log is all that it prints."""

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
        """Its address, once it has said that it serves."""
        eventually(lambda: self.process.poll() is not None or bool(self._said(SERVES)))
        (url,) = self._said(SERVES)
        return url

    def worker(self, number: int) -> int:
        """The process id of its first, second, ... worker, once that takes jobs."""
        eventually(lambda: len(self._said(TAKES_JOBS)) >= number)
        return int(self._said(TAKES_JOBS)[number - 1])

    def server(self, number: int) -> int:
        """The same of the processes that answer, once it is started."""
        eventually(lambda: len(self._said(STARTED)) >= number)
        return int(self._said(STARTED)[number - 1])

    def started(self) -> list[int]:
        """Every process that it has ever started and that has told of itself."""
        return [int(pid) for pid in self._said(TAKES_JOBS) + self._said(STARTED)]

    def end(self) -> None:
        """Kill it; what it has started is to be gone soon."""
        self.process.kill()
        self.process.wait()
        eventually(lambda: all(is_gone(pid) for pid in self.started()))

    def _said(self, pattern: re.Pattern[str]) -> list[str]:
        return pattern.findall(self.log.read_text())

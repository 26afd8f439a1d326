"""Worker processes beside a server: started with it, started again when they die, ended with it."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from service.settings import Settings

WORKER: Sequence[str] = (sys.executable, "-P", "-m", "service", "worker", "--stop-on-eof")
PAUSE_S = 1.0  # before a worker that died is started again; doubled with each early death, up to
LONGEST_PAUSE_S = 30.0
GOOD_S = 60.0  # a worker that lived for so long did not die early
LOOK_S = 0.2  # between looks at a worker
END_S = 10.0  # in which a worker hands its job back

log = logging.getLogger("perceptd")


class Supervisor:
    """Keeps a number of workers alive while its block runs.

    A worker listens on its standard input and ends with this process, however that ends.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        self._environment = {**os.environ, "PERCEPTD_DATA_DIR": str(settings.data_dir)}
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._keep) for _ in range(workers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        pause = PAUSE_S / 2
        while not self._ending.is_set():
            started_at = time.monotonic()
            try:
                ended: object = self._run()
            except OSError as error:  # no process or no memory to be had
                ended = error
            if self._ending.is_set():
                return
            lived = time.monotonic() - started_at
            pause = PAUSE_S if lived > GOOD_S else min(2 * pause, LONGEST_PAUSE_S)
            log.error("a worker ended (%s); starting another in %.0f s", ended, pause)
            self._ending.wait(pause)

    def _run(self) -> int | None:
        """One worker, from its start to its end."""
        process = subprocess.Popen(  # noqa: S603 - this very program
            WORKER, stdin=subprocess.PIPE, env=self._environment, process_group=0
        )
        while process.poll() is None and not self._ending.wait(LOOK_S):
            pass
        assert process.stdin  # noqa: S101 - it is a pipe
        process.stdin.close()
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

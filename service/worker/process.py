"""A training under control: its own process group, niced, on a budget, stoppable."""

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from perceptd.models import tracing

TRAINING = (sys.executable, "-P", "-m", "perceptd", "--stop-on-eof")
GRACE_S = 2.0  # between asking a process to stop and stopping it
LINE_BYTES = 65_536  # a longer line of output is cut into several
LOG_CHARACTERS = 500  # of a line of output that are kept
LOG_LINES = 50  # of a process that fails
SECRET = ("PERCEPTD_", "PG")  # variables of the service, and of libpq: PGPASSWORD, PGPASSFILE, ...
WAITING_LINES = 1_000  # after which a process that says more waits until it is listened to


@dataclass(frozen=True)
class Budget:
    """What a training may take of its machine."""

    threads: int
    memory_mb: int
    nice: int


class TrainingProcess:
    """One running `perceptd train` or its like; it ends when this process does, however that ends.

    The training listens on its standard input, whose other end is here: where it is closed, be it
    by a SIGKILL, the training stops.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        budget: Budget,
        command: Sequence[str],
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and words from a checked plan
            [*command, *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(budget),
            # A group, to be stopped as one; no session, in which Linux would nice it for itself.
            process_group=0,
        )
        self._limit(budget)
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._lines: queue.Queue[tuple[str, bytes]] = queue.Queue(WAITING_LINES)
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        self._quiet_since: float | None = None  # nothing more came, and it has ended

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self, seconds: float) -> list[dict[str, Any]]:
        """What the process has said, waiting up to so long for its first word.

        A line that is no event becomes one: `{"event": "log", "line": ...}`.
        """
        events = []
        try:
            events.append(self._event(*self._lines.get(timeout=seconds)))
            while len(events) < WAITING_LINES:
                events.append(self._event(*self._lines.get_nowait()))
        except queue.Empty:
            pass
        return events

    def poll(self) -> int | None:
        """How it ended, once all it said was heard; negative: the signal that killed it.

        A process that it has put out of reach may hold its pipes open: that is not waited for.
        """
        exit_code = self._process.poll()
        if exit_code is None:
            return None
        self._signal(signal.SIGKILL)  # what it has left running would keep its pipes open
        if not self._lines.empty():
            self._quiet_since = None
            return None
        if any(reader.is_alive() for reader in self._readers):
            self._quiet_since = self._quiet_since or time.monotonic()
            return exit_code if time.monotonic() - self._quiet_since > GRACE_S else None
        return exit_code if self._lines.empty() else None  # a reader's last words

    def stop(self) -> None:
        """End the process and whatever it started: asked first, then made to."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            self.said(0.02)  # one that waits to be listened to could not end
        self._signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Leave nothing running and no pipe open."""
        self.stop()
        deadline = time.monotonic() + GRACE_S
        while any(reader.is_alive() for reader in self._readers) and time.monotonic() < deadline:
            self.said(0.02)
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.close()
        for reader, pipe in zip(
            self._readers, (self._process.stdout, self._process.stderr), strict=True
        ):
            if pipe and not reader.is_alive():  # or another process holds it, out of reach
                pipe.close()

    def _limit(self, budget: Budget) -> None:
        with suppress(ProcessLookupError):  # it has ended already
            # Nobody but root may ask for more than this process has itself.
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self.pid, max(budget.nice, own))
            if sys.platform == "linux":
                limit = budget.memory_mb * 2**20
                _, highest = resource.getrlimit(resource.RLIMIT_DATA)
                if highest != resource.RLIM_INFINITY:
                    limit = min(limit, highest)
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (limit, limit))

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(self.pid, number)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with suppress(ValueError):  # closed meanwhile
            while line := stream.readline(LINE_BYTES):
                self._lines.put((name, line))

    def _event(self, name: str, line: bytes) -> dict[str, Any]:
        text = line.decode(errors="replace").replace("\0", "").rstrip()
        if name == "out" and text.startswith("{"):
            try:
                event = json.loads(text)
                if isinstance(event.get("event"), str):
                    return dict(event)
            except (ValueError, RecursionError):
                pass
        self.log.append(text[:LOG_CHARACTERS])
        return {"event": "log", "line": text, "stream": name}


def _environment(budget: Budget) -> dict[str, str]:
    """This process's own, without tokens and the database's password: foreign files are read.

    What it does is of the trace of the job that it is done for: it sends its own spans, so that a
    key in `OTEL_EXPORTER_OTLP_HEADERS` stays.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
    threads = str(budget.threads)
    return {
        **kept,
        **tracing.environment(),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",  # the last words of one that is killed are heard as well
    }


def machine_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

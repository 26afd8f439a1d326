"""A training process: in its own group, niced, with limits, and stoppable."""

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
GRACE_S = 2.0  # between SIGTERM and SIGKILL
LINE_BYTES = 65_536  # longer lines of output are split
LOG_CHARACTERS = 500  # kept of a line of output
LOG_LINES = 50  # kept of a process
SECRET = ("PERCEPTD_", "PG")  # of variables of the service and of libpq
MAX_WAITING_LINES = 1_000  # a process with more blocks until they are read


@dataclass(frozen=True)
class Budget:
    """The resources that a training may use."""

    threads: int
    memory_mb: int
    nice: int


class TrainingProcess:
    """One running `perceptd train`, `import` or `evaluate`; it ends when this process ends.

    The training reads its standard input, whose other end is held here, and stops when it closes.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        budget: Budget,
        command: Sequence[str],
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and arguments of a checked plan
            [*command, *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(budget),
            # A group can be stopped as one. In a session of its own, niceness would not count.
            process_group=0,
        )
        self._limit(budget)
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._lines: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_WAITING_LINES)
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()
        self._quiet_since: float | None = None  # when its output was read after its end

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, seconds: float) -> list[dict[str, Any]]:
        """The events of the process since the last call; waits for the first one up to `seconds`.

        A line that is not an event becomes one: `{"event": "log", "line": ...}`.
        """
        events = []
        try:
            events.append(self._event(*self._lines.get(timeout=seconds)))
            while len(events) < MAX_WAITING_LINES:
                events.append(self._event(*self._lines.get_nowait()))
        except queue.Empty:
            pass
        return events

    def poll(self) -> int | None:
        """The exit status once all output is read, negative for a signal; None before.

        A child in another session may hold the pipes open. It is not waited for.
        """
        exit_code = self._process.poll()
        if exit_code is None:
            return None
        self._signal(signal.SIGKILL)  # its children could keep the pipes open
        if not self._lines.empty():
            self._quiet_since = None
            return None
        if any(reader.is_alive() for reader in self._readers):
            self._quiet_since = self._quiet_since or time.monotonic()
            return exit_code if time.monotonic() - self._quiet_since > GRACE_S else None
        return exit_code if self._lines.empty() else None  # read since the check above

    def stop(self) -> None:
        """Stop the process and its children: SIGTERM first, then SIGKILL."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            self.events(0.02)  # a full pipe could keep it from ending
        self._signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Stop the process and close its pipes."""
        self.stop()
        deadline = time.monotonic() + GRACE_S
        while any(reader.is_alive() for reader in self._readers) and time.monotonic() < deadline:
            self.events(0.02)
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.close()
        for reader, pipe in zip(
            self._readers, (self._process.stdout, self._process.stderr), strict=True
        ):
            if pipe and not reader.is_alive():  # a child in another session may hold it
                pipe.close()

    def _limit(self, budget: Budget) -> None:
        with suppress(ProcessLookupError):  # it has already ended
            # Only root may raise the priority above that of this process.
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self.pid, max(budget.nice, own))
            if sys.platform == "linux":
                limit = budget.memory_mb * 2**20
                _, highest = resource.getrlimit(resource.RLIMIT_DATA)
                if highest != resource.RLIM_INFINITY:
                    limit = min(limit, highest)
                resource.prlimit(self.pid, resource.RLIMIT_DATA, (limit, limit))

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(self.pid, number)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with suppress(ValueError):  # the pipe was closed
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
    """This environment without the secrets of the service, because trainings read foreign files.

    A training sends the spans of its job itself, so it keeps a key in `OTEL_EXPORTER_OTLP_HEADERS`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
    threads = str(budget.threads)
    return {
        **kept,
        **tracing.environment(),
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",  # so that no output of a killed process is lost
    }


def machine_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

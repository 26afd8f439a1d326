"""Child processes: started with this process, restarted when they die, ended with it."""

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

MIN_PAUSE_S = 1.0  # before the restart of a process that died early; doubled each time
MAX_PAUSE_S = 30.0
EARLY_S = 60.0  # a process that ran for longer is restarted at once
POLL_S = 0.1
END_S = 30.0  # for a worker to hand its job back, and a server to answer what it has accepted

log = logging.getLogger("perceptd")


@dataclass(frozen=True)
class Program:
    """A program to keep running: its name in the log, its command, the files that it inherits.

    If it `reports_ready`, it writes a byte to its standard input, a socket, once it is ready. It is
    killed if it does not end within `end_s`.
    """

    name: str
    command: Sequence[str]
    descriptors: Sequence[int] = ()
    reports_ready: bool = False
    end_s: float = END_S


class KillChildren(SystemExit):
    """Raised on a second signal: the supervisor kills its processes."""


class Supervisor:
    """Keeps programs running while its block runs.

    However this process ends, the programs' standard input ends too, and they end on that.
    `on_end` is called with the id of each process that has ended.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        environment: Mapping[str, str],
        on_end: Callable[[int], object] = lambda pid: None,
    ) -> None:
        self._environment = environment
        self._on_end = on_end
        self._ending = threading.Event()
        self._killing = threading.Event()
        self._starts: SimpleQueue[int] = SimpleQueue()  # 0 if ready, else the exit status
        self._reporting = sum(program.reports_ready for program in programs)
        self._ended = [threading.Event() for _ in programs]
        self._threads = [
            threading.Thread(target=self._keep_until, args=pair)
            for pair in zip(programs, self._ended, strict=True)
        ]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # a signal, or no thread left: end what was started
            self._ending.set()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:  # a second signal may come at any moment from here on
            self._ending.set()
            if isinstance(error, KillChildren):
                self._killing.set()
            self._wait_for_all()
        except BaseException:  # a second signal
            self._killing.set()
            self._wait_for_all()
            raise

    def _wait_for_all(self) -> None:
        """Wait for events: after an interrupted join a thread counts as ended (bpo-45274)."""
        for ended in self._ended:
            ended.wait()

    def wait_until_ready(self) -> int:
        """0 once all that report are ready, else the exit status of one that cannot start."""
        for _ in range(self._reporting):
            if status := self._starts.get():
                return status
        return 0

    def _keep_until(self, program: Program, ended: threading.Event) -> None:
        try:
            self._keep(program)
        finally:
            ended.set()

    def _keep(self, program: Program) -> None:
        pause = 0.0
        starting = threading.Event()
        if program.reports_ready:
            starting.set()
        while not self._ending.is_set():
            started_at = time.monotonic()
            try:
                ended: int | OSError = self._run(program, starting)
            except OSError as error:  # no process or memory left
                ended = error
            if self._ending.is_set():
                return
            if starting.is_set() and isinstance(ended, int) and ended > 0:
                log.error("a %s could not start (%d)", program.name, ended)
                self._starts.put(ended)
                return
            ran_s = time.monotonic() - started_at
            pause = 0.0 if ran_s > EARLY_S else min(max(2 * pause, MIN_PAUSE_S), MAX_PAUSE_S)
            log.error("a %s ended (%s); starting another in %.0f s", program.name, ended, pause)
            self._ending.wait(pause)

    def _run(self, program: Program, starting: threading.Event) -> int:
        """Run one process to its end and return its exit status."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - this very program
                    program.command,
                    stdin=theirs.fileno(),
                    pass_fds=program.descriptors,
                    env=self._environment,
                    process_group=0,
                )
            ours.settimeout(POLL_S)
            while process.poll() is None and not self._ending.is_set():
                with suppress(TimeoutError):
                    if not ours.recv(1):  # it ends, or has closed its standard input
                        break
                    if starting.is_set():
                        starting.clear()
                        self._starts.put(0)
        try:
            self._wait_for_end(process, program.end_s)
            return process.wait()
        finally:
            try:
                self._on_end(process.pid)
            except Exception:  # the program must be restarted all the same
                log.exception("cleaning up after process %d failed", process.pid)

    def _wait_for_end(self, process: "subprocess.Popen[bytes]", end_s: float) -> None:
        """Kill the process if it takes too long, or on a second signal."""
        deadline = time.monotonic() + end_s
        while time.monotonic() < deadline and not self._killing.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                return
        process.kill()

"""Processes beside this one: started with it, started again when they die, ended with it."""

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

PAUSE_S = 1.0  # before one that died early is started again; doubled with each time, up to
MAX_PAUSE_S = 30.0
GOOD_S = 60.0  # one that lived for so long did not die early, and is started again at once
LOOK_S = 0.1  # between looks at a process
END_S = 30.0  # in which a worker hands its job back, and a server answers what it has accepted

log = logging.getLogger("perceptd")


@dataclass(frozen=True)
class Program:
    """What is kept running: its name in the log, its command, the files that it inherits.

    One that `tells` writes a byte to its standard input, a socket, once it is ready. One that is
    asked to end is killed after `end_s`.
    """

    name: str
    command: Sequence[str]
    descriptors: Sequence[int] = ()
    tells: bool = False
    end_s: float = END_S


class AtOnce(SystemExit):
    """A second signal: what runs beside this process is killed."""


class Supervisor:
    """Keeps programs running while its block runs.

    Their standard input ends with this process, however that ends: they listen on it and end too.
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
        self._at_once = threading.Event()
        self._starts: SimpleQueue[int] = SimpleQueue()  # of each that tells: 0, or its exit status
        self._telling = sum(program.tells for program in programs)
        self._ended = [threading.Event() for _ in programs]
        self._threads = [
            threading.Thread(target=self._keep_until, args=pair)
            for pair in zip(programs, self._ended, strict=True)
        ]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # a signal, or no thread to be had: what was started is to end
            self._ending.set()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:  # it may come at any moment, be it before all have heard of the first
            self._ending.set()
            if isinstance(error, AtOnce):
                self._at_once.set()
            self._wait_for_all()
        except BaseException:  # a second signal
            self._at_once.set()
            self._wait_for_all()
            raise

    def _wait_for_all(self) -> None:
        """By events: a join that a signal interrupts takes its thread for ended (bpo-45274)."""
        for ended in self._ended:
            ended.wait()

    def wait_until_ready(self) -> int:
        """0 once all that tell are ready, or the exit status of one that cannot start."""
        for _ in range(self._telling):
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
        if program.tells:
            starting.set()
        while not self._ending.is_set():
            started_at = time.monotonic()
            try:
                ended: int | OSError = self._run(program, starting)
            except OSError as error:  # no process or no memory to be had
                ended = error
            if self._ending.is_set():
                return
            if starting.is_set() and isinstance(ended, int) and ended > 0:
                log.error("a %s could not start (%d)", program.name, ended)
                self._starts.put(ended)
                return
            lived = time.monotonic() - started_at
            pause = 0.0 if lived > GOOD_S else min(max(2 * pause, PAUSE_S), MAX_PAUSE_S)
            log.error("a %s ended (%s); starting another in %.0f s", program.name, ended, pause)
            self._ending.wait(pause)

    def _run(self, program: Program, starting: threading.Event) -> int:
        """One process, from its start to its end."""
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
            ours.settimeout(LOOK_S)
            while process.poll() is None and not self._ending.is_set():
                with suppress(TimeoutError):
                    if not ours.recv(1):  # it ends, or does not listen any more
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
            except Exception:  # whatever is done about an end, another is to be started
                log.exception("the end of process %d could not be seen to", process.pid)

    def _wait_for_end(self, process: "subprocess.Popen[bytes]", end_s: float) -> None:
        """Kill a process that takes too long, or that is to end at once."""
        deadline = time.monotonic() + end_s
        while time.monotonic() < deadline and not self._at_once.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
                return
        process.kill()

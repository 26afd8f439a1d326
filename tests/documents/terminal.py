"""A terminal of a reader, and a server that a page starts."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from threading import Timer

import httpx
import pytest

from tests.waiting import eventually

SERVES = re.compile(r"perceptd serves on (https?)://[\d.]+:(\d+)")
CURL = b"""
curl() { # fails where the answer is a refusal, but for as many as the page shows
  command curl --fail-with-body "$@" && return
  local status=$?
  (( status == 22 && refusals-- > 0 )) || return $status
}
"""
STARTUP_S = 60
BUILD_S = 3600
COMMAND_S = 300


class Shell:
    """A terminal: what a block sets is there in the next one; what fails ends it."""

    def __init__(
        self, folder: Path, environment: dict[str, str], seconds: float = COMMAND_S
    ) -> None:
        self._seconds = seconds  # for one block
        self._errors = folder / ".stderr"
        self._script = folder / ".block"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                ["bash", "-euo", "pipefail"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def run(self, code: str, refusals: int = 0) -> str:
        """What it prints to standard output; so many answers of a server may be refusals."""
        assert self._process.stdin
        assert self._process.stdout
        self._script.write_text(code)
        self._process.stdin.write(CURL + b"refusals=%d\n" % refusals)
        self._process.stdin.write(b". ./.block </dev/null; printf '\\0'\n")
        self._process.stdin.flush()
        timer = Timer(self._seconds, self._kill)
        timer.start()
        told = bytearray()
        try:
            while (byte := self._process.stdout.read(1)) not in (b"\0", b""):
                told += byte
        finally:
            timer.cancel()
        if not byte:
            pytest.fail(f"{code}\n{told.decode()}\n{self._errors.read_text()}")
        return told.decode()

    def end(self) -> None:
        self._kill()
        self._process.communicate()

    def _kill(self) -> None:
        """Bash and all it started: a child that lives would keep the pipe open."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Server:
    """A command of a page that serves until it is ended."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / ".log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def url(self) -> str:
        """Its address on this machine, once it is ready."""
        eventually(self._reported_url, "the server is ready", seconds=STARTUP_S, log=self._log)
        url = self._reported_url()
        assert url
        return url

    def wait_until_ready(self, url: str) -> None:
        """Wait until the server at a known address is ready."""

        def ready() -> bool:
            self._must_run()
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/health/ready").is_success
            return False

        eventually(ready, f"{url} is ready", seconds=BUILD_S, log=self._log)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(STARTUP_S)

    def _reported_url(self) -> str | None:
        self._must_run()
        found = SERVES.search(self._log.read_text())
        return f"{found[1]}://127.0.0.1:{found[2]}" if found else None

    def _must_run(self) -> None:
        if self._process.poll() is not None:
            pytest.fail(self._log.read_text())

"""A PostgreSQL of a test's own, which it may kill, stop and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.server import free_port
from tests.service.site import state
from tests.waiting import eventually

DEBIAN = Path("/usr/lib/postgresql")  # where a package puts what is not in PATH
USER = "postgres"  # root may not run one


class Cluster:
    """Listens on loopback; whatever process of it there is can be found below the first."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--pgdata", str(folder / "data"), "--auth=trust", "--username=test")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = ["-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1", "-F"]
        self._postmaster = self._started("postgres", "-D", str(self.folder / "data"), *options)
        eventually(self._answers, "PostgreSQL answers", log=self.folder / "log")

    def kill(self) -> None:
        """All of it at once, as the kernel does where memory runs out."""
        self._signal(signal.SIGKILL)
        assert self._postmaster
        self._postmaster.wait()

    def stop(self) -> None:
        """Have it hang: its sockets are there, and nobody reads them."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._postmaster
        if self._postmaster.poll() is not None:
            return
        first = self._postmaster.pid
        os.kill(first, signal.SIGSTOP)  # or it could start another once they are listed
        eventually(lambda: state(first) == "T", "the postmaster stops")
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in [first, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        assert self._started(program, *arguments).wait() == 0

    def _started(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                cwd=self.folder,
                user=USER if os.getuid() == 0 else None,
                stdout=log,
                stderr=log,
            )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running one; the test is skipped where PostgreSQL is not installed."""
    found = [*sorted(DEBIAN.glob("*/bin/postgres")), shutil.which("postgres")]
    if not (program := found[0]):
        pytest.skip("there is no PostgreSQL here")
    folder = Path(tempfile.mkdtemp(prefix="perceptd-cluster-"))  # one that its user may reach
    if os.getuid() == 0:
        shutil.chown(folder, USER)
    try:
        made = Cluster(folder, Path(program).parent)
        made.start()
        try:
            yield made
        finally:
            made.kill()
    finally:
        shutil.rmtree(folder)

"""Fixtures for all tests."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import distributions
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from perceptd.models.trainable import PLUG_INS
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.server import running
from tests.service.site import train_undisturbed

POSTGRES = "PERCEPTD_TEST_DATABASE_URL"
SLOW = {  # marker -> the variable that runs its tests, and what they do for minutes
    "documents": ("PERCEPTD_TEST_DOCUMENTS", "does what the manual says"),
    "faults": ("PERCEPTD_TEST_FAULTS", "kills processes"),
    "fuzz": ("PERCEPTD_TEST_FUZZ", "tries thousands of inputs"),
    "reliability": ("PERCEPTD_TEST_RELIABILITY", "runs real processes"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (variable, does) in SLOW.items():
            if item.get_closest_marker(marker) and os.environ.get(variable, "0") in ("", "0"):
                reason = f"{does} for minutes: set {variable}=1 to run it"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is imported by now: it lives as long as the process."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def known_settings() -> None:
    """A developer's own PERCEPTD_* variables must not change what the tests see."""
    for name in [name for name in os.environ if name.startswith("PERCEPTD_")]:
        if not name.startswith("PERCEPTD_TEST_") and name != "PERCEPTD_MNIST_DIR":
            del os.environ[name]
    os.environ["PERCEPTD_TRAIN_NICE"] = "0"  # or jobs would starve beside other tests


@pytest.fixture(autouse=True, scope="session")
def no_plug_ins_from_outside(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A developer's own plug-ins must not change what the tests and their processes see.

    Of two distributions with the same name, Python takes the first on its path: here one without
    entry points.
    """
    folder = tmp_path_factory.mktemp("no-plug-ins")
    for distribution in distributions():
        if any(entry.group in PLUG_INS for entry in distribution.entry_points):
            info = folder / f"{distribution.name.replace('-', '_')}-0.dist-info"
            info.mkdir(exist_ok=True)
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: 0\n"
            )
    if any(folder.iterdir()):
        others = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), others]))
        sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_raises_keyboard_interrupt() -> None:
    """A shell starts its background processes with SIGINT ignored; children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the weights that the training of `faults` gives when nothing disturbs it."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one server that serves the shipped checkpoints, for tests that change nothing."""
    with running(Settings(data_dir=tmp_path_factory.mktemp("data"))) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[[Settings], httpx.Client]]:
    """Start a server with these settings; it stops with the test."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(running(settings))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """An empty store, on SQLite and, where there is one, on PostgreSQL."""
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path)
        return
    if not (url := os.environ.get(POSTGRES)):
        pytest.skip(f"{POSTGRES} names no PostgreSQL server")
    schema = f"test_{uuid4().hex}"
    admin = db.connect(Settings(database_url=url))
    with admin.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        yield Settings(data_dir=tmp_path, database_url=f"{url}?options=-csearch_path%3D{schema}")
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        admin.dispose()

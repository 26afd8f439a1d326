"""The server under attack."""

from collections.abc import Iterator

import pytest

from tests.fuzz.target import Target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server for the tests of one file; it must survive all of them."""
    target = Target(tmp_path_factory.mktemp("target"))
    try:
        yield target
        target.check()
    finally:
        target.end()

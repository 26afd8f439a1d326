"""A site whose store is a folder of the test's own; SQLite, unless a test says otherwise."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perceptd.service.settings import Settings
from tests.service.site import Site, site_of


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_of(Settings(data_dir=tmp_path / "data"), tmp_path / "stage") as site:
        yield site

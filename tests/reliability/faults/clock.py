"""A clock for processes that jumps while they run, by libfaketime."""

from collections.abc import Mapping
from pathlib import Path

import pytest

LIBRARIES = ("/usr/lib", "/usr/local/lib")


class Clock:
    """The time of day of whatever is started with its variables; what only goes on, goes on."""

    def __init__(self, folder: Path) -> None:
        found = [
            path
            for folder_of_libraries in LIBRARIES
            for path in Path(folder_of_libraries).glob("**/libfaketimeMT.so.1")
        ]
        if not found:
            pytest.skip("there is no libfaketime here")
        self._file = folder / "clock"
        self._library = found[0]
        self.jump("+0")

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset: str) -> None:
        """Be so far from the true time from now on: `+1h`, `-1d`."""
        unfinished = self._file.with_name("clock-unfinished")
        unfinished.write_text(f"{offset}\n")
        unfinished.replace(self._file)

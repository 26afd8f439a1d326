"""How much is tried, and how much was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings

from tests.scorecard import note

FACTOR = "PERCEPTD_TEST_FUZZ"
USUAL = 1.0  # the factor at which every run tries the same; a longer one looks elsewhere each time


def factor() -> float:
    """So many times the usual amount; 0 where none was asked for."""
    return float(os.environ.get(FACTOR) or 0)


def amount(usual: int) -> int:
    return max(1, round(usual * factor()))


def tries(usual: int) -> settings:
    """Settings of a property: how often it is tried."""
    return settings(
        max_examples=amount(usual),
        derandomize=factor() <= USUAL,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


class Count:
    """How many inputs a test has tried."""

    def __init__(self) -> None:
        self.inputs = 0


@contextmanager
def counted() -> Iterator[Count]:
    """Inputs tried in the block, told to the scorecard."""
    count = Count()
    try:
        yield count
    finally:
        note(inputs=count.inputs)

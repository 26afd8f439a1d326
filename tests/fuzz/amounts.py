"""How many inputs the fuzz tests try, and a count of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings

from tests.scorecard import note

FACTOR = "PERCEPTD_TEST_FUZZ"
USUAL = 1.0  # up to this factor every run tries the same inputs; above it they are random


def factor() -> float:
    """The factor on the usual number of inputs; 0 if fuzzing is off."""
    return float(os.environ.get(FACTOR) or 0)


def amount(usual: int) -> int:
    return max(1, round(usual * factor()))


def tries(usual: int) -> settings:
    """Hypothesis settings with a number of examples."""
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
    """The number of inputs that a test has tried."""

    def __init__(self) -> None:
        self.inputs = 0


@contextmanager
def counted() -> Iterator[Count]:
    """Counts inputs tried in the block and notes them on the scorecard."""
    count = Count()
    try:
        yield count
    finally:
        note(inputs=count.inputs)

"""A digit that was read from a good picture."""

import pytest

from perceptd.models.pictures.digit import read_digit
from tests.models.pictures.drawing import Digit, draw, png


@pytest.fixture(scope="module")
def five() -> Digit:
    return read_digit(png(draw()))

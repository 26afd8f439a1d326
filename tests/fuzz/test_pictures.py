"""Hostile picture files are refused with an error, quickly and in little memory."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from perceptd.models.pictures.digit import read_digit
from perceptd.models.pictures.picture import PictureError
from tests.fuzz.amounts import counted, tries
from tests.fuzz.files import bombs, drawn, pictures, saved
from tests.fuzz.known import undisturbed
from tests.fuzz.requests import mutated
from tests.fuzz.target import Target
from tests.service.admin import AS_ADMIN

pytestmark = pytest.mark.fuzz

PATIENCE_S = 30.0  # of one picture, on a machine that has other things to do
MEGABYTES = 200.0  # more than before; 16 million pixels have their place in it

modes = st.sampled_from(("1", "L", "LA", "P", "RGB", "RGBA", "I;16"))


def read(data: bytes) -> None:
    """Read a picture as the service does: a digit or an error with a text."""
    began = time.process_time()
    try:
        digit = read_digit(data)
        assert digit.shape == (28, 28)
        assert digit.dtype == np.uint8
    except PictureError as error:
        assert error.expected
        assert error.got
    assert time.process_time() - began < PATIENCE_S


def test_whole_pictures_of_every_kind_are_read() -> None:
    for data in pictures():
        assert read_digit(data).max() > 0


def test_mutated_pictures_are_read_or_refused() -> None:
    with counted() as count:

        @tries(1200)
        @given(mutated(st.sampled_from(list(pictures()))))
        def attack(data: bytes) -> None:
            count.inputs += 1
            read(data)

        attack()


@st.composite
def odd(draw: st.DrawFn) -> Image.Image:
    """Random pixels in every mode and shape."""
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    match draw(st.sampled_from(("noise", "one", "line", "lone", "grey"))):
        case "noise":
            pixels = random.integers(0, 256, (height, width))
        case "one":
            pixels = np.full((height, width), draw(st.integers(0, 255)))
        case "line":
            pixels = np.zeros((height, width), int)
            pixels[draw(st.integers(0, height - 1))] = draw(st.integers(1, 255))
        case "lone":
            pixels = np.zeros((height, width), int)
            for _ in range(draw(st.integers(1, 5))):
                at = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
                pixels[at] = draw(st.integers(1, 255))
        case _:
            pixels = np.add.outer(np.arange(height), np.arange(width)) % 256
    mode = draw(modes)
    if mode == "I;16":
        return Image.fromarray(pixels.astype(np.uint16) * draw(st.sampled_from((1, 100, 257))))
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def test_odd_pixels_make_a_digit_or_a_refusal() -> None:
    with counted() as count:

        @tries(600)
        @given(odd(), st.booleans())
        def attack(picture: Image.Image, is_jpeg: bool) -> None:
            count.inputs += 1
            plain = picture.convert("RGB") if is_jpeg else picture
            read(saved(plain, "JPEG" if is_jpeg else "PNG"))

        attack()


def test_bombs_are_refused_in_little_memory() -> None:
    with counted() as count:
        count.inputs = len(list(bombs()))
        script = "from tests.fuzz.test_pictures import burst; burst()"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=600)


def most_megabytes() -> float:
    """The peak memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def burst() -> None:
    """Read every bomb, in a process of its own whose memory is measured."""
    before = most_megabytes()
    for data in bombs():
        read(data)
    used = most_megabytes() - before
    assert used < MEGABYTES, f"{used:.0f} MB"


def test_the_service_refuses_them_in_words_and_answers_others(target: Target) -> None:
    def everything() -> Iterator[bytes]:
        yield from bombs()
        for data in pictures():
            yield from (data, data[: len(data) // 2], data[::-1])

    def ask(data: bytes) -> None:
        for kind in ("image/png", "image/jpeg"):
            response = client.post("/predict/image", content=data, headers={"Content-Type": kind})
            assert response.status_code in (200, 422), response.text
        response = client.post("/predict/image", files={"file": ("a.png", data)})
        assert response.status_code in (200, 422), response.text

    with (
        counted() as count,
        undisturbed(target),
        httpx.Client(base_url=target.url, headers=AS_ADMIN, timeout=120) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        before = target.megabytes()
        for _ in pool.map(ask, everything()):
            count.inputs += 3
        assert target.megabytes() - before < MEGABYTES
        ask(saved(drawn("L"), "PNG"))

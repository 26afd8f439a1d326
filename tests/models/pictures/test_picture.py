"""Which files of a picture are read, and which are refused with the reason."""

import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from perceptd.models.pictures.digit import read_digit
from perceptd.models.pictures.picture import PictureError
from tests.models.pictures.drawing import (
    Digit,
    chunk,
    difference,
    draw,
    jpeg,
    png,
    raw_png,
    refusal,
    saved,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(five: Digit, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = draw().transpose(undo[orientation]) if orientation > 1 else draw()

    digit = read_digit(jpeg(stored, exif=exif, quality=95))
    assert difference(five, digit) < 0.12


def test_damaged_exif_is_ignored_without_a_warning(five: Digit) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digit = read_digit(jpeg(draw(), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01", quality=95))

    assert difference(five, digit) < 0.12


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_reads_like_png(five: Digit, mode: str, options: dict[str, int]) -> None:
    assert difference(five, read_digit(jpeg(draw().convert(mode), **options))) < 0.12


def test_sixteen_bit_grey_reads_like_eight(five: Digit) -> None:
    deep = Image.fromarray(np.asarray(draw()).astype(np.uint16) * 257)

    assert deep.mode == "I;16"
    assert np.array_equal(read_digit(png(deep)), five)


def test_palette_with_transparency_is_read(five: Digit) -> None:
    image = Image.fromarray((np.asarray(draw()) < 128).astype(np.uint8))
    paletted = image.convert("P")
    paletted.putpalette([9, 9, 9, 9, 9, 9])

    assert difference(five, read_digit(png(paletted, transparency=0))) < 0.12


def test_animation_is_read_as_its_first_frame(five: Digit) -> None:
    frames = [draw(text="1"), draw(text="2")]
    data = png(draw(), save_all=True, append_images=frames)

    assert b"acTL" in data
    assert np.array_equal(read_digit(data), five)


def test_texts_and_profiles_are_never_unpacked(five: Digit) -> None:
    bomb = zlib.compress(bytes(50_000_000))
    texts = PngImagePlugin.PngInfo()
    texts.add(b"zTXt", b"Comment\0\0" + bomb)
    texts.add(b"iCCP", b"profile\0\0" + bomb)
    data = png(draw(), pnginfo=texts)

    tracemalloc.start()
    digit = read_digit(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(digit, five)
    assert peak < 10_000_000


# ---- what is refused


def endless_scans() -> bytes:
    data = jpeg(draw(), progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last_scan * 40 + data[-2:]


def tiny_digit() -> Image.Image:
    image = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(image).rectangle((50, 50, 52, 53), fill=0)
    return image


@pytest.mark.parametrize(
    ("data", "expected", "got"),
    [
        (b"", "a PNG or JPEG picture", "no bytes"),
        (raw_png(0, 0), "a whole PNG or JPEG picture", "damaged data"),
        (
            raw_png(100, 100, chunk(b"IDAT", b"this is not zlib")),
            "a whole PNG or JPEG picture",
            "damaged data",
        ),
        (endless_scans(), "a JPEG picture of at most 32 scans", "more scans"),
        (png(Image.new("L", (7, 200))), "a picture of at least 8 x 8 pixels", "7 x 200"),
        (png(Image.new("L", (8, 4000))), "a picture at most 16 times as long as wide", "8 x 4000"),
        (png(tiny_digit()), "a digit of at least 6 pixels", "4 pixels of ink"),
        (png(draw(ink=200, paper=206)), "a picture with a digit on it", "a blank one"),
    ],
    ids=["empty", "no pixels", "damaged", "scans", "small", "strip", "tiny digit", "no contrast"],
)
def test_unreadable_picture_is_refused_with_the_reason(
    data: bytes, expected: str, got: str
) -> None:
    error = refusal(data)
    assert error.expected == expected
    assert error.got.startswith(got)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "TIFF"])
def test_other_formats_are_refused(kind: str) -> None:
    error = refusal(saved(draw(), kind))
    assert error.expected == "a PNG or JPEG picture"
    assert "bytes that begin with" in error.got


@pytest.mark.parametrize("data", [png(draw()), jpeg(draw())], ids=["png", "jpeg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated_picture_is_refused(data: bytes, share: float) -> None:
    error = refusal(data[: int(len(data) * share)])
    assert error.expected.startswith("a whole ")
    assert error.got.startswith(("data that ends early", "damaged data"))


def test_bomb_is_refused_from_its_header() -> None:
    squeezed = zlib.compress(bytes(3_000_000), 9)
    data = raw_png(50_000, 50_000, chunk(b"IDAT", squeezed))

    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.expected == "a picture of at most 16,000,000 pixels"
    assert error.got == "50000 x 50000"
    assert peak < 1_000_000


def test_pixel_limit_is_the_callers() -> None:
    assert refusal(png(draw()), max_pixels=280 * 280 - 1).got == "280 x 280"
    assert read_digit(png(draw()), max_pixels=280 * 280).any()


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.binary(max_size=2000),
)
def test_no_pixels_raise_anything_but_picture_error(
    width: int, height: int, depth: int, pixels: bytes
) -> None:
    size = height * (1 + (width * depth + 7) // 8)
    rows = bytes(byte & 3 for byte in pixels[:1]) + (pixels * (size // (len(pixels) or 1) + 1))
    data = zlib.compress(rows[:size].ljust(size, b"\0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            digit = read_digit(raw_png(width, height, chunk(b"IDAT", data), depth=depth))
        except PictureError:
            return
    assert digit.shape == (28, 28)
    assert digit.any()

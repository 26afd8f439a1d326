"""Pictures of digits that tests draw, and how they are read."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from perceptd.models.pictures.digit import read_digit
from perceptd.models.pictures.picture import PictureError

Digit = NDArray[np.uint8]
Colour = int | str | tuple[int, ...]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw(
    side: int = 280, ink: Colour = 0, paper: Colour = 255, mode: str = "L", text: str = "5"
) -> Image.Image:
    image = Image.new(mode, (side, side), paper)
    font = ImageFont.load_default(size=side * 0.7)
    ImageDraw.Draw(image).text((side / 2, side / 2), text, fill=ink, font=font, anchor="mm")
    return image


def zigzag(width: int, side: int = 500) -> Image.Image:
    image = Image.new("L", (side, side), 255)
    corners = [(0.2, 0.2), (0.8, 0.25), (0.25, 0.75), (0.8, 0.8)]
    points = [(x * side, y * side) for x, y in corners]
    ImageDraw.Draw(image).line(points, fill=0, width=width, joint="curve")
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(image: Image.Image, **options: object) -> bytes:
    return saved(image, "PNG", **options)


def jpeg(image: Image.Image, **options: object) -> bytes:
    return saved(image, "JPEG", **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, *chunks: bytes, depth: int = 1) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def difference(one: Digit, other: Digit) -> float:
    """Mean difference as a share of the mean ink, less the pixel that rounding may shift by."""
    steps = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    shifted = [np.roll(other, step, axis=(0, 1)).astype(int) for step in steps]
    return float(min(np.abs(one - each).sum() for each in shifted) / one.astype(int).sum())


def extent(digit: Digit) -> tuple[int, int]:
    rows, columns = np.nonzero(digit > 0)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def refusal(data: bytes, **options: int) -> PictureError:
    with pytest.raises(PictureError) as caught:
        read_digit(data, **options)
    assert str(caught.value) == f"expected {caught.value.expected}, got {caught.value.got}"
    return caught.value

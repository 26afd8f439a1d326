"""Decode untrusted bytes as a picture: PNG or JPEG, and nothing of it but its pixels.

Text, profile and frame chunks are removed before a decoder sees the file, and its size is checked
before a pixel is decoded, so a small file can neither fill the memory nor run for long.
"""

import io
import struct

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the shorter side keeps this many pixels.
DRAFT_SIDE = 700
# A progressive JPEG redraws all its pixels in every scan; encoders use at most 24.
MAX_SCANS = 32
MIN_SIDE = 8
MAX_ASPECT = 16  # longer over shorter side; a narrower strip would shrink to nothing but border

PNG = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
JPEG = b"\xff\xd8\xff"
JPEG_SCAN, JPEG_EXIF, JPEG_COMMENT = 0xDA, 0xE1, 0xFE
JPEG_METADATA = {*range(0xE0, 0xEE), 0xEF, JPEG_COMMENT}  # all but 0xEE, which says CMYK or YCCK
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """The bytes are no picture of a digit. `expected` and `got` say why."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Decode into mode L, RGB or RGBA, upright; a large JPEG at a fraction of its size.

    Raises `PictureError`.
    """
    orientation = 1
    try:
        image: PngImageFile | JpegImageFile
        if data.startswith(PNG):
            image = PngImageFile(io.BytesIO(png_pixels(data)))
        elif data.startswith(JPEG):
            pixels, orientation = jpeg_pixels(data)
            image = JpegImageFile(io.BytesIO(pixels))
        else:
            start = f"{len(data)} bytes that begin with {data[:8]!r}" if data else "no bytes"
            raise PictureError("a PNG or JPEG picture", start)
        check_size(*image.size, max_pixels)
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        picture = plain(image)
    except PictureError:
        raise
    except Exception as error:  # the decoders raise a dozen types, and document none of them
        raise PictureError("a whole PNG or JPEG picture", f"damaged data ({error})") from error
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def check_size(width: int, height: int, max_pixels: int) -> None:
    got = f"{width} x {height}"
    if width * height > max_pixels:
        raise PictureError(f"a picture of at most {max_pixels:,} pixels", got)
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"a picture of at least {MIN_SIDE} x {MIN_SIDE} pixels", got)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"a picture at most {MAX_ASPECT} times as long as wide", got)


def png_pixels(data: bytes) -> bytes:
    """The same PNG with nothing but pixels: no texts, profiles or frames to unpack."""
    kept, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in PNG_PIXELS:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise PictureError("a whole PNG picture", "data that ends early")


def jpeg_pixels(data: bytes) -> tuple[bytes, int]:
    """The same JPEG with nothing but pixels, and its EXIF orientation (1 .. 8)."""
    kept, orientation, at = [data[:2]], 1, 2
    while at + 4 <= len(data):
        fill, marker, length = struct.unpack_from(">BBH", data, at)
        if fill != 0xFF or marker == 0xFF:
            raise PictureError("a whole JPEG picture", "damaged data (no marker where one belongs)")
        if marker == JPEG_SCAN:
            scans = data[at:]
            if scans.count(bytes([0xFF, JPEG_SCAN])) > MAX_SCANS:
                raise PictureError(f"a JPEG picture of at most {MAX_SCANS} scans", "more scans")
            return b"".join([*kept, scans]), orientation
        segment = data[at : at + 2 + length]
        if marker == JPEG_EXIF and segment[4:10] == b"Exif\0\0":
            orientation = exif_orientation(segment[10:])
        if marker not in JPEG_METADATA:
            kept.append(segment)
        at += 2 + length
    raise PictureError("a whole JPEG picture", "data that ends early")


def exif_orientation(tiff: bytes) -> int:
    """The orientation; 1 if the block has none or is damaged, about which Pillow would warn."""
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(entries):
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, start + 2 + 12 * entry)
            if tag == EXIF_ORIENTATION:
                return int(value)
    except struct.error:
        pass
    return 1


def plain(image: Image.Image) -> Image.Image:
    """Decode, then convert every mode (1, P, LA, 16 bits, CMYK ...) to L, RGB or RGBA."""
    image.load()
    if image.mode.startswith("I"):  # 16 bits of grey
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)  # converting copies

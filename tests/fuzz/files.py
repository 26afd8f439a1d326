"""Valid and hostile picture files."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from perceptd.models.pictures.picture import PNG

# Sizes that a header declares before the first pixel.
HUGE = (2**31 - 1, 2**31, 2**32 - 1, 65535, 100_000, 0)


def drawn(mode: str, side: int = 40) -> Image.Image:
    """A drawn digit 1 in a Pillow mode."""
    picture = Image.new("L", (side, side), 255)
    ImageDraw.Draw(picture).line((side // 2, side // 5, side // 2, 4 * side // 5), 0, side // 10)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    return picture.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pictures() -> Iterator[bytes]:
    """Valid PNG and JPEG files of every mode, colour depth and layout."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield saved(drawn(mode), "PNG")
        yield saved(drawn(mode), "PNG", optimize=True)
    yield saved(drawn("P"), "PNG", transparency=0)
    yield saved(drawn("L"), "PNG", save_all=True, append_images=[drawn("L"), drawn("L")])
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            yield saved(drawn(mode), "JPEG", progressive=progressive)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield saved(drawn("RGB"), "JPEG", exif=exif, subsampling=2, restart_marker_blocks=1)


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc or right)


def png(
    width: int, height: int, depth: int, colour: int, *, interlaced: bool = False,
    content: bytes | None = None, crc: int | None = None,
) -> bytes:  # fmt: skip
    """A PNG with any header fields."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    pixels = zlib.compress(bytes(2000)) if content is None else content
    return PNG + chunk(b"IHDR", head, crc) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def packed(megabytes: int) -> bytes:
    """Zeros, compressed piece by piece, so that only the reader needs much memory."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join(pieces) + packer.flush()


def bombs() -> Iterator[bytes]:
    """Small files that declare or unpack to something large, or never end."""
    for width, height in itertools.product(HUGE, (1, 8, 40, *HUGE)):
        yield png(width, height, 8, 2)
    for depth, colour in itertools.product((1, 2, 4, 8, 16, 0, 3, 255), (0, 2, 3, 4, 6, 1, 7)):
        yield png(40, 40, depth, colour)
        yield png(40, 40, depth, colour, interlaced=True)
    yield png(40, 40, 8, 0, crc=1)
    yield png(3900, 4000, 8, 0, content=packed(400))
    yield png(3900, 4000, 16, 6, content=packed(40))
    text = chunk(b"zTXt", b"a\0\0" + packed(50))
    whole = saved(drawn("L"), "PNG")
    yield whole[:33] + text * 3 + whole[33:]
    yield whole[:33] + chunk(b"IDAT", b"") * 20_000 + whole[33:]
    yield whole[:33] + chunk(b"iCCP", b"a\0\0" + packed(9)) + whole[33:]
    yield whole[:33] + chunk(b"acTL", b"\xff" * 8) + whole[33:]
    jpeg = saved(drawn("RGB"), "JPEG", progressive=True)
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    yield jpeg[:-2] + scan * 5000 + jpeg[-2:]
    yield jpeg[:2] + b"\xff\xe1\xff\xff" * 100_000 + jpeg[2:]
    size = jpeg.index(b"\xff\xc2") + 5
    for height, width in itertools.product((65535, 0, 8, 65500), (65535, 1, 16000)):
        yield jpeg[:size] + struct.pack(">HH", height, width) + jpeg[size + 4 :]
    for magic in (PNG, b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"GIF89a", b"BM", b"RIFF"):
        yield magic
        yield magic + bytes(500)
        yield magic + b"\xff" * 500
    yield b"\xff\xd8" + b"\xff" * 200_000
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield b"<svg xmlns='http://www.w3.org/2000/svg'/>"

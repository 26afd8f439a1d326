"""A picture of a digit -> the 28 x 28 grey pixels that an MNIST network expects.

MNIST's makers cropped each digit, scaled it into a 20 x 20 box with its aspect ratio kept, and
placed the box so that the ink's centre of mass is in the middle of the 28 x 28 pixels
(http://yann.lecun.com/exdb/mnist/). This module does the same once the ink is found. A picture
from MNIST stays as it is.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perceptd.models.pictures.ink import (
    EDGE,
    FULL,
    Floats,
    cut,
    dilated,
    find_digit,
    ink_box,
)
from perceptd.models.pictures.picture import open_picture

SIDE = 28
BOX = 20

# Stroke widths in pixels of the 20 x 20 box. 98 % of MNIST's test digits lie between 1.8 and 4.7.
# A width below THIN or above THICK is moved to its target.
THIN, THIN_TARGET = 1.6, 2.2
THICK, THICK_TARGET = 4.7, 3.4
STROKE_SIDE = 100  # pixels; one step of erosion or dilation is then 0.4 of a pixel in the box


def read_digit(data: bytes, *, max_pixels: int = 16_000_000) -> NDArray[np.uint8]:
    """Read a PNG or JPEG of a digit as (28, 28), 0 background .. 255 ink.

    Raises only `PictureError`: if `data` is no picture of a digit, and, before decoding, if it has
    more than `max_pixels` pixels.
    """
    digit = find_digit(open_picture(data, max_pixels))
    return place(fit(normalise_stroke(digit)))


def stroke_width(digit: Floats) -> float:
    """Mean width of the stroke in pixels: a stroke has two edges, so twice area over edge."""
    down, across = np.gradient(np.pad(digit, 1))
    return float(2 * digit.sum() / np.hypot(down, across).sum())


def normalise_stroke(digit: Floats) -> Floats:
    """Thicken hairlines and thin marker strokes. Widths that occur in MNIST stay."""
    width = BOX * stroke_width(digit) / max(digit.shape)
    if THIN <= width <= THICK:
        return digit
    digit = resized(digit, STROKE_SIDE)
    side, width = max(digit.shape), stroke_width(digit)
    share = (THIN_TARGET if width * BOX < THIN * side else THICK_TARGET) / BOX
    steps = round((share * side - width) / (2 - 2 * share))  # the box grows with the stroke
    if steps > 0:
        bolder = dilated(np.pad(digit, steps), steps)
        full = np.percentile(bolder[bolder > bolder.max() / 2], FULL)  # hair lines come out pale
        return np.asarray((bolder / full).clip(0, 1))
    thinned = 1 - dilated(1 - np.pad(digit, 1), -steps)
    return cut(thinned, ink_box(thinned)) if (thinned > EDGE).any() else digit


def fit(digit: Floats) -> Floats:
    """Scale the longer side to 20 pixels. One of 18 or 19 stays, because resampling blurs."""
    return digit if BOX - 2 <= max(digit.shape) <= BOX else resized(digit, BOX)


def resized(digit: Floats, long_side: int) -> Floats:
    height, width = digit.shape
    scale = long_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(digit).resize(size, how)).clip(0, 1)


def place(digit: Floats) -> NDArray[np.uint8]:
    """Put the digit's centre of mass in the middle of (28, 28), in whole pixels as MNIST did."""
    height, width = digit.shape
    mass = digit.sum()
    row = float(np.arange(height) @ digit.sum(axis=1) / mass)
    column = float(np.arange(width) @ digit.sum(axis=0) / mass)
    top = min(max(round(SIDE / 2 - row), 0), SIDE - height)
    left = min(max(round(SIDE / 2 - column), 0), SIDE - width)
    placed = np.zeros((SIDE, SIDE), dtype=np.uint8)
    placed[top : top + height, left : left + width] = np.rint(255 * digit)
    return placed

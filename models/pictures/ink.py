"""Find the ink in a picture: where it differs from the paper, without noise, specks and frames."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perceptd.models.pictures.picture import PictureError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive

# A picture is reduced to at most this many pixels a side: enough for a fine line, few enough to be
# quick and to average out the noise of a photograph.
WORK_SIDE = 160
MIN_DIGIT = 6  # pixels; smaller digits cannot be told apart

FRAME = 0.02  # maximum width of a frame around the picture, as a share of its longer side
MIN_CONTRAST = 10.0  # of 255; less is what JPEG makes of a white wall
MIN_SIGNAL = 4.5  # ink over noise (standard deviations); pure Gaussian noise stays below 4
INK = 0.35  # share of the ink's full strength from which a pixel counts as ink
EDGE = 0.2  # the same for pixels at the edge of the digit's box
FULL = 75.0  # percentile of a digit's pixels that counts as full ink; MNIST's strokes saturate too
SPECK = 0.06  # a component with less than this share of the largest one's ink is a speck


def find_digit(picture: Image.Image) -> Floats:
    """Return the digit cropped to its ink, (h, w), 0 .. 1.

    A digit that is small in a large picture is cropped and read again at a higher resolution.
    """
    factor = math.ceil(max(picture.size) / WORK_SIDE)
    ink = ink_of(picture.reduce(factor))
    left, top, right, bottom = box = ink_box(ink)
    long_side = max(right - left, bottom - top)
    margin = max(4, long_side // 4)
    closer = (
        max(0, (left - margin) * factor),
        max(0, (top - margin) * factor),
        min(picture.width, (right + margin) * factor),
        min(picture.height, (bottom + margin) * factor),
    )
    if max(closer[2] - closer[0], closer[3] - closer[1]) <= WORK_SIDE * (factor - 1):
        return find_digit(picture.crop(closer))
    if long_side < MIN_DIGIT:
        raise PictureError(f"a digit of at least {MIN_DIGIT} pixels", f"{long_side} pixels of ink")
    return cut(ink, box)


def ink_of(picture: Image.Image) -> Floats:
    """The share of ink in each pixel, (h, w), 0 .. 1, without noise and specks."""
    # Premultiplied by alpha, transparent pixels are all zeros and alpha is a fourth channel: black
    # ink and white ink on transparent paper both differ from the border.
    if picture.mode == "RGBA":
        picture = picture.convert("RGBa")
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # (h, w, channels)
    signal = along_ink(pixels - background_of(pixels))  # (h, w), in grey levels, noise around 0
    noise = noise_of(signal)

    strong = signal[signal > max(3 * noise, 2.0)].astype(np.float64)
    # The strength of the ink. Unlike the maximum, this weighted mean does not depend on one speck.
    level = (strong**3).sum() / (strong**2).sum() if strong.size else 0.0
    if level < MIN_CONTRAST or level < MIN_SIGNAL * noise:
        raise blank(f"a blank one (contrast {level:.0f} of 255, noise {noise:.0f})")

    digit = without_specks(signal * (signal > max(INK * level, 3.5 * noise)))
    full = np.percentile(signal[digit], FULL)
    ink = np.clip((signal - noise) / (full - noise), 0.0, 1.0)
    return np.asarray(ink * dilated(digit.astype(np.float32), 2), dtype=np.float32)


def blank(got: str) -> PictureError:
    return PictureError("a picture with a digit on it", got)


def border_of(height: int, width: int, band: int) -> Mask:
    """The outermost `band` pixels of a picture."""
    border = np.ones((height, width), dtype=np.bool_)
    border[band : height - band, band : width - band] = False
    return border


def background_of(pixels: Floats) -> Floats:
    """The colour of the paper: (channels,) if it is uniform, else (h, w, channels)."""
    height, width, _ = pixels.shape
    border = border_of(height, width, math.ceil(2 * FRAME * max(height, width)))
    level = np.median(pixels[border], axis=0)
    if np.mean(np.abs(pixels[border] - level).max(axis=1) < 4) > 0.6:
        return np.asarray(level, dtype=np.float32)

    # Light falls off smoothly, so fit a quadratic surface: first to the border, then also to a grid
    # of pixels. Cauchy weights keep the ink from counting.
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # (h, w, 6)
    surface = np.broadcast_to(level, pixels.shape)
    step = math.ceil(max(height, width) / 50)
    grid = border.copy()
    grid[::step, ::step] = True
    for where in (border, border, border, grid, grid, grid):
        off = np.linalg.norm(pixels[where] - surface[where], axis=1)
        weights = 1 / (1 + (off / (1 + 1.5 * np.median(off))) ** 2)
        weighted = terms[where].T * weights  # (6, n)
        fitted = np.linalg.lstsq(weighted @ terms[where], weighted @ pixels[where], rcond=None)
        surface = terms @ fitted[0]
    return np.asarray(surface, dtype=np.float32)


def along_ink(deviation: Floats) -> Floats:
    """Project (h, w, channels) onto the colour that deviates most: (h, w), ink positive.

    Anti-aliased edges keep their exact share of ink, and noise in other colours falls away.
    """
    strength = np.einsum("hwc,hwc->hw", deviation, deviation)
    ink = np.einsum("hw,hwc->c", strength, deviation)  # cubic: the many paper pixels count little
    return np.asarray(deviation @ (ink / max(float(np.linalg.norm(ink)), 1e-6)))


def noise_of(signal: Floats) -> float:
    """Standard deviation of the background. Ink is positive, so negative values are noise."""
    below = np.append(-signal[signal <= 0.5], 0.0)
    return max(0.0, float(np.percentile(below, 68)))


def without_specks(ink: Floats) -> Mask:
    """The mask of the ink, without small components and without a frame around the picture."""
    inked = ink > 0
    scattered = inked.any(axis=0).mean() > 0.2  # a tiny digit is a few lone pixels in one spot
    if scattered and np.mean(neighbours(inked)[inked] >= 2) < 0.5:
        raise blank("nothing but grain")
    height, width = ink.shape
    cell = math.ceil(max(height, width) / 40)  # pixels in touching cells are connected
    inner = ink * ~border_of(height, width, int(FRAME * max(height, width)))
    weight = in_cells(inner, cell).sum(axis=(1, 3))
    components = connected_components(weight > 0)
    weights = [sum(float(weight[at]) for at in component) for component in components]
    heavy = np.zeros_like(weight, dtype=np.bool_)
    for component, its_weight in zip(components, weights, strict=True):
        if its_weight > SPECK * max(weights):
            heavy[tuple(np.transpose(component))] = True
    if not components or weight[heavy].sum() < 0.5 * weight.sum():
        raise blank("nothing but specks")
    return inked & heavy.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]


def neighbours(inked: Mask) -> NDArray[np.uint8]:
    """How many of the eight pixels around each are ink; inside a line, at least two."""
    padded = np.pad(inked, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - inked, dtype=np.uint8)


def in_cells(ink: Floats, cell: int) -> Floats:
    """(h, w) -> (rows, cell, columns, cell), padded with zeros."""
    height, width = ink.shape
    padded = np.pad(ink, ((0, -height % cell), (0, -width % cell)))
    return padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell)


def connected_components(cells: Mask) -> list[list[tuple[int, int]]]:
    """The 8-connected components, each a list of (row, column)."""
    remaining = set(zip(*(axis.tolist() for axis in np.nonzero(cells)), strict=True))
    components = []
    while remaining:
        component = [remaining.pop()]
        for row, column in component:  # the loop appends to the list
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & remaining
            remaining -= around
            component.extend(around)
        components.append(component)
    return components


def ink_box(ink: Floats) -> Box:
    inked = ink > EDGE
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def cut(ink: Floats, box: Box) -> Floats:
    left, top, right, bottom = box
    return ink[top:bottom, left:right]


def dilated(values: Floats, steps: int) -> Floats:
    """Grow (h, w) by `steps` pixels. Crosses and squares alternate to approximate a circle."""
    for step in range(steps):
        padded = np.pad(values, 1, mode="edge")
        row = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        rows = row if step % 2 else padded[:, 1:-1]
        values = np.maximum(np.maximum(rows[:-2], row[1:-1]), rows[2:])
    return values

"""What the MNIST models share: 28 x 28 pictures as input and ten digits as labels."""

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from perceptd.models.spec import Example, InputSpec, ModelSpec

LABELS = tuple("0123456789")
PICTURE: tuple[Literal[28], Literal[28]] = (28, 28)


def digit_spec(description: str, shape: tuple[int, ...]) -> ModelSpec:
    """The spec of a ten-class model whose rows are 28 x 28 digits, reshaped to `shape`."""
    return ModelSpec(
        description=description,
        input=InputSpec(shape=shape, minimum=0.0, maximum=1.0, picture=PICTURE),
        labels=LABELS,
        head="softmax",
        example=Example(inputs=[drawn_seven()], dtype="uint8"),
    )


def drawn_seven() -> list[list[int]]:
    """A seven as 28 rows of 28 grey values, from 0 (background) to 255 (ink)."""
    canvas = Image.new("L", (112, 112))
    pen = ImageDraw.Draw(canvas)
    pen.line([(34, 26), (80, 26), (50, 90)], fill=255, width=10, joint="curve")
    pixels: list[list[int]] = np.asarray(canvas.resize(PICTURE, Image.Resampling.BOX)).tolist()
    return pixels

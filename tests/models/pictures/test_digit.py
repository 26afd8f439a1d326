"""A picture of a digit becomes the 28 x 28 pixels that MNIST would have."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from perceptd.models.pictures.digit import read_digit, stroke_width
from tests.models.pictures.drawing import (
    BLACK,
    WHITE,
    Digit,
    difference,
    draw,
    extent,
    jpeg,
    png,
    refusal,
    zigzag,
)


@pytest.mark.parametrize("text", list("0123456789"))
def test_digit_is_light_on_dark_in_the_box_and_centred_by_mass(text: str) -> None:
    digit = read_digit(png(draw(text=text)))

    assert digit.shape == (28, 28)
    assert digit.dtype == np.uint8
    assert digit.max() == 255
    assert digit[0].max() == digit[-1].max() == digit[:, 0].max() == digit[:, -1].max() == 0
    assert max(extent(digit)) == 20
    mass = digit.astype(float)
    centre = (np.arange(28) @ mass.sum(axis=1), np.arange(28) @ mass.sum(axis=0)) / mass.sum()
    assert np.abs(centre - 14).max() <= 0.51


def test_mnist_picture_comes_back_unchanged(five: Digit) -> None:
    assert np.array_equal(read_digit(png(Image.fromarray(five))), five)


def test_aspect_ratio_is_kept() -> None:
    image = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(image).rectangle((50, 130, 249, 169), fill=0)  # 200 x 40

    assert extent(read_digit(png(image))) == (4, 20)


@pytest.mark.parametrize(
    ("image", "tolerance"),
    [
        pytest.param(draw(ink=255, paper=0), 0.01, id="light on dark"),
        pytest.param(draw(ink=100, paper=160), 0.03, id="grey on grey"),
        pytest.param(draw(ink=(255, 0, 0), paper=(0, 130, 0), mode="RGB"), 0.03, id="red on green"),
        pytest.param(draw(ink="blue", paper="yellow", mode="RGB"), 0.03, id="blue on yellow"),
        pytest.param(draw(ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="RGBA"), 0.03, id="black"),
        pytest.param(draw(ink=(*WHITE, 255), paper=(*WHITE, 0), mode="RGBA"), 0.03, id="white"),
        pytest.param(draw(ink=BLACK, paper=WHITE, mode="RGBA"), 0.01, id="opaque"),
        pytest.param(draw().convert("LA"), 0.01, id="LA"),
        pytest.param(draw().convert("P"), 0.01, id="palette"),
        pytest.param(draw().convert("1", dither=Image.Dither.NONE), 0.12, id="one bit"),
        pytest.param(draw(side=1500), 0.35, id="scaled up"),
        pytest.param(draw(side=120), 0.35, id="scaled down"),
    ],
)
def test_digit_is_the_same_whatever_its_colours_and_size(
    five: Digit, image: Image.Image, tolerance: float
) -> None:
    assert difference(five, read_digit(png(image))) < tolerance


@pytest.mark.parametrize(
    ("paper", "at"),
    [
        ((600, 600), (0, 0)),
        ((600, 600), (320, 0)),
        ((600, 600), (17, 101)),
        ((600, 600), (319, 319)),
        ((3000, 2000), (2500, 1500)),  # small enough to be cropped and read again
    ],
)
def test_digit_is_the_same_wherever_it_is(
    five: Digit, paper: tuple[int, int], at: tuple[int, int]
) -> None:
    image = Image.new("L", paper, 255)
    image.paste(draw(), at)

    assert difference(five, read_digit(png(image))) < 0.15


def test_digit_that_touches_the_edges_is_read(five: Digit) -> None:
    left, top, right, bottom = Image.eval(draw(), lambda grey: 255 - grey).getbbox() or (0,) * 4

    corner = draw().crop((left, top, right + 60, bottom + 60))
    assert difference(five, read_digit(png(corner))) < 0.25


def framed() -> Image.Image:
    image = draw()
    ImageDraw.Draw(image).rectangle((0, 0, 279, 279), outline=0, width=3)
    return image


def specked() -> Image.Image:
    image = draw()
    for x, y in ((20, 20), (250, 30), (30, 240), (255, 255)):
        ImageDraw.Draw(image).ellipse((x, y, x + 4, y + 4), fill=0)
    return image


@pytest.mark.parametrize("dirty", [framed(), specked()], ids=["frame", "specks"])
def test_frame_and_specks_are_ignored(five: Digit, dirty: Image.Image) -> None:
    assert difference(five, read_digit(png(dirty))) < 0.01


def test_noise_and_uneven_light_are_suppressed(five: Digit) -> None:
    light = np.linspace(0.5, 1.0, 280)[:, None] * np.linspace(0.8, 1.0, 280)
    noise = np.random.default_rng(0).normal(0, 10, (280, 280))
    photo = (np.asarray(draw(ink=40, paper=230)) * light + noise).clip(0, 255).astype(np.uint8)

    digit = read_digit(jpeg(Image.fromarray(photo), quality=50))
    assert difference(five, digit) < 0.25
    assert max(extent(digit)) == 20


@pytest.mark.parametrize("width", [1, 2, 5, 20, 40, 80])
def test_stroke_ends_as_wide_as_in_mnist(width: int) -> None:
    digit = read_digit(png(zigzag(width)))

    assert 1.6 < stroke_width((digit / 255).astype(np.float32)) < 5.0
    assert 255 * 25 < digit.astype(int).sum() < 255 * 220


@pytest.mark.parametrize("size", [(8, 128), (640, 40), (9, 9), (161, 161)])
def test_solid_shape_in_an_odd_picture_is_read(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).ellipse((1, 1, size[0] - 3, size[1] - 3), fill=0)

    assert max(extent(read_digit(png(image)))) <= 20


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_blank_picture_is_refused(mode: str) -> None:
    error = refusal(png(Image.new(mode, (280, 280), 1)))
    assert error.expected == "a picture with a digit on it"
    assert error.got == "a blank one (contrast 0 of 255, noise 0)"


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "salt"])
@pytest.mark.parametrize("side", [28, 280])
def test_noise_is_refused(kind: str, side: int) -> None:
    random = np.random.default_rng(side)
    shape = (side, side)
    noise = {
        "uniform": random.uniform(0, 255, shape),
        "gaussian": random.normal(128, 25, shape),
        "salt": (random.random(shape) < 0.02) * 255,
    }[kind]
    error = refusal(png(Image.fromarray(noise.clip(0, 255).astype(np.uint8))))
    assert error.expected == "a picture with a digit on it"

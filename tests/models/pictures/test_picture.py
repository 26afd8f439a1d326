"""A picture of a digit becomes the 28 x 28 pixels that MNIST would have, or is refused in words."""

import io
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from perceptd.models.pictures.digit import read_digit, stroke_width
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


@pytest.fixture(scope="module")
def five() -> Digit:
    return read_digit(png(draw()))


# ---- what comes out


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


# ---- what formats go in


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


# ---- whatever the pixels


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

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from perceptd.service.settings import Settings
from tests.service.admin import TOKENS, as_admin, problem

PATH = "/predict/image"
RAW = "application/octet-stream"


def picture(kind: str = "PNG", mode: str = "L", paper: Any = 255, ink: Any = 0) -> bytes:
    """A seven of thick strokes on paper of 200 x 240."""
    image = Image.new(mode, (200, 240), paper)
    ImageDraw.Draw(image).line([(50, 50), (140, 50), (90, 190)], fill=ink, width=18, joint="curve")
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    return prediction


@pytest.mark.parametrize("model", ["mnist-cnn", "mnist-mlp"])
def test_a_drawn_seven_is_read_from_png_jpeg_and_form(client: httpx.Client, model: str) -> None:
    url = f"{PATH}?model={model}"
    answers = [
        answer(client.post(url, files={"file": ("seven.png", picture())})),
        answer(client.post(url, content=picture(), headers={"Content-Type": "image/png"})),
        answer(client.post(url, content=picture("JPEG"), headers={"Content-Type": "image/jpeg"})),
    ]
    for got in answers:
        assert got["label"] == "7"
        assert sum(got["probabilities"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "paper", "ink"),
    [
        ("L", 0, 255),
        ("L", 200, 90),
        ("RGB", (250, 240, 200), (20, 20, 120)),
        ("RGB", (0, 90, 0), (255, 80, 80)),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
        ("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
    ],
)
def test_paper_and_ink_may_have_any_colour(
    client: httpx.Client, mode: str, paper: Any, ink: Any
) -> None:
    body = picture(mode=mode, paper=paper, ink=ink)
    response = client.post(PATH, content=body, headers={"Content-Type": "image/png"})
    assert answer(response)["label"] == "7"


@pytest.mark.parametrize("model", ["mnist-cnn", "mnist-mlp"])
@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", RAW, "form"])
def test_the_pixels_that_the_network_saw_lead_to_the_same_answer(
    client: httpx.Client, model: str, kind: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "image/png": {"content": picture(paper=(9, 99, 9), ink=(255, 80, 80), mode="RGB")},
        "image/jpeg": {"content": picture("JPEG")},
        RAW: {"content": bytes(range(256)) * 3 + bytes(16)},
        "form": {"files": {"file": ("seven.png", picture())}},
    }
    body = bodies[kind]
    if kind != "form":
        body["headers"] = {"Content-Type": kind}
    url = f"{PATH}?model={model}"

    plain = client.post(url, **body)
    with_pixels = client.post(f"{url}&pixels=true", **body)

    assert with_pixels.status_code == 200, with_pixels.text
    pixels = with_pixels.json()["pixels"]
    assert (len(pixels), min(pixels), max(pixels)) == (784, 0, 255)
    assert all(type(pixel) is int for pixel in pixels)
    if kind == RAW:
        assert bytes(pixels) == body["content"]
    again = {"model": model, "inputs": [pixels], "dtype": "uint8"}
    assert client.post("/predict_proba", json=again).json() == plain.json()
    assert with_pixels.json() == {**plain.json(), "pixels": pixels}
    assert with_pixels.content.startswith(plain.content[:-1])
    assert client.post(f"{url}&pixels=false", **body).content == plain.content


def test_pixels_can_be_sent_back_with_their_right_label(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = as_admin(serve(Settings(data_dir=tmp_path, **TOKENS)))
    seen = client.post(f"{PATH}?pixels=true", files={"file": picture()}).json()["pixels"]
    body = {"model": "mnist-cnn", "inputs": [seen], "dtype": "uint8", "labels": ["7"]}
    assert client.post("/feedback", json=body).json()["kept"] == 1


@pytest.mark.parametrize("value", ["maybe", "", "2"])
@pytest.mark.parametrize("kind", ["image/png", RAW])
def test_pixels_must_be_true_or_false(client: httpx.Client, kind: str, value: str) -> None:
    headers = {"Content-Type": kind}
    response = client.post(f"{PATH}?pixels={value}", content=bytes(784), headers=headers)
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"] == [
        {"loc": ["query", "pixels"], "expected": "true or false", "got": f'"{value}"'}
    ]


def bomb() -> bytes:
    """A PNG of a few dozen bytes that says it is 50,000 x 50,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


BAD_PICTURES = {
    "a text file": (b"hello, world", "PNG or JPEG"),
    "nothing": (b"", "PNG or JPEG"),
    "half a picture": (picture()[:200], "a whole PNG"),
    "blank": (picture(ink=255), "digit"),
    "a bomb": (bomb(), "at most 16,000,000 pixels"),
    "a GIF": (picture("GIF"), "PNG or JPEG"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_body_without_a_readable_digit_is_refused(client: httpx.Client, name: str) -> None:
    body, expected = BAD_PICTURES[name]
    for response in (
        client.post(PATH, content=body, headers={"Content-Type": "image/png"}),
        client.post(PATH, files={"file": ("digit.png", body, "image/png")}),
    ):
        assert problem(response) == (422, "invalid_input")
        (error,) = response.json()["errors"]
        assert error["loc"] == ["body"]
        assert expected in error["expected"]
        assert error["got"]
        assert response.json()["example"].startswith("curl ")


def test_raw_bytes_of_another_length_are_refused(client: httpx.Client) -> None:
    response = client.post(PATH, content=bytes(783), headers={"Content-Type": RAW})
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"] == [
        {"loc": ["body"], "expected": "784 bytes, one per pixel", "got": "783 bytes"}
    ]


@pytest.mark.parametrize("kind", ["text/plain", "image/gif", "application/json"])
def test_another_media_type_is_refused(client: httpx.Client, kind: str) -> None:
    response = client.post(PATH, content=picture(), headers={"Content-Type": kind})
    assert problem(response) == (415, "unsupported_media_type")
    assert kind in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "files", "data", "loc"),
    [
        ("", {"picture": picture()}, None, ["body", "picture"]),
        ("", {"file": (None, "text")}, None, ["body", "file"]),
        ("", {"file": picture()}, {"model": "mnist-mlp"}, ["body", "model"]),
        ("?modle=mnist-mlp", {"file": picture()}, None, ["query", "modle"]),
        ("?model=dnn", {"file": picture()}, None, ["query", "model"]),
    ],
)
def test_a_wrong_field_is_refused(
    client: httpx.Client, query: str, files: Any, data: Any, loc: list[str]
) -> None:
    response = client.post(f"{PATH}{query}", files=files, data=data)
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"][0]["loc"] == loc
    if data:
        assert "?model=" in response.json()["detail"]


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        ("", b"--y\r\n"),
        ("; boundary=x", b"--y\r\n"),
        (
            "; boundary=x; charset=undefined",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\r\n--x--\r\n',
        ),
    ],
    ids=["no boundary", "another boundary", "an unknown charset"],
)
def test_a_broken_form_is_refused(client: httpx.Client, parameters: str, body: bytes) -> None:
    kind = f"multipart/form-data{parameters}"
    response = client.post(PATH, content=body, headers={"Content-Type": kind})
    assert problem(response) == (422, "invalid_input")

"""The data sets: what is in them, the same each time, and which models they are for."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from perceptd.models import registry
from perceptd.models.spec import ModelSpec
from perceptd.training.data import datasets
from perceptd.training.data.splits import Dataset, hold_out
from perceptd.training.errors import DataError

PLANE = registry.load("dnn").spec
FLAT = registry.load("mnist-mlp").spec
SQUARE = registry.load("mnist-cnn").spec
UNUSED = Path("unused")


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("blobs", [50, 50], [500, 500]),
        ("circles", [250, 250], [500, 500]),
        ("xor", [40, 40], [10, 10]),
    ],
)
def test_plane_data_set_has_its_rows_in_equal_classes(
    name: str, train: list[int], test: list[int]
) -> None:
    data = datasets.load(name, PLANE, UNUSED)

    for split, counts in ((data.train, train), (data.test, test)):
        assert split.inputs.shape == (sum(counts), 2)
        assert split.inputs.dtype == np.float32
        assert split.targets.dtype == np.int64
        assert np.bincount(split.targets).tolist() == counts
    assert data.ref.rows == {"train": sum(train), "test": sum(test)}


def test_blobs_lie_around_their_centres() -> None:
    split = datasets.load("blobs", PLANE, UNUSED).test

    for target, centre in enumerate([(-0.5, 0.5), (0.5, -0.5)]):
        cloud = split.inputs[split.targets == target]
        np.testing.assert_allclose(cloud.mean(axis=0), centre, atol=0.08)
        np.testing.assert_allclose(cloud.std(axis=0), 0.4, atol=0.05)


def test_circles_are_a_disc_of_class_1_in_a_ring_of_class_0() -> None:
    split = datasets.load("circles", PLANE, UNUSED).train
    radius = np.hypot(*split.inputs.T)

    assert np.median(radius[split.targets == 0]) == pytest.approx(1.0, abs=0.1)
    assert np.median(radius[split.targets == 1]) == pytest.approx(0.35, abs=0.1)


def test_xor_is_class_1_where_the_signs_differ() -> None:
    data = datasets.load("xor", PLANE, UNUSED)

    for split in (data.train, data.test):
        assert_array_equal(split.targets, np.prod(np.sign(split.inputs), axis=1) < 0)


@pytest.mark.parametrize("spec", [FLAT, SQUARE])
def test_digits_are_pictures_like_those_of_mnist(spec: ModelSpec) -> None:
    data = datasets.load("digits", spec, UNUSED)

    assert data.ref.rows == {"train": 1437, "test": 360}
    for split, least in ((data.train, 139), (data.test, 35)):
        assert split.inputs.shape == (len(split), *spec.input.shape)
        assert (split.inputs.min(), split.inputs.max()) == (0.0, 1.0)
        assert np.bincount(split.targets).tolist() == pytest.approx([least + 4] * 10, abs=4)
        pictures = split.inputs.reshape(-1, 28, 28)
        mass = pictures.sum(axis=(1, 2))
        for axis in (1, 2):
            centre = pictures.sum(axis=axis) @ np.arange(28) / mass
            np.testing.assert_allclose(centre, 14, atol=0.6)
        inked = pictures > 0
        tall = inked.any(axis=2).sum(axis=1)
        wide = inked.any(axis=1).sum(axis=1)
        assert np.maximum(tall, wide).max() <= 20


@pytest.mark.parametrize("name", ["blobs", "circles", "xor", "digits"])
def test_data_set_is_the_same_each_time(name: str) -> None:
    spec = FLAT if name == "digits" else PLANE

    one, two = datasets.load(name, spec, UNUSED), datasets.load(name, spec, UNUSED)

    assert_array_equal(one.train.inputs, two.train.inputs)
    assert_array_equal(one.test.targets, two.test.targets)
    assert one.ref == two.ref
    assert one.ref.name == name


def test_hash_tells_data_sets_apart() -> None:
    made = [datasets.load(name, PLANE, UNUSED) for name in ("blobs", "circles", "xor")]
    swapped = Dataset("blobs", made[0].test, made[0].train)

    assert len({data.ref.sha256 for data in (*made, swapped)}) == 4


def test_held_out_rows_are_a_fifth_of_each_class_and_none_of_the_others() -> None:
    inputs = np.arange(100, dtype=np.float32).reshape(100, 1)
    targets = np.repeat([0, 1], [80, 20])

    data = hold_out("mine", inputs, targets)

    assert np.bincount(data.test.targets).tolist() == [16, 4]
    assert np.bincount(data.train.targets).tolist() == [64, 16]
    together = np.concatenate([data.train.inputs, data.test.inputs])
    assert_array_equal(np.sort(together, axis=0), inputs)
    for split in (data.train, data.test):
        assert_array_equal(split.targets, split.inputs[:, 0] >= 80)
    assert hold_out("mine", inputs, targets).ref == data.ref


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        (
            "xor",
            SQUARE,
            "xor holds points of 2 numbers in 2 classes, "
            "the model takes rows of shape (1, 28, 28) and has 10 classes",
        ),
        (
            "mnist",
            PLANE,
            "mnist holds 28 x 28 pictures of 10 classes, "
            "the model takes rows of shape (2,) and has 2 classes",
        ),
    ],
)
def test_data_set_that_does_not_fit_is_refused_before_a_download(
    name: str, spec: ModelSpec, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        datasets.load(name, spec, tmp_path)

    assert str(error.value) == reason
    assert list(tmp_path.iterdir()) == []


def test_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError) as error:
        datasets.load("cifar", FLAT, UNUSED)

    assert str(error.value) == (
        "no data set is called 'cifar'; known: blobs, circles, xor, digits, mnist, "
        "or a file that ends in .csv or .npz"
    )


def test_data_set_may_be_a_function() -> None:
    assert datasets.load(datasets.blobs, PLANE, UNUSED).ref.name == "blobs"


@pytest.mark.parametrize(
    ("spec", "fitting"),
    [
        (PLANE, ["blobs", "circles", "xor"]),
        (FLAT, ["digits", "mnist"]),
        (SQUARE, ["digits", "mnist"]),
        (PLANE.model_copy(update={"labels": ("a", "b", "c")}), []),
    ],
)
def test_data_sets_that_fit_a_model_are_known(spec: ModelSpec, fitting: list[str]) -> None:
    assert datasets.fitting(spec) == fitting

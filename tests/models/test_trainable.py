"""What a worker can train is written, read back and shipped."""

import pytest
from pydantic import ValidationError

from perceptd.models import registry, trainable
from perceptd.models.trainable import Trainable

DNN = Trainable(
    architecture="dnn",
    config={"type": "object"},
    recipes={"reference": {"epochs": 3, "batch_size": None}},
    datasets=["circles"],
    metrics={"loss": False, "recall:0": True},
)


def test_what_is_written_is_read_again() -> None:
    assert trainable.parse(trainable.dump([DNN, DNN])) == [DNN, DNN]
    assert trainable.parse(trainable.dump([])) == []


def test_every_built_in_is_shipped() -> None:
    assert [one.architecture for one in trainable.shipped()] == list(registry.BUILT_IN)


@pytest.mark.parametrize("text", ["", "{}", '[{"architecture": "dnn"}]'])
def test_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        trainable.parse(text)

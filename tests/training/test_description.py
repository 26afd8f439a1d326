"""`describe`: what can be trained here, for a server that cannot look itself."""

from contextlib import redirect_stderr
from io import StringIO

import pytest

from perceptd.models import registry, trainable
from perceptd.models.trainable import Trainable
from perceptd.training.description import describe_all
from perceptd.training.recipes import RECIPES
from tests.command_line import perceptd
from tests.training.conftest import SPIRAL, Package

METRIC = """
from perceptd.training.evaluation.metrics import Metric

CONFIDENCE = Metric(lambda targets, probabilities, spec: probabilities.max(axis=1).mean())
"""


def described() -> tuple[dict[str, Trainable], str]:
    """What `describe` prints, by architecture, and what it says besides."""
    outcome = perceptd("describe")
    assert outcome.exit_code == 0
    return {one.architecture: one for one in trainable.parse(outcome.stdout)}, outcome.stderr


def test_shipped_description_is_what_the_code_says() -> None:
    said = StringIO()
    with redirect_stderr(said):
        made = trainable.dump(describe_all(registry.BUILT_IN, {}))

    assert said.getvalue() == ""
    assert trainable.SHIPPED.read_text() == made + "\n", (
        "run: make models/pretrained/trainable.json"
    )


def test_an_architecture_is_described_by_all_that_a_job_may_name() -> None:
    found, said = described()

    assert said == ""
    dnn = found["dnn"]
    assert dnn.config["properties"]["hidden"]["maximum"] == 4096
    assert dnn.config["additionalProperties"] is False
    assert dnn.recipes["fast"] == RECIPES["dnn"]["fast"].model_dump(mode="json")
    assert dnn.datasets == ["blobs", "circles", "xor"]
    assert dnn.metrics == {
        "loss": False,
        "accuracy": True,
        "balanced_accuracy": True,
        "f1_macro": True,
        "recall:0": True,
        "recall:1": True,
    }


def test_plug_ins_are_described_like_built_ins(package: Package) -> None:
    package(
        "spiral_plug_in",
        SPIRAL,
        models={"spiral": "spiral_plug_in:ARCHITECTURE"},
        recipes={"spiral": "spiral_plug_in:RECIPES"},
    )
    package("confident", METRIC, metrics={"confidence": "confident:CONFIDENCE"})

    found, said = described()

    assert said == ""
    assert found["spiral"].recipes["reference"]["dataset"] == "arms"
    assert found["spiral"].datasets == []
    assert found["spiral"].metrics["recall:b"]
    assert found["spiral"].metrics["confidence"]


@pytest.mark.parametrize(
    ("code", "groups", "said"),
    [
        (
            "raise RuntimeError('out of order')",
            {"models": {"helix": "broken:ARCHITECTURE"}},
            "helix is left out: architecture 'helix' (broken:ARCHITECTURE): "
            "RuntimeError: out of order\n",
        ),
        (
            SPIRAL,
            {"models": {"spiral": "broken:ARCHITECTURE"}},
            "spiral is left out: no recipe for 'spiral': no package registers one under "
            "'perceptd.recipes'\n",
        ),
        (
            SPIRAL,
            {
                "models": {"spiral": "broken:ARCHITECTURE"},
                "recipes": {"spiral": "broken:NOTHING"},
            },
            "spiral is left out: module 'broken' has no attribute 'NOTHING'\n",
        ),
        (
            "raise RuntimeError('out of order')",
            {"metrics": {"confidence": "broken:CONFIDENCE"}},
            "The metric confidence is left out: out of order\n",
        ),
        (
            "CONFIDENCE = 1",
            {"metrics": {"confidence": "broken:CONFIDENCE"}},
            "The metric confidence is left out: broken:CONFIDENCE is not a Metric\n",
        ),
    ],
)
def test_invalid_plug_in_is_left_out_and_named(
    code: str, groups: dict[str, dict[str, str]], said: str, package: Package
) -> None:
    package("broken", code, **groups)

    found, told = described()

    assert list(found) == list(registry.BUILT_IN)
    assert "confidence" not in found["dnn"].metrics
    assert told == said

"""How far rows, and what is answered to them, are from those of the training.

Measured as the population stability index (PSI): the sum of (o - e) ln(o / e) over the bins of one
figure, of whose rows the training has the share e and the observed the share o; it is the
symmetrised Kullback-Leibler divergence (S. Kullback, R. Leibler, 1951). In the field 0.1 is a small
shift and 0.25 one to act on (N. Siddiqi, Credit Risk Scorecards, 2006).
"""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from perceptd.models.features import features, names
from perceptd.models.spec import InputSpec, ModelSpec

THRESHOLD = 0.25
# Nine deciles, and what is beyond nearly all of the training: few rows there already tell.
QUANTILES = (0.001, *(tenth / 10 for tenth in range(1, 10)), 0.999)
MAX_CLASSES = 100  # of a model with more, a window has too few rows to say anything of each
NORMAL_QUANTILE = 3.719  # beyond which one in 10,000 lies
# As many rows of one user or one hour as tell no more than one row would: they are alike. 1,000
# digits of MNIST's test set in a row, each writer's together, differ from the training as much as
# 60 picked from it do. See "design effect": L. Kish, Survey Sampling, 1965.
DESIGN_EFFECT = 25
# A drift lasts until the PSI is below this share of the threshold: one that is about as high as the
# threshold would come and go with every few rows.
LASTING = 0.8
DIGITS = 7  # of a share that is kept


class FeatureReference(BaseModel):
    """A figure over the training rows: bins between edges, lower one included, and their shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    edges: tuple[FiniteFloat, ...] = Field(min_length=1, max_length=4 * len(QUANTILES))
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.shares) != len(self.edges) + 1 or min(self.shares) <= 0:
            raise ValueError("each bin between and beyond the edges needs a share above 0")
        if list(self.edges) != sorted(self.edges):
            raise ValueError("edges must rise")
        return self


class Reference(BaseModel):
    """What a checkpoint keeps of its training rows, and of its own answers to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: PositiveInt = Field(description="Training rows that were looked at.")
    features: tuple[FeatureReference, ...]
    classes: tuple[float, ...] | None = Field(
        None, description="Share of each label among the answers; absent where labels are many."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.classes is not None and min(self.classes, default=0) <= 0:
            raise ValueError("each class needs a share above 0")
        return self

    def fits(self, spec: ModelSpec) -> bool:
        """Whether rows of that model can be held against it."""
        classes = self.classes is None or len(self.classes) == len(spec.labels)
        return classes and tuple(one.name for one in self.features) == names(spec.input)


def reference(
    spec: ModelSpec, rows: NDArray[np.float32], indices: NDArray[np.intp]
) -> Reference | None:
    """That of training rows (N, *shape) and the classes answered to them (N,).

    None where no row is of finite numbers.
    """
    values = features(spec.input, rows)  # (N, F)
    usable = np.isfinite(values).all(axis=1)
    values, indices = values[usable], indices[usable]
    if not len(values):
        return None
    classes = len(spec.labels)
    return Reference(
        rows=len(values),
        features=tuple(
            _feature(name, column) for name, column in zip(names(spec.input), values.T, strict=True)
        ),
        classes=_shares(indices, classes) if classes <= MAX_CLASSES else None,
    )


def _feature(name: str, values: NDArray[np.float32]) -> FeatureReference:
    edges = _edges(values)
    shares = _shares(np.searchsorted(edges, values, side="right"), len(edges) + 1)
    # The shortest decimal that is this very float32 again.
    return FeatureReference(
        name=name, edges=tuple(float(str(edge)) for edge in edges), shares=shares
    )


def _edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values at the quantiles. One that fills a bin alone ends it, too: what is above is new."""
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    edges, times = np.unique(found, return_counts=True)
    return np.unique(np.concatenate([edges, np.nextafter(edges[times > 1], np.float32(np.inf))]))


def _shares(bins: NDArray[np.intp], count: int) -> tuple[float, ...]:
    """Half a row is added to each bin, as if from Jeffreys' prior: none is impossible."""
    rows = np.bincount(bins, minlength=count) + 0.5
    return tuple((rows / rows.sum()).round(DIGITS).tolist())


class Measured(NamedTuple):
    """One figure, or the predictions: shares per bin (B,), expected and observed."""

    name: str | None  # None: the predicted classes
    psi: float
    threshold: float
    expected: list[float]
    observed: list[float]

    @property
    def drifted(self) -> bool:
        return self.psi > self.threshold


class Bins:
    """A reference made ready: the bins of all figures in one row, the classes last."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._edges = [np.array(one.edges, dtype=np.float32) for one in reference.features]
        shares = [np.array(one.shares) for one in reference.features]
        if reference.classes is not None:
            shares.append(np.array(reference.classes))
        self._expected = np.concatenate([one / one.sum() for one in shares])  # (B,)
        self._sizes = np.array([len(one) for one in shares])
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._critical = np.array([chi_square(size - 1) for size in self._sizes])
        self.size = len(self._expected)

    def count(
        self, spec: InputSpec, rows: NDArray[np.float32], indices: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], int]:
        """How many rows fall into each bin, (B,), and how many rows that are.

        Rows with a figure that is no number are left out; an infinite one is beyond the last edge.
        """
        values = features(spec, rows)  # (N, F)
        if (unusable := np.isnan(values)).any():
            usable = ~unusable.any(axis=1)
            values, indices = values[usable], indices[usable]
        places = [
            np.searchsorted(edges, column, side="right") + start
            for edges, column, start in zip(self._edges, values.T, self._starts, strict=False)
        ]
        if self.reference.classes is not None:
            places.append(indices + self._starts[-1])
        found = np.bincount(np.concatenate(places), minlength=self.size).astype(np.float64)
        return found, len(indices)

    def psi(self, counts: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        """The PSI of each figure. One row more, spread as expected, keeps it finite."""
        observed = (counts + self._expected) / (rows + 1)
        terms = (observed - self._expected) * np.log(observed / self._expected)
        return np.add.reduceat(terms, self._starts)

    def thresholds(self, rows: int, *, lasting: bool = False) -> NDArray[np.float64]:
        """Above which the PSI of each figure is a drift, or of each input still is one.

        Of rows from the same distribution it is about (1/n + 1/N) times a chi-squared variable of
        one degree fewer than there are bins (B. Yurdakul, Statistical Properties of Population
        Stability Index, 2018), where N rows were trained on. A row here counts as
        1/`DESIGN_EFFECT`.
        """
        scale = DESIGN_EFFECT / max(rows, 1) + 1 / self.reference.rows
        found = np.maximum(THRESHOLD, self._critical * scale)
        if lasting:
            found[: len(self._edges)] *= LASTING
        return found

    def drifted(self, counts: NDArray[np.float64], rows: int, *, lasting: bool = False) -> bool:
        """Whether an input has drifted, or still is where one had: `lasting`. What is predicted may
        change with who asks.
        """
        found = self.psi(counts, rows) > self.thresholds(rows, lasting=lasting)
        return bool(found[: len(self._edges)].any())

    def measure(
        self, counts: NDArray[np.float64], rows: int, *, lasting: bool = False
    ) -> list[Measured]:
        """Every figure, then the predictions where they are counted."""
        labels = [one.name for one in self.reference.features]
        named = [*labels, None][: len(self._sizes)]
        ends = self._starts + self._sizes
        return [
            Measured(
                name,
                float(psi),
                float(threshold),
                self._expected[start:end].tolist(),
                (counts[start:end] / max(rows, 1)).tolist(),
            )
            for name, psi, threshold, start, end in zip(
                named,
                self.psi(counts, rows),
                self.thresholds(rows, lasting=lasting),
                self._starts,
                ends,
                strict=True,
            )
        ]


def chi_square(degrees: int) -> float:
    """The chi-squared value that one in 10,000 exceeds (E. Wilson, M. Hilferty, 1931)."""
    part = 2 / (9 * degrees)
    return degrees * (1 - part + NORMAL_QUANTILE * math.sqrt(part)) ** 3

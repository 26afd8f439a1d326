"""How far served inputs and predictions have drifted from those of the training.

The measure is the population stability index (PSI) of each feature: the sum of (o - e) ln(o / e)
over the feature's bins, where a bin holds the share e of the training rows and o of the observed
rows. It is the symmetrised Kullback-Leibler divergence (S. Kullback, R. Leibler, 1951). By
convention 0.1 is a small shift and 0.25 one to act on (N. Siddiqi, Credit Risk Scorecards, 2006).
"""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from perceptd.models.features import features, names
from perceptd.models.spec import InputSpec, ModelSpec

THRESHOLD = 0.25
# The nine deciles, and two tails that hold 0.1 % of the training rows each: a few rows there
# already show a drift.
QUANTILES = (0.001, *(tenth / 10 for tenth in range(1, 10)), 0.999)
MAX_CLASSES = 100  # with more classes, a window has too few rows of each
NORMAL_QUANTILE = 3.719  # one value in 10,000 of the standard normal distribution exceeds it
# Rows of one user or one hour resemble each other: this many tell as much as one independent row.
# 1,000 consecutive digits of MNIST's test set, which is grouped by writer, differ from the training
# as much as 60 digits picked at random. See "design effect": L. Kish, Survey Sampling, 1965.
DESIGN_EFFECT = 25
# A drift ends when the PSI falls below this share of the threshold. With one threshold for both, a
# PSI near it would start and end a drift every few rows.
HYSTERESIS = 0.8
SHARE_DECIMALS = 7


class FeatureReference(BaseModel):
    """The distribution of one feature over the training rows.

    A bin includes its lower edge; `shares` has one entry more than `edges`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    edges: tuple[FiniteFloat, ...] = Field(min_length=1, max_length=4 * len(QUANTILES))
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.shares) != len(self.edges) + 1 or min(self.shares) <= 0:
            raise ValueError("expected one share above 0 for each bin between and beyond the edges")
        if list(self.edges) != sorted(self.edges):
            raise ValueError("expected edges in ascending order")
        return self


class Reference(BaseModel):
    """The distributions of a checkpoint's training rows and of its predictions for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: PositiveInt = Field(description="Number of training rows measured.")
    features: tuple[FeatureReference, ...]
    classes: tuple[float, ...] | None = Field(
        None, description="Share of each label among the predictions; absent for many labels."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.classes is not None and min(self.classes, default=0) <= 0:
            raise ValueError("expected a share above 0 for each class")
        return self

    def fits(self, spec: ModelSpec) -> bool:
        """Whether the model has these features and as many labels."""
        classes = self.classes is None or len(self.classes) == len(spec.labels)
        return classes and tuple(one.name for one in self.features) == names(spec.input)


def reference(
    spec: ModelSpec, rows: NDArray[np.float32], indices: NDArray[np.intp]
) -> Reference | None:
    """The reference of training rows (N, *shape) and their predicted classes (N,).

    None if no row has only finite features.
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
    """Values at the quantiles. A value at several of them gets a bin of its own."""
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    edges, times = np.unique(found, return_counts=True)
    return np.unique(np.concatenate([edges, np.nextafter(edges[times > 1], np.float32(np.inf))]))


def _shares(bins: NDArray[np.intp], count: int) -> tuple[float, ...]:
    """The share of rows per bin. Half a row more in each (Jeffreys' prior) keeps it above 0."""
    rows = np.bincount(bins, minlength=count) + 0.5
    return tuple((rows / rows.sum()).round(SHARE_DECIMALS).tolist())


class Measurement(NamedTuple):
    """The drift of one feature, or of the predictions, with the shares per bin (B,)."""

    name: str | None  # None: the predicted classes
    psi: float
    threshold: float
    expected: list[float]
    observed: list[float]

    @property
    def drifted(self) -> bool:
        return self.psi > self.threshold


class Bins:
    """A reference prepared for counting: all features' bins in one array, the classes last."""

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
        """The rows in each bin, (B,), and the number of rows counted.

        Rows with a NaN feature are left out; infinities lie beyond the outermost edges.
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
        """The PSI of each feature. One extra row, spread as expected, keeps it finite."""
        observed = (counts + self._expected) / (rows + 1)
        terms = (observed - self._expected) * np.log(observed / self._expected)
        return np.add.reduceat(terms, self._starts)

    def thresholds(self, rows: int, *, lasting: bool = False) -> NDArray[np.float64]:
        """The PSI above which each feature has drifted; lower for inputs if a drift is `lasting`.

        The PSI of n rows from the training distribution is about (1/n + 1/N) times a chi-squared
        variable, where N is the number of training rows and there is one degree of freedom fewer
        than bins (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). An
        observed row counts as 1/`DESIGN_EFFECT`.
        """
        scale = DESIGN_EFFECT / max(rows, 1) + 1 / self.reference.rows
        found = np.maximum(THRESHOLD, self._critical * scale)
        if lasting:
            found[: len(self._edges)] *= HYSTERESIS
        return found

    def drifted(self, counts: NDArray[np.float64], rows: int, *, lasting: bool = False) -> bool:
        """Whether any input feature has drifted. `lasting`: one had drifted before these rows.

        Predictions do not count: they may change with who sends the requests.
        """
        found = self.psi(counts, rows) > self.thresholds(rows, lasting=lasting)
        return bool(found[: len(self._edges)].any())

    def measure(
        self, counts: NDArray[np.float64], rows: int, *, lasting: bool = False
    ) -> list[Measurement]:
        """The drift of each feature, then of the predictions if they are counted."""
        labels = [one.name for one in self.reference.features]
        named = [*labels, None][: len(self._sizes)]
        ends = self._starts + self._sizes
        return [
            Measurement(
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

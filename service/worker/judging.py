"""The decision whether a job's version is promoted, refused or skipped, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perceptd.models.checkpoint import CheckpointError
from perceptd.service.errors import StoreError
from perceptd.service.jobs.gate import Gate, Verdict, judge
from perceptd.service.jobs.plans import Plan
from perceptd.service.jobs.queue import Promotion
from perceptd.service.settings import Settings
from perceptd.service.store.repository import Repository
from perceptd.service.worker.monitor import TrainingFailedError

# Versions -> the metrics of each, measured on the same held-out rows.
Evaluate = Callable[[Sequence[int]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Decision:
    """The decision about a version, and the production version that it was compared with."""

    promotion: Promotion
    reason: str
    production: int | None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Judge:
    """Decides about the version of one job."""

    model: str
    plan: Plan
    repository: Repository
    settings: Settings
    evaluate: Evaluate

    def decide(self, version: int, production: int | None) -> Decision:
        """Raises `StoreError`, and what `evaluate` raises except `TrainingFailedError`."""
        gate = self.plan.gate
        if production == version:
            return Decision("promoted", "it is already in production", production)
        if gate == "never" and production is not None:
            return Decision("skipped", "the job asks for no promotion", production)
        if reason := self._why_it_cannot_serve(version):
            return Decision("refused", reason, production)
        if isinstance(gate, Gate):
            return self._measure(gate, version, production)
        if production is None:
            return Decision("promoted", "it is the model's first version", production)
        return Decision("promoted", "the job asks for promotion in any case", production)

    def _measure(self, gate: Gate, version: int, production: int | None) -> Decision:
        """Compare the candidate with production on the same held-out rows."""
        versions = [version] if production is None else [version, production]
        try:
            measured = self.evaluate(versions)
        except (TrainingFailedError, CheckpointError) as error:
            return Decision("refused", f"its metrics could not be measured: {error}", production)
        figures = [result["metrics"].get(gate.metric) for result in measured]
        if len(figures) != len(versions) or None in figures:
            reason = f"{gate.metric} is not defined on these held-out rows"
            return Decision("refused", reason, production)
        candidate, current = figures[0], figures[1] if production is not None else None
        passed, reason = judge(
            gate,
            candidate=candidate,
            production=current,
            greater_is_better=self.plan.greater_is_better,
        )
        data = measured[0]["dataset"]
        reason += f", on {data['rows']['test']:,} held-out rows of {data['name']}"
        verdict = Verdict(
            passed=passed,
            reason=reason,
            metric=gate.metric,
            candidate=candidate,
            production=current,
            production_version=production,
            dataset=data["name"],
            rows=data["rows"]["test"],
        )
        return Decision("promoted" if passed else "refused", reason, production, verdict)

    def _why_it_cannot_serve(self, version: int) -> str | None:
        # ONNX Runtime, which an idle worker does not need
        from perceptd.service.inference import loaded_version

        try:
            loaded_version.load(self.repository, self.model, version, "cpu", "onnx", self.settings)
        except StoreError:
            raise
        except Exception as error:  # of ONNX Runtime, about any graph
            return f"it cannot be loaded: {error}"
        return None

"""The rank that a full fine-tune's report recommends, beside the rank that training takes, task by task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .alike import alike
from .medians import Measurement

__all__ = ["KEPT", "LEAST_GAIN", "Prediction", "predictions"]

KEPT = 0.99
"""Share of the full fine-tune's gain at which a rank counts as enough."""
LEAST_GAIN = 0.03
"""A full fine-tune that gains less over the head alone leaves nothing to predict."""
SCORE = "dev_score"


@dataclass(frozen=True)
class Prediction:
    """One task, of a pretrained checkpoint.

    Attributes:
        task: its name.
        seeds: that the full fine-tune was run with.
        head: mean score of the head alone on the frozen body; None where it was not run.
        full: mean score of the full fine-tune.
        recommended: recommended by the report on texts, one a seed; infinite where none that was tried is enough.
        trained: rank -> mean score of adapters trained at it.
        extracted: rank -> mean score of adapters extracted from the full fine-tunes.
        calibrated: the same of those that texts weigh.
    """

    task: str
    seeds: int
    head: float | None
    full: float
    recommended: tuple[float, ...]
    trained: Mapping[int, float]
    extracted: Mapping[int, float]
    calibrated: Mapping[int, float]

    @property
    def ways(self) -> tuple[Mapping[int, float], ...]:
        """Scores by rank: trained, extracted, extracted by texts' weights."""
        return self.trained, self.extracted, self.calibrated

    @property
    def gain(self) -> float | None:
        """Of the full fine-tune over the head alone."""
        return None if self.head is None else self.full - self.head

    @property
    def tells(self) -> bool:
        """Whether there is a gain to predict."""
        return self.gain is not None and self.gain >= LEAST_GAIN

    @property
    def predicted(self) -> float | None:
        """The median of what is recommended."""
        return median(self.recommended) if self.recommended else None

    def least(self, scores: Mapping[int, float]) -> int | None:
        """The least rank whose mean score is the head's and 99 % of the gain on top; None where there is none.

        >>> one = Prediction("rte", 1, 0.6, 0.7, (4.0,), {2: 0.65, 8: 0.6995}, {}, {})
        >>> one.least(one.trained)
        8
        """
        if self.head is None or not self.tells:
            return None
        wanted = self.head + KEPT * (self.full - self.head)
        return next((rank for rank in sorted(scores) if scores[rank] >= wanted), None)


def predictions(found: Sequence[Measurement]) -> list[Prediction]:
    """One for each task that has a full fine-tune, by name.

    Args:
        found: measurements of the suite ``glue``, of one scale; those that :func:`alike` leaves out do not count.

    Cost O(measurements log measurements).
    """
    pretrained = [one for one in alike(found) if one.spec.get("init") == "pretrained" and one.metrics]
    made: list[Prediction] = []
    for task in sorted({str(one.spec["task"]) for one in pretrained}):
        mine = [one for one in pretrained if one.spec["task"] == task]
        full = [one for one in mine if one.method == "full" and SCORE in one.metrics]
        if not full:
            continue
        trained = _means(mine, lambda one: one.method == "gradient")
        made.append(
            Prediction(
                task,
                len(full),
                trained.pop(0, None),
                _mean([one.metrics[SCORE] for one in full]),
                tuple(one.metrics.get("recommended_rank", float("inf")) for one in full),
                trained,
                _means(mine, lambda one: one.method == "extracted"),
                _means(mine, lambda one: one.method == "calibrated"),
            )
        )
    return made


def _means(found: Sequence[Measurement], wanted: Callable[[Measurement], bool]) -> dict[int, float]:
    """Mean score at each rank."""
    scores: dict[int, list[float]] = {}
    for one in found:
        if wanted(one) and one.rank is not None and SCORE in one.metrics:
            scores.setdefault(one.rank, []).append(one.metrics[SCORE])
    return {rank: _mean(scores[rank]) for rank in sorted(scores)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

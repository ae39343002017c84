"""The official metrics of GLUE."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Metric", "accuracy", "f1", "matthews", "pearson", "spearman"]

Numbers = Sequence[float]
Metric = Callable[[Numbers, Numbers], float]


def accuracy(predicted: Numbers, labels: Numbers) -> float:
    """Share of rows whose class is right."""
    return sum(left == right for left, right in zip(predicted, labels, strict=True)) / len(labels)


def f1(predicted: Numbers, labels: Numbers) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where there is none and none was named."""
    from sklearn.metrics import f1_score  # noqa: PLC0415

    return float(f1_score(labels, predicted, zero_division=0))  # pyright: ignore[reportArgumentType]


def matthews(predicted: Numbers, labels: Numbers) -> float:
    """Matthews' correlation of two classes; 0 where either side names one class alone.

    >>> matthews([1, 1, 1], [1, 0, 1])
    0.0
    """
    from sklearn.metrics import matthews_corrcoef  # noqa: PLC0415

    # of a single class scikit-learn warns, and says 0
    return 0.0 if _constant(predicted) or _constant(labels) else float(matthews_corrcoef(labels, predicted))


def pearson(predicted: Numbers, labels: Numbers) -> float:
    """Pearson's correlation; 0 where either side is constant, where it has no value.

    >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), 6)
    1.0
    """
    return 0.0 if _constant(predicted) or _constant(labels) else _correlation("pearsonr", predicted, labels)


def spearman(predicted: Numbers, labels: Numbers) -> float:
    """Spearman's rank correlation; 0 where either side is constant, where it has no value.

    >>> spearman([1.0, 2.0, 9.0], [2.0, 4.0, 6.0])
    1.0
    """
    return 0.0 if _constant(predicted) or _constant(labels) else _correlation("spearmanr", predicted, labels)


def _correlation(name: str, predicted: Numbers, labels: Numbers) -> float:
    from scipy import stats  # noqa: PLC0415

    found: Any = getattr(stats, name)(predicted, labels)  # scipy leaves its results untyped
    return float(found.statistic)


def _constant(values: Numbers) -> bool:
    return len(set(values)) < 2

"""Where a measurement belongs, by what its spec says: the words and numbers that several figures share."""

from collections.abc import Callable

from ..records import Measurement
from .points import Place
from .style import method_name

__all__ = ["Words", "by_rank", "depths", "frozen", "line", "pair", "parameters", "rank"]

Words = Callable[[Measurement], str]


def frozen(one: Measurement) -> str:
    """Which frozen network, e.g. ``random frozen network``."""
    return f"{one.spec['init']} frozen network"


def depths(one: Measurement) -> str:
    """Which depths: ``1 layer from 2``, or of transformers ``depth 2``."""
    target, given = one.spec["target_depth"], one.spec["frozen_depth"]
    if one.spec["model"] == "transformer":
        return f"depth {target}" if target == given else f"depth {target} from {given}"
    return f"{target} layer{'' if target == 1 else 's'} from {given}"


def pair(one: Measurement) -> str:
    """Depths and frozen network: ``1 layer from 2, random``."""
    return f"{depths(one)}, {one.spec['init']}"


def line(one: Measurement) -> str:
    """The method's name."""
    return method_name(one.method)


def rank(one: Measurement) -> float:
    """The rank of all adapters; 0 where there is none."""
    return float(one.rank or 0)


def parameters(one: Measurement, biases: bool = False) -> float | None:
    """How many entries are trained, None where the method failed.

    Args:
        one: measured.
        biases: whether those of the biases count.
    """
    if "parameters" not in one.metrics:
        return None
    return one.metrics["parameters"] + (one.metrics.get("bias_parameters", 0.0) if biases else 0.0)


def by_rank(panel: Words, of: Words = line) -> Callable[[Measurement], Place | None]:
    """Places along an axis of ranks.

    Args:
        panel: its name.
        of: the line's name.
    """
    return lambda one: Place(panel(one), of(one), rank(one), rank(one))

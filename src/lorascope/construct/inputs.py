"""What a caller may ask of a construction alone: a partition of the frozen layers."""

from collections.abc import Sequence

from ..errors import ShapeError
from ..models import FNN
from ..theory import Model, Partition

__all__ = ["check_partition"]


def check_partition(frozen: Model, target: Model, partition: Sequence[Sequence[int]] | None) -> Partition | None:
    """The partition as tuples, counted from 0.

    Raises:
        ShapeError: not one group of consecutive layers for each target layer, covering all layers in order.
    """
    if partition is None:
        return None
    if not isinstance(frozen, FNN) or frozen.activation == "identity":
        raise ShapeError("partition is for ReLU networks: other models have nothing to divide")
    nested = all(isinstance(group, Sequence) for group in partition)
    groups = tuple(tuple(group) for group in partition) if nested else ()
    if any(isinstance(layer, bool) or not isinstance(layer, int) for group in groups for layer in group):
        raise ShapeError(f"partition must name layers by integers, got {[list(group) for group in groups]}")
    flat = [layer for group in groups for layer in group]
    if len(groups) != target.depth or any(not group for group in groups) or flat != list(range(frozen.depth)):
        came = [list(group) for group in groups] if nested else list(partition)
        raise ShapeError(
            f"partition must be {target.depth} groups of consecutive layers, together 0 to {frozen.depth - 1}, "
            f"got {came}"
        )
    return groups

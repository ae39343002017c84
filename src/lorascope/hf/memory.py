"""Whether models fit into the memory that is free."""

from .pairs import Models

__all__ = ["lacking"]


def lacking(models: Models, copies: int, device: str) -> str:
    """What is missing for copies of a model in float32, in words; empty where they fit, or on another device."""
    from psutil import virtual_memory  # noqa: PLC0415

    needed = 4 * copies * sum(pair.entries for pair in models.pairs)
    free = virtual_memory().available
    if device != "cpu" or needed <= free:
        return ""
    what = "the model" if copies == 1 else "both models"
    return f"{what} in memory, {needed / 1e9:.3g} GB in float32, where {free / 1e9:.3g} GB are free"

"""The one place tolerances come from."""

import torch

__all__ = ["tolerance"]


def tolerance(size: int, scale: float = 1.0, condition: float = 1.0, dtype: torch.dtype = torch.float64) -> float:
    """Rounding level of a computation: ``4 * eps * size * scale * condition``.

    Args:
        size: number of terms summed (a matrix's larger side, times the number of factors of a product).
        scale: magnitude of what is rounded, in the unit of the quantity compared (a norm, not squared).
        condition: amplification on the way to that quantity.
        dtype: the type whose ``eps`` counts; that of the model, not of the computation.

    Returns:
        The absolute tolerance.

    >>> 0 < tolerance(16) < 1e-13
    True
    """
    return 4 * torch.finfo(dtype).eps * max(size, 1) * scale * max(condition, 1.0)

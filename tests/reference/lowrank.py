"""Best low-rank approximation by eigenvalues of the Gram matrix, and ranks of updates by their singular values."""

import numpy as np


def tail(matrix, moment, rank):
    """Squared singular values of ``matrix moment^(1/2)`` beyond the first ``rank``, largest first."""
    values = np.clip(np.linalg.eigvalsh(matrix @ moment @ matrix.T), 0, None)[::-1]
    return values[rank:]


def assert_best(left, right, matrix, rank, moment=None):
    """``left @ right`` has rank at most ``rank`` by its shapes and the least (weighted) Frobenius error there is."""
    weighted = moment is not None
    moment = np.eye(matrix.shape[1]) if moment is None else moment
    assert left.shape[1] == right.shape[0] <= rank, f"{left.shape[1]} columns for rank {rank}"
    rest = matrix - left @ right
    scale = np.trace(matrix @ moment @ matrix.T) + 1e-300
    found, least = np.trace(rest @ moment @ rest.T), tail(matrix, moment, rank).sum()
    assert abs(found - least) <= 1e-10 * scale, f"squared error {found}, least {least}"
    if not weighted:
        spectral = np.linalg.norm(rest, 2) ** 2 if rest.size else 0.0
        next_value = tail(matrix, moment, rank).max(initial=0.0)
        assert abs(spectral - next_value) <= 1e-10 * scale, f"spectral error {spectral}, least {next_value}"


def assert_update(before, after, delta, rank, eps):
    """``after - before`` is ``delta`` up to the rounding of one sum, and of numerical rank at most ``rank``."""
    change = after - before
    level = 4 * max(change.shape) * eps * max(np.abs(after).max(), np.abs(before).max(), np.abs(delta).max(), 1e-300)
    off = np.abs(change - delta).max()
    assert off <= level, f"the merged weight is {off} off B @ A, rounding explains {level}"
    values = np.append(np.linalg.svd(change, compute_uv=False), 0.0)
    beyond = values[min(rank, len(values) - 1)]
    assert beyond <= level, f"singular value {beyond} beyond rank {rank}"

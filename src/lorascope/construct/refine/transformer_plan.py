"""The stages that refinement of transformers goes through, as data."""

from typing import Literal

from .transformer_schedule import Round, Stage

__all__ = ["plan"]


def plan(depth: int, profile: Literal["full", "fast"]) -> tuple[Round, ...]:
    """Rounds for a transformer of ``depth`` blocks.

    One block: annealed runs from all starts, then from the best. Several blocks: first block by block, for a deep
    network's attention is saturated and has no gradient to find a start by; then all together.
    """
    return _SHALLOW[profile] if depth == 1 else _DEEP[profile]


_SHALLOW = {
    "full": (
        Round(4, (Stage(500, 64, (4e-2, 8e-2, 15e-2), "anneal", (0.02, 1.0), decay=0.97),)),
        Round(
            2,
            (
                Stage(500, 128, (2e-2, 4e-2), "anneal", (0.1, 1.0)),
                Stage(500, 128, (2e-2, 4e-2), "straight", (0.1, 1.0)),
            ),
        ),
        Round(1, (Stage(500, 256, (4e-3, 2e-2)),)),
    ),
    "fast": (
        Round(4, (Stage(300, 64, (8e-2,), "anneal", (0.02, 1.0), decay=0.97),)),
        Round(1, (Stage(300, 128, (2e-2, 4e-2), "anneal", (0.1, 1.0)),)),
    ),
}
_DEEP = {
    "full": (
        Round(8, (Stage(500, 64, (3e-2, 6e-2), "anneal", (0.1, 0.05), layerwise=True),)),
        Round(
            2,
            (
                Stage(400, 64, (1e-2, 3e-2), "straight", (0.02, 0.002)),
                Stage(400, 64, (1e-2, 3e-2), "anneal", (0.02, 0.002)),
            ),
        ),
        Round(
            2,
            (
                Stage(400, 96, (3e-3, 1e-2), "straight", (0.02, 0.002)),
                Stage(400, 96, (1e-2, 3e-2), "anneal", (0.02, 0.002)),
            ),
        ),
        Round(1, (Stage(300, 256, (1e-3, 3e-3)), Stage(300, 256, (3e-3, 1e-2), "straight", (0.02, 0.002)))),
    ),
    "fast": (
        Round(4, (Stage(300, 64, (4e-2,), "anneal", (0.1, 0.05), layerwise=True),)),
        Round(2, (Stage(300, 64, (1e-2, 3e-2), "straight", (0.02, 0.002)),)),
        Round(1, (Stage(300, 128, (3e-3, 1e-2), "straight", (0.02, 0.002)),)),
    ),
}

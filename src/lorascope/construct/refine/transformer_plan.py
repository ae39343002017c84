"""The stages that refinement of transformers goes through, as data."""

from typing import Literal

from .transformer_schedule import Round, Stage

__all__ = ["plan"]


def plan(depth: int, profile: Literal["full", "fast"]) -> tuple[Round, ...]:
    """Rounds for a transformer of ``depth`` blocks.

    One block: annealed runs from all starts, then longer ones from the best. Several blocks: first block by block, the
    later ones at lower rates (a start that is good given the target's hidden values is soon lost), for a deep network's
    attention is saturated and gives no gradient to find a start by; then all together.
    """
    return _SHALLOW[profile] if depth == 1 else _DEEP[profile]


_SHALLOW = {
    "full": (
        Round(
            4,
            (
                Stage(500, 64, (8e-2,), "anneal", (0.01, 1.0), decay=0.97),
                Stage(500, 64, (8e-2, 2e-1), "anneal", (0.03, 1.0), decay=0.97),
            ),
        ),
        Round(
            2,
            (
                Stage(600, 96, (2e-2, 5e-2), "anneal", (0.03, 1.0), decay=0.97),
                Stage(600, 96, (2e-2, 5e-2), "straight", (0.03, 1.0), decay=0.97),
            ),
        ),
        Round(
            2,
            (
                Stage(800, 128, (1e-2, 3e-2), "anneal", (0.1, 1.0)),
                Stage(800, 128, (1e-2, 3e-2), "straight", (0.1, 1.0)),
            ),
        ),
        Round(1, (Stage(600, 256, (3e-3, 1e-2)), Stage(600, 256, (3e-3, 1e-2), "straight", (0.2, 1.0)))),
    ),
    "fast": (
        Round(4, (Stage(400, 64, (8e-2,), "anneal", (0.02, 1.0), decay=0.97),)),
        Round(
            1,
            (
                Stage(500, 96, (2e-2, 5e-2), "anneal", (0.05, 1.0)),
                Stage(500, 96, (2e-2, 5e-2), "straight", (0.05, 1.0)),
            ),
        ),
        Round(1, (Stage(400, 192, (3e-3, 1e-2)),)),
    ),
}
_BY_BLOCK = Stage(500, 64, (8e-2,), "anneal", (0.03, 0.3), layerwise=True, slow=0.1, decay=0.97)
_DEEP = {
    "full": (
        Round(
            4,
            (
                _BY_BLOCK,
                Stage(500, 64, (8e-2,), "anneal", (0.03, 0.3), layerwise=True, slow=0.4, decay=0.97),
            ),
        ),
        Round(
            3,
            (
                Stage(500, 64, (3e-3, 1e-2), "straight", (0.02, 0.002)),
                Stage(500, 64, (3e-2,), "anneal", (0.02, 0.002)),
            ),
        ),
        Round(
            2,
            (
                Stage(600, 96, (2e-3, 8e-3), "straight", (0.02, 0.002)),
                Stage(600, 96, (4e-3, 1.5e-2), "anneal", (0.02, 0.002)),
            ),
        ),
        Round(
            1,
            (
                Stage(300, 256, (1e-3,)),
                Stage(300, 256, (1e-3, 4e-3), "straight", (0.02, 0.002)),
            ),
        ),
    ),
    "fast": (
        Round(4, (Stage(300, 64, (8e-2,), "anneal", (0.03, 0.3), layerwise=True, slow=0.2, decay=0.97),)),
        Round(2, (Stage(300, 64, (3e-3, 1e-2), "straight", (0.02, 0.002)),)),
        Round(1, (Stage(300, 128, (1e-3, 4e-3), "straight", (0.02, 0.002)),)),
    ),
}

"""One exception tree: what was required, what came, what to do."""

__all__ = [
    "AssumptionError",
    "CheckpointError",
    "LorascopeError",
    "MissingExtraError",
    "RankError",
    "ShapeError",
    "SpecError",
]


class LorascopeError(Exception):
    """Base of every error lorascope raises on purpose."""


class ShapeError(LorascopeError, ValueError):
    """Two shapes, widths or depths that do not fit each other."""


class RankError(LorascopeError, ValueError):
    """A rank that is no rank (negative, not an integer), or ranks given twice or not at all."""


class SpecError(LorascopeError, ValueError):
    """Input that says nothing usable: an empty domain, weights that are not finite, samples of no size."""


class CheckpointError(LorascopeError, ValueError):
    """Model files that cannot be used: missing, damaged, pickled, not finite, or of two architectures."""


class MissingExtraError(LorascopeError, ImportError):
    """A package of an optional extra that is not installed."""


class AssumptionError(LorascopeError):
    """A theorem's assumption fails for these weights.

    Args:
        theorem: which statement asks for it, e.g. ``"Lemma 1"``.
        quantity: what was measured, in words.
        measured: its value.
        required: the least (or largest) value that would do.
    """

    def __init__(self, theorem: str, quantity: str, measured: float, required: float) -> None:
        self.theorem = theorem
        self.quantity = quantity
        self.measured = measured
        self.required = required
        super().__init__(
            f"{theorem} does not apply: {quantity} is {measured:.3g}, required {required:.3g}; "
            f"construct.stable has no such assumption"
        )

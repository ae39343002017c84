"""Shape annotations: jaxtyping's where it is installed, plain ``Tensor`` where it is not.

The tests check them (jaxtyping's import hook with beartype); a machine that only computes needs neither.
"""

from typing import TYPE_CHECKING

__all__ = ["Float"]

if TYPE_CHECKING:
    from jaxtyping import Float
else:
    try:
        from jaxtyping import Float
    except ImportError:  # annotations only: nothing computes with it

        class Float:
            """``Float[Tensor, "out inp"]`` is ``Tensor``."""

            def __class_getitem__(cls, item: tuple[type, str]) -> type:
                return item[0]

"""Whether the extra ``[hf]`` is there, said in one line where it is not."""

from importlib.util import find_spec

from ..errors import MissingExtraError

__all__ = ["need_hf"]


def need_hf() -> None:
    """Return where transformers and peft can be imported.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    missing = [name for name in ("transformers", "peft") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"real checkpoints need {' and '.join(missing)}, which is not installed; run: pip install 'lorascope[hf]'"
        )

"""What tells one checkpoint from another, without saying where it lies."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["checkpoint_digest", "checkpoint_name", "tokenizer_digest"]


def checkpoint_digest(folder: Path) -> str:
    """Of its configuration and weights; two copies of a checkpoint have the same.

    Cost O(bytes).
    """
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Of its tokens' numbers, and of what it makes of a few characters.

    Cost O(tokens).
    """
    probe = tokenizer(["A b, c!", "\u00c9t\u00e9"], ["1-2", "x"])
    told = (sorted(tokenizer.get_vocab().items()), sorted((key, probe[key]) for key in probe))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def checkpoint_name(name: str) -> str:
    """A hub's name as it is; of a folder its last part, or the one before where that says nothing.

    >>> checkpoint_name("roberta-base")
    'roberta-base'
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        return name
    whole = path.resolve()
    return whole.parent.name if whole.name in {"model", "checkpoint", "base"} else whole.name

"""What tells one checkpoint from another, without saying where it lies."""

import hashlib
from pathlib import Path

__all__ = ["checkpoint_digest", "checkpoint_name"]


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

"""A model's folder or hub name, opened: its configuration and where its tensors lie."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .extra import need_hf
from .stored import Stored, read_header

__all__ = ["ADAPTER_CONFIG", "Checkpoint", "find_folder", "open_checkpoint"]

ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# weights as safetensors, configuration, tokenizer; pickled weights are not even fetched
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        name: what the user gave.
        folder: where its files lie.
        model_type: the architecture's name in config.json.
        tensors: by the name they have on disk.
    """

    name: str
    folder: Path
    model_type: str
    tensors: dict[str, Stored]

    @property
    def size(self) -> int:
        """Bytes of its weights' files."""
        return sum(file.stat().st_size for file in {stored.file for stored in self.tensors.values()})


def find_folder(name: str) -> Path:
    """The folder itself, or the local copy of a hub's repository (fetched where the network allows).

    Raises:
        CheckpointError: neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"a model must be a folder or a hub name, got the file {name}; name its folder")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise CheckpointError(f"a model must be a folder or a hub name, found no folder {name}; name another")
    need_hf()
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        reason = "and the hub cannot be reached"
    except HfHubHTTPError:
        reason = "and the hub has no such model, or wants a login"
    raise CheckpointError(
        f"found no folder {name}, no copy of a hub model of that name, {reason}; "
        f"give a folder, or fetch the model once while online"
    )


def open_checkpoint(name: str) -> Checkpoint:
    """Read a model's configuration and the headers of its weights.

    Args:
        name: a folder, or a hub name.

    Returns:
        Where everything lies; no tensor is read.

    Raises:
        CheckpointError: no configuration, pickled weights, no weights, missing shards, a damaged file.

    Cost O(tensors).
    """
    folder = find_folder(name)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"a model's folder must have config.json, found none in {folder}; name another folder")
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return Checkpoint(name, folder, str(config.get("model_type")), _tensors(folder))


def _tensors(folder: Path) -> dict[str, Stored]:
    if (folder / INDEX).is_file():
        return _sharded(folder)
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise CheckpointError(
            f"weights must be safetensors, found {pickled[0]} in {folder}: a pickle can run any code; "
            f"load it where you trust it and call save_pretrained(folder)"
        )
    raise CheckpointError(f"found no {SINGLE} and no {INDEX} in {folder}; name a folder that has the weights")


def _sharded(folder: Path) -> dict[str, Stored]:
    index: dict[str, Any] = json.loads((folder / INDEX).read_text())
    where: dict[str, str] = index["weight_map"]
    shards = sorted(set(where.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise CheckpointError(
            f"{INDEX} names {len(shards)} shards, missing in {folder}: {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}; download them again"
        )
    found: dict[str, Stored] = {}
    for shard in shards:
        found.update(read_header(folder / shard))
    absent = sorted(where.keys() - found.keys())
    if absent:
        raise CheckpointError(f"{INDEX} names {absent[0]}, which no shard in {folder} has; download them again")
    return found

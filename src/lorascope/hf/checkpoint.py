"""A model's folder or hub name, opened: its configuration and where its tensors lie."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .extra import need_hf
from .quiet import quiet
from .reading import read_object, reading
from .stored import Stored, read_header

__all__ = ["ADAPTER_CONFIG", "Checkpoint", "find_folder", "open_checkpoint"]

ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_SHOWN = 100  # characters of a name that a message repeats
# weights as safetensors, configuration, tokenizer; pickled weights are not even fetched
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        name: what the user gave.
        folder: where its files lie.
        config: config.json.
        tensors: by the name they have on disk.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Stored]

    @property
    def model_type(self) -> str:
        """The architecture's name."""
        return str(self.config.get("model_type"))

    @property
    def size(self) -> int:
        """Bytes of its weights' files."""
        return sum(file.stat().st_size for file in {stored.file for stored in self.tensors.values()})


def find_folder(name: str) -> Path:
    """The folder itself, or the local copy of a hub's repository (fetched where the network allows).

    Raises:
        CheckpointError: neither.
    """
    with reading(name[:_SHOWN], "a folder or a hub name", "name another"):
        path = Path(name).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    if is_folder:
        return path
    if exists:
        raise CheckpointError(f"a model must be a folder or a hub name, got the file {name}; name its folder")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise CheckpointError(f"a model must be a folder or a hub name, found no folder {name}; name another")
    need_hf()
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415
    from huggingface_hub.utils import validate_repo_id  # noqa: PLC0415

    with reading(name[:_SHOWN], "a folder, of which there is none, or a hub name", "name another"):
        validate_repo_id(name)
    try:
        with quiet():
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
    config = read_object(folder / "config.json")
    if config.get("quantization_config"):
        raise CheckpointError(
            f"weights must be plain numbers, {folder / 'config.json'} has quantization_config; dequantise the model, "
            f"or drop the entry where its weights are plain"
        )
    return Checkpoint(name, folder, config, _tensors(folder))


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
    index = read_object(folder / INDEX)
    with reading(folder / INDEX, "an index with a weight_map of tensors to files"):
        where = {str(tensor): str(shard) for tensor, shard in index["weight_map"].items()}
        shards = sorted(set(where.values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
    if not shards:
        raise CheckpointError(f"{folder / INDEX} must name at least one tensor, names none; download it again")
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

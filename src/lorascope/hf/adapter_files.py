"""A PEFT adapter's folder, opened: its configuration, its scales, where its tensors lie."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import CheckpointError
from .checkpoint import ADAPTER_CONFIG, Checkpoint, find_folder
from .configuration import configuration
from .reading import read_object, reading
from .slots import model_class
from .stored import Stored, read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ADAPTER_WEIGHTS", "PREFIX", "AdapterFiles", "adapted_class", "open_adapter", "scale_of"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
# what else a LoRA configuration may ask for: a difference that is no scale * B @ A
_REFUSED = ("use_dora", "use_qalora", "use_bdlora", "kasa_config", "velora_config", "alora_invocation_tokens",
            "layer_replication", "trainable_token_indices", "arrow_config", "monteclora_config")  # fmt: skip
# how factors may have begun; with another word PEFT, whenever it loads them, takes its beginnings off the base
_BEGUN = (None, True, False, "gaussian", "eva", "orthogonal", "mica")

# with bias="all" PEFT stores those of a module carried whole twice more, and never uses them
_AGAIN = re.compile(r"\.(?:modules_to_save|original_module)(?=\..*bias$)")


@dataclass(frozen=True)
class AdapterFiles:
    """An opened adapter.

    Attributes:
        name: what the user gave.
        folder: where its files lie.
        config: adapter_config.json.
        tensors: by the names on disk without ``base_model.model.``; repeated biases left out.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Stored]

    @property
    def size(self) -> int:
        """Bytes of its weights' file."""
        return (self.folder / ADAPTER_WEIGHTS).stat().st_size


def open_adapter(name: str) -> AdapterFiles:
    """Read an adapter's configuration and the header of its weights.

    Raises:
        CheckpointError: no LoRA, one whose difference is no ``scale * B @ A`` or that changes its base when it is
            loaded, pickled or damaged weights.
    """
    folder = find_folder(name)
    if not (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"an adapter's folder must have {ADAPTER_CONFIG}, found none in {folder}; name another")
    config = read_object(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"an adapter must be of type LORA, {name} is {config.get('peft_type')}; merge it instead")
    refused = [key for key in _REFUSED if config.get(key)]
    if refused:
        raise CheckpointError(
            f"{name} uses {', '.join(refused)}, which is more than a low-rank difference; merge it into its base and "
            f"name the merged model"
        )
    begun: Any = config.get("init_lora_weights")
    if (begun.lower() if isinstance(begun, str) else begun) not in _BEGUN:
        raise CheckpointError(
            f"{name} has init_lora_weights {begun!r}, with which PEFT changes the base as it loads the adapter; "
            f"convert it by save_pretrained(folder, path_initial_model_for_weight_conversion=...), or merge it into "
            f"its base and name the merged model"
        )
    with reading(folder / ADAPTER_CONFIG, "a LoRA configuration", "save the adapter again"):
        _check_numbers(config)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(
            f"an adapter's weights must be in {ADAPTER_WEIGHTS}, found none in {folder}; "
            f"load a pickled one where you trust it and call save_pretrained(folder)"
        )
    tensors = {key.removeprefix(PREFIX): stored for key, stored in read_header(folder / ADAPTER_WEIGHTS).items()}
    again = {key for key in tensors if _AGAIN.search(key) and _AGAIN.sub("", key) in tensors}
    return AdapterFiles(name, folder, config, {key: value for key, value in tensors.items() if key not in again})


def _check_numbers(config: dict[str, Any]) -> None:
    """Raises whatever where a rank or scale is none."""
    alphas, ranks = (config.get(f"{name}_pattern") or {} for name in ("alpha", "rank"))
    for pattern in (*alphas, *ranks):
        re.compile(pattern)
    for rank in (config["r"], *ranks.values()):
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f"it has the rank {rank!r}")
    for alpha in (config["lora_alpha"], *alphas.values()):
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"it has the alpha {alpha!r}")


def adapted_class(adapter: AdapterFiles, base: Checkpoint) -> "type[PreTrainedModel]":
    """The class that the adapter's task asks of its base: a classifier's base is often a bare encoder."""
    own = model_class(base)
    import transformers  # noqa: PLC0415

    mappings = {
        "SEQ_CLS": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        "TOKEN_CLS": transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        "QUESTION_ANS": transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
        "CAUSAL_LM": transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        "SEQ_2_SEQ_LM": transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    }
    mapping = mappings.get(str(adapter.config.get("task_type")))
    found = None if mapping is None else mapping.get(type(configuration(base)), None)
    return own if found is None else cast("type[PreTrainedModel]", found)


def scale_of(config: dict[str, Any], module: str, rank: int) -> float:
    """What PEFT multiplies ``B @ A`` by: ``alpha / r``, or ``alpha / sqrt(r)`` with rsLoRA.

    Args:
        config: adapter_config.json.
        module: the module's full name.
        rank: of this module's factors.

    >>> scale_of({"lora_alpha": 8, "alpha_pattern": {"up": 16}}, "layers.0.up", 4)
    4.0
    """
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    matched = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    alpha = next(matched, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

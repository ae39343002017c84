"""The checkpoint that is fine-tuned: an encoder, and a tokenizer that fits it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...errors import CheckpointError, SpecError
from ..checkpoint import Checkpoint, open_checkpoint
from ..configuration import configuration
from ..quiet import quiet
from ..reading import reading
from ..texts import has_tokenizer, positions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = ["Base", "open_base"]


@dataclass(frozen=True)
class Base:
    """The checkpoint that is fine-tuned, without its weights.

    Attributes:
        name: what the user gave.
        folder: where its files lie.
        config: its configuration.
        tokenizer: that fits it.
    """

    name: str
    folder: Path
    config: "PreTrainedConfig"
    tokenizer: "PreTrainedTokenizerBase"


def open_base(name: str, length: int) -> Base:
    """Open a checkpoint's folder and its tokenizer, and see that they fit each other.

    Args:
        name: folder or hub name of an encoder.
        length: tokens a row that will be asked for.

    Raises:
        CheckpointError: no model there, no tokenizer, or one that does not fit; no padding token that it counts from.
        SpecError: more tokens than the model has positions.
    """
    checkpoint = open_checkpoint(name)
    folder = checkpoint.folder
    if not has_tokenizer(folder):
        raise CheckpointError(f"a model's folder must have its tokenizer, found none in {folder}; save it there")
    config = _encoder(checkpoint)
    tokenizer = _read_tokenizer(folder)
    faults = _misfits(config, tokenizer)
    if faults:
        raise CheckpointError(
            f"the tokenizer in {folder} does not fit {folder / 'config.json'}: {'; '.join(faults)}; "
            f"save the tokenizer that the model was trained with"
        )
    most = _longest(checkpoint, config, tokenizer)
    if most is not None and length > most:
        raise SpecError(f"--length must be at most the {most} positions of {name}, got {length}")
    return Base(name, folder, config, tokenizer)


def _longest(checkpoint: Checkpoint, config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """Tokens that the model takes, by its own tables.

    Raises:
        CheckpointError: it counts positions from its padding token, and names none; or no model can be made of it.
    """
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    file = checkpoint.folder / "config.json"
    with reading(file, "an encoder that transformers can classify with"), quiet(), torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    if any(_counts_from_none(part) for part in model.modules()):
        raise CheckpointError(
            f"{file} must name the padding token, from which the model counts its positions, "
            f'got "pad_token_id": null; write the tokenizer\'s, {tokenizer.pad_token_id}, there'
        )
    return positions(model)


def _counts_from_none(part: nn.Module) -> bool:
    """Whether it has a table of positions and a place for the padding token, which is empty."""
    tables = any("position" in name for name, _ in part.named_children())
    return tables and "padding_idx" in vars(part) and part.padding_idx is None


def _encoder(checkpoint: Checkpoint) -> "PreTrainedConfig":
    """The configuration of an encoder of texts.

    Raises:
        CheckpointError: none that can be read, or another kind of model.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES  # noqa: PLC0415

    config = configuration(checkpoint)
    decodes = bool(getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False))
    if decodes or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"{checkpoint.name} must be an encoder of texts, such as BERT or RoBERTa, got a {config.model_type}"
            f"{' that decodes' if decodes else ''}; name another model"
        )
    return config


def _read_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer  # noqa: PLC0415

    with reading(f"the tokenizer in {folder}", "one that transformers reads", "save it again"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ordinary = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if not ordinary:
        raise CheckpointError(f"the tokenizer in {folder} must have tokens, got none but special ones; save it again")
    return tokenizer


def _misfits(config: Any, tokenizer: Any) -> list[str]:  # noqa: ANN401
    faults: list[str] = []
    size = config.vocab_size
    if len(tokenizer) > size:
        faults.append(f"it has {len(tokenizer)} tokens, the model {size}")
    elif (largest := max(tokenizer.get_vocab().values())) >= size:
        faults.append(f"it has a token of number {largest}, the model {size}")
    if tokenizer.pad_token_id is None:
        faults.append("it has no padding token")
    elif config.pad_token_id is not None and tokenizer.pad_token_id != config.pad_token_id:
        faults.append(f"it pads with token {tokenizer.pad_token_id}, the model with {config.pad_token_id}")
    pair = tokenizer("a", "b")
    kinds, known = max(pair.get("token_type_ids") or [0]) + 1, getattr(config, "type_vocab_size", None)
    if isinstance(known, int) and kinds > max(known, 1):
        faults.append(f"it tells {kinds} kinds of tokens apart, the model {known}")
    if not tokenizer("")["input_ids"]:
        faults.append("it frames no text, so that an empty one has no token")
    return faults

"""The checkpoint that is fine-tuned: an encoder, and a tokenizer that fits it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError, SpecError
from ..checkpoint import open_checkpoint
from ..functional import quiet
from ..texts import has_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["Base", "open_base", "read_config", "told_error"]


@dataclass(frozen=True)
class Base:
    """The checkpoint that is fine-tuned, without its weights.

    Attributes:
        name: what the user gave.
        folder: where its files lie.
        tokenizer: that fits it.
    """

    name: str
    folder: Path
    tokenizer: "PreTrainedTokenizerBase"


def open_base(name: str, length: int) -> Base:
    """Open a checkpoint's folder and its tokenizer, and see that they fit each other.

    Args:
        name: folder or hub name of an encoder.
        length: tokens a row that will be asked for.

    Raises:
        CheckpointError: no model there, no tokenizer, or one that does not fit.
        SpecError: more tokens than the model has positions.
    """
    folder = open_checkpoint(name).folder
    if not has_tokenizer(folder):
        raise CheckpointError(f"a model's folder must have its tokenizer, found none in {folder}; save it there")
    config = read_config(name, folder)
    tokenizer = _read_tokenizer(folder)
    faults = _misfits(config, tokenizer)
    if faults:
        raise CheckpointError(
            f"the tokenizer in {folder} does not fit {folder / 'config.json'}: {'; '.join(faults)}; "
            f"save the tokenizer that the model was trained with"
        )
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa counts its positions from the padding's number plus one
    offset = config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    if isinstance(positions, int) and length > positions - offset:
        raise SpecError(f"--length must be at most the {positions - offset} positions of {name}, got {length}")
    return Base(name, folder, tokenizer)


def read_config(name: str, folder: Path) -> "PretrainedConfig":
    """The configuration of an encoder of texts.

    Raises:
        CheckpointError: no configuration that can be read, or another kind of model.
    """
    from transformers import AutoConfig  # noqa: PLC0415
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES  # noqa: PLC0415

    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001 (transformers has no one error for what such a file can hold)
        raise CheckpointError(
            f"{folder / 'config.json'} must be the configuration of a model of transformers, got {told_error(error)}; "
            f"save the model again"
        ) from None
    decodes = bool(getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False))
    if decodes or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"{name} must be an encoder of texts, such as BERT or RoBERTa, got a {config.model_type}"
            f"{' that decodes' if decodes else ''}; name another model"
        )
    return config


def _read_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ordinary = len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    except Exception as error:  # noqa: BLE001 (nor for what these can hold)
        raise CheckpointError(
            f"the tokenizer in {folder} must be one that transformers reads, got {told_error(error)}; save it again"
        ) from None
    if not ordinary:
        raise CheckpointError(f"the tokenizer in {folder} must have tokens, got none but special ones; save it again")
    return tokenizer


def told_error(error: Exception) -> str:
    """An error of another library's in a few words.

    >>> told_error(KeyError("model_type"))
    "KeyError: 'model_type'"
    """
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}"


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

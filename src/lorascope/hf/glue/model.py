"""A checkpoint with a classification head, ready to be trained in one of four ways."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...errors import CheckpointError, SpecError
from ..checkpoint import open_checkpoint
from ..functional import quiet
from ..texts import has_tokenizer
from .settings import Settings
from .tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Base", "build", "open_base", "trainable"]

ALPHA = 2.0
"""Scale of ``B @ A``, alpha / r, the same at every rank."""


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
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415

    with quiet():
        config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
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


def _misfits(config: Any, tokenizer: Any) -> list[str]:  # noqa: ANN401
    faults: list[str] = []
    size = config.get_text_config().vocab_size
    if len(tokenizer) > size:
        faults.append(f"it has {len(tokenizer)} tokens, the model {size}")
    if tokenizer.pad_token_id is None:
        faults.append("it has no padding token")
    elif config.pad_token_id is not None and tokenizer.pad_token_id != config.pad_token_id:
        faults.append(f"it pads with token {tokenizer.pad_token_id}, the model with {config.pad_token_id}")
    return faults


def build(base: Base, task: Task, settings: Settings, save_body: Path | None = None) -> Any:  # noqa: ANN401
    """The model with its head, on the CPU, with what is trained marked as such.

    ``W + (alpha / r) B A`` with ``B = 0`` at the start, ``alpha / r = 2``.

    Args:
        base: from :func:`open_base`.
        task: whose head it gets.
        settings: what is trained.
        save_body: where a random body is saved, so that an adapter has a base to be loaded on; None: nowhere.

    Returns:
        A model of transformers, or of PEFT for adapters. The random state of torch decides about head and adapters.

    Raises:
        CheckpointError: an architecture without a classifier.
        SpecError: no module that matches, or fewer layers than are asked for.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification  # noqa: PLC0415

    options: dict[str, Any] = {"num_labels": task.labels or 1}
    options |= {"problem_type": "regression"} if not task.labels else {}
    with quiet():
        config = AutoConfig.from_pretrained(base.folder, **options)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            if name in config.to_dict():
                setattr(config, name, settings.dropout)
        try:
            if settings.init == "random":
                model = AutoModelForSequenceClassification.from_config(config, attn_implementation=_attention(settings))
            else:
                model = AutoModelForSequenceClassification.from_pretrained(
                    base.folder, config=config, dtype=torch.float32, attn_implementation=_attention(settings)
                )
        except ValueError as error:
            reason = str(error).splitlines()[0][:120]
            raise CheckpointError(
                f"{base.name} must be an encoder that transformers can classify with: {reason}"
            ) from None
        if settings.init == "random" and save_body is not None:
            model.base_model.save_pretrained(save_body)
            base.tokenizer.save_pretrained(save_body)
    return _prepared(model, settings)


def _attention(settings: Settings) -> str | None:
    # on a CPU, the fused one is slow in bfloat16: twice the time of a whole step
    return "eager" if settings.precision == "bfloat16" and not torch.cuda.is_available() else None


def _prepared(model: "PreTrainedModel", settings: Settings) -> Any:  # noqa: ANN401
    prefix = model.base_model_prefix + "."
    wanted = _wanted(model, prefix, settings)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(prefix) or wanted is None or name.startswith(wanted)
        if settings.method == "bitfit" and name.endswith(".bias"):
            parameter.requires_grad = True
    if not settings.adapts:
        return model
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415

    heads = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=settings.rank,
        lora_alpha=round(ALPHA * settings.rank),
        target_modules=_targets(model, prefix, settings.modules),
        modules_to_save=[head for head in heads if any(True for _ in model.get_submodule(head).parameters())],
    )
    with quiet():
        return get_peft_model(model, config)


def _wanted(model: nn.Module, prefix: str, settings: Settings) -> tuple[str, ...] | None:
    """Beginnings of the names of the body's parameters that are trained whole; None for all."""
    if settings.method == "full":
        return None
    if settings.method != "last-layers":
        return ()
    stacks = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    name, stack = max(stacks, key=lambda item: len(item[1]), default=("", nn.ModuleList()))
    if settings.layers > len(stack):
        raise SpecError(f"--layers must be at most the model's {len(stack)} layers, got {settings.layers}")
    last = [f"{name}.{len(stack) - 1 - index}." for index in range(settings.layers)]
    # what comes after the last layer is behind it, and trained with it
    body = [child for child, _ in model.get_submodule(prefix[:-1]).named_children()]
    return (*last, *(f"{prefix}{child}." for child in body if child == "pooler"))


def _targets(model: nn.Module, prefix: str, pattern: str | None) -> list[str]:
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and name.startswith(prefix)]
    chosen = [name for name in linear if pattern is None or re.search(pattern, name)]
    if not chosen:
        some = ", ".join(_endings(linear)[:8])
        raise SpecError(f"--modules must match a linear module of the body, got {pattern!r}; there are ...{some}")
    return chosen


def _endings(names: Sequence[str]) -> list[str]:
    """What is left of modules' names without their layers' numbers, each once."""
    return list(dict.fromkeys(re.split(r"\.\d+\.", name)[-1] for name in names))


def trainable(model: nn.Module) -> int:
    """Entries of all parameters that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def named_base(folder: Path, name: str) -> None:
    """Write into an adapter's folder what its base is called."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"base_model_name_or_path": name}, indent=2, sort_keys=True))

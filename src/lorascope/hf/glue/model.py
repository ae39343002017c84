"""A checkpoint with a classification head, ready to be trained in one of four ways."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...errors import CheckpointError, SpecError
from ..quiet import quiet
from ..reading import reading
from .base import Base
from .probe import behind
from .settings import Settings
from .tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Built", "build", "named_base", "trainable"]

ALPHA = 2.0
"""Scale of ``B @ A``, alpha / r, the same at every rank."""


@dataclass(frozen=True)
class Built:
    """A model that is ready to be trained.

    Attributes:
        model: of transformers, or of PEFT for adapters.
        head: entries of the head, a pooler that the checkpoint does not have included.
    """

    model: Any
    head: int


def build(base: Base, task: Task, settings: Settings, save_body: Path | None = None) -> Built:
    """The model with its head, on the CPU, with what is trained marked as such.

    ``W + (alpha / r) B A`` with ``B = 0`` at the start, ``alpha / r = 2``. A head that the checkpoint has is left; the
    one that is trained is fresh. A pooler that the checkpoint does not have is fresh too, and a part of the head.

    Args:
        base: from :func:`open_base`.
        task: whose head it gets.
        settings: what is trained.
        save_body: where a random body is saved, so that an adapter has a base to be loaded on; None: nowhere.

    Returns:
        The model. The random state of torch decides about head and adapters.

    Raises:
        CheckpointError: an architecture without a classifier, or weights that do not make up the body.
        SpecError: no module that matches, no biases where they alone are trained, or fewer layers than are asked for.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification  # noqa: PLC0415

    options: dict[str, Any] = {"num_labels": task.labels or 1}
    options |= {"problem_type": "regression"} if not task.labels else {}
    with quiet():
        config = AutoConfig.from_pretrained(base.folder, **options)
        for name, value in config.to_dict().items():
            if "dropout" in name and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(config, name, settings.dropout)
        poolers: tuple[str, ...] = ()
        with reading(f"the weights in {base.folder}", "an encoder that transformers can classify with"):
            if settings.init == "random":
                model = AutoModelForSequenceClassification.from_config(config, attn_implementation=_attention(settings))
            else:
                model, told = AutoModelForSequenceClassification.from_pretrained(
                    base.folder, config=config, dtype=torch.float32, attn_implementation=_attention(settings),
                    ignore_mismatched_sizes=True, output_loading_info=True,
                )  # fmt: skip
                poolers = _fresh_poolers(base, model, told)
                _renew_head(model, told)
        if settings.init == "random" and save_body is not None:
            model.base_model.save_pretrained(save_body)
            base.tokenizer.save_pretrained(save_body)
    for part in model.modules():  # some take no word of the configuration for it
        if isinstance(part, nn.Dropout):
            part.p = settings.dropout
    return _prepared(model, poolers, settings)


def _fresh_poolers(base: Base, model: "PreTrainedModel", told: Mapping[str, Any]) -> tuple[str, ...]:
    """Refuse random weights where pretrained ones are asked for; a whole pooler may be fresh, for many have none."""
    prefix, missing = model.base_model_prefix + ".", set(told["missing_keys"])
    poolers = tuple(
        name
        for name, part in model.named_modules()
        if name.startswith(prefix) and name.endswith(".pooler") and missing >= {f"{name}.{own}" for own in _own(part)}
    )
    fresh = tuple(f"{name}." for name in poolers)
    lost = sorted(name for name in missing if name.startswith(prefix) and not name.startswith(fresh))
    other = sorted(str(entry[0]) for entry in told["mismatched_keys"] if str(entry[0]).startswith(prefix))
    if lost or other:
        what = f"has no {lost[0]}" if lost else f"has {other[0]} in another shape"
        more = f" ({len(lost) + len(other)} such parameters)" if len(lost) + len(other) > 1 else ""
        raise CheckpointError(
            f"the weights in {base.folder} must be those that its config.json describes, but it {what}{more}; "
            f"save the model again"
        )
    return poolers


def _own(part: nn.Module) -> list[str]:
    return [name for name, _ in part.named_parameters()]


def _renew_head(model: "PreTrainedModel", told: Mapping[str, Any]) -> None:
    """Draw the head that was loaded; one that the checkpoint does not have is drawn already."""
    fresh = {*told["missing_keys"], *(str(entry[0]) for entry in told["mismatched_keys"])}
    prefix = model.base_model_prefix + "."
    head = {name: part for name, part in model.named_parameters() if not name.startswith(prefix)}
    if head.keys() <= fresh:
        return
    drawn = dict(type(model)(model.config).named_parameters())
    with torch.no_grad():
        for name, part in head.items():
            part.copy_(drawn[name])


def _attention(settings: Settings) -> str | None:
    # on a CPU, the fused one is slow in bfloat16: twice the time of a whole step
    return "eager" if settings.precision == "bfloat16" and not torch.cuda.is_available() else None


def _prepared(model: "PreTrainedModel", poolers: tuple[str, ...], settings: Settings) -> Built:
    prefix, fresh = model.base_model_prefix + ".", tuple(f"{name}." for name in poolers)
    heads = {name: part for name, part in model.named_parameters() if not name.startswith(prefix)}
    heads |= {name: part for name, part in model.named_parameters() if name.startswith(fresh)}
    wanted = _wanted(model, prefix, settings)
    body = [(name, part) for name, part in model.named_parameters() if name not in heads]
    for name, parameter in body:
        parameter.requires_grad = name.startswith(wanted) or (settings.method == "bitfit" and name.endswith(".bias"))
    if settings.method == "bitfit" and not any(part.requires_grad for _, part in body):
        raise SpecError(
            f"--method bitfit must have biases to train, but the body of a {type(model).__name__} has none; "
            f"take --method lora"
        )
    size = sum(part.numel() for part in heads.values())
    if not settings.adapts:
        return Built(model, size)
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415

    saved = [name for name, part in model.named_children() if name != model.base_model_prefix and _own(part)]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=settings.rank,
        lora_alpha=round(ALPHA * settings.rank),
        target_modules=_targets(model, (prefix, fresh), settings.modules),
        modules_to_save=[*saved, *poolers],
    )
    with quiet():
        return Built(get_peft_model(model, config), size)


def _wanted(model: nn.Module, prefix: str, settings: Settings) -> tuple[str, ...]:
    """Beginnings of the names of the body's parameters that are trained whole."""
    if settings.method == "full":
        return (prefix,)
    if settings.method != "last-layers":
        return ()
    stacks = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    name, stack = max(stacks, key=lambda item: len(item[1]), default=("", nn.ModuleList()))
    if settings.layers > len(stack):
        raise SpecError(f"--layers must be at most the model's {len(stack)} layers, got {settings.layers}")
    last = [f"{name}.{len(stack) - 1 - index}" for index in range(settings.layers)]
    # what comes after the last layer is trained with it: a last norm, a pooler
    return tuple(f"{part}." for part in (*last, *behind(model, last[0])))


def _targets(model: nn.Module, within: tuple[str, tuple[str, ...]], pattern: str | None) -> list[str]:
    """Linear modules of the body, a fresh pooler's left out."""
    prefix, fresh = within
    linear = [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and name.startswith(prefix) and not f"{name}.".startswith(fresh)
    ]
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

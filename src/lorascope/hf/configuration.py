"""A checkpoint's configuration as transformers reads it."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint
from .quiet import quiet
from .reading import reading

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from .adapter_files import AdapterFiles

__all__ = ["configuration", "differing"]

# entries that change nothing of what the weights compute, or that say what the weights' own shapes say
_BOOKKEEPING = re.compile(
    r"_.*|architectures|transformers_version|(torch_)?dtype|.*token_ids?|id2label|label2id|num_labels|problem_type|"
    r"vocab_size|.*drop.*|initializer_.*|use_cache|return_dict|output_.*|gradient_checkpointing|finetuning_task|"
    r"task_specific_params|tokenizer_class|.*loss.*|max_length"
)


def configuration(checkpoint: Checkpoint) -> "PreTrainedConfig":
    """The configuration, with what its file leaves out at the architecture's defaults.

    Raises:
        CheckpointError: it names no architecture that transformers has, or has entries that cannot be.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    with reading(f"config.json of {checkpoint.name}", "that of a model transformers has", "check it"), quiet():
        return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)


def differing(base: Checkpoint, tuned: "Checkpoint | AdapterFiles") -> str:
    """One sentence on the entries in which two configurations of one architecture compute differently; empty if none.

    Weights can be the same in shape and mean other things: another number of heads, base of the rotations, epsilon or
    activation. No adapter carries that, and one that is the tuned model has nothing to differ in.

    Raises:
        CheckpointError: a configuration that cannot be read.
    """
    if not isinstance(tuned, Checkpoint):
        return ""
    old, new = (dict(_entries(configuration(each).to_dict())) for each in (base, tuned))
    told = [
        f"{name} is {old.get(name)} in the base and {new.get(name)} in the tuned model"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if not told:
        return ""
    return f"No adapter carries a configuration, and {'; '.join(told)}: set it in the base where the adapter is used."


def _entries(config: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """Those that matter, of nested ones too."""
    for name, value in config.items():
        if _BOOKKEEPING.fullmatch(str(name)):
            continue
        if isinstance(value, Mapping):
            yield from _entries(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", value

"""An adapter's tensors and configuration, named as PEFT names them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .adapter_files import PREFIX
from .loading import mistaken
from .pairs import Pair
from .profiles import Profile
from .style import Style

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Contents", "config_of", "factor_tensors", "forced_heads", "task_of"]

_FORCED = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}
# of a task, for which PEFT asks for every module whose name ends so, whole, whether or not it changed


@dataclass
class Contents:
    """What an adapter holds, gathered pair by pair.

    Attributes:
        ranks: of each module that has factors, under its first name.
        tied: other modules that share a weight, by the first.
        experts: ranks of stacked experts, parameter by parameter, by module, in the module's order.
        saved: modules carried whole, none inside another.
        bias: some bias is carried.
        transposed: some weight is stored (in, out).
    """

    ranks: dict[str, int] = field(default_factory=dict[str, int])
    tied: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    experts: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    saved: list[str] = field(default_factory=list[str])
    bias: bool = False
    transposed: bool = False

    def targets(self, module: str) -> tuple[str, ...]:
        """A module that has factors, and those that share its weight."""
        return (module, *self.tied.get(module, ()))


def factor_tensors(pair: Pair, A: Tensor, B: Tensor, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Keys and tensors of one matrix's factors, once for each name that it is tied to.

    Args:
        pair: the matrix.
        A: (r, inp), for experts (experts, r, inp).
        B: (out, r), for experts (experts, out, r).
        depth: how many other parameters of the same module are wrapped outside this one.
    """
    if pair.kind == "expert":
        inner = PREFIX + pair.module + ".base_layer" * depth
        yield f"{inner}.lora_A.weight", A.flatten(0, 1).contiguous()
        # out, rank, experts: the expert's number runs fastest
        yield f"{inner}.lora_B.weight", B.permute(1, 2, 0).flatten(1).contiguous()
        return
    for name in (pair.name, *pair.slot.tied):
        module = PREFIX + name.removesuffix(".weight")
        if pair.kind == "embedding" and name not in pair.slot.outputs:
            # an embedding's weight is (vocabulary, width); its factors act on its transpose
            yield f"{module}.lora_embedding_A", B.T.contiguous()
            yield f"{module}.lora_embedding_B", A.T.contiguous()
        else:
            yield f"{module}.lora_A.weight", A.contiguous().clone()
            yield f"{module}.lora_B.weight", B.contiguous().clone()


def task_of(model: "PreTrainedModel") -> str | None:
    """PEFT's name for what a model's class does; None where it has none."""
    import transformers  # noqa: PLC0415

    mappings = {
        "SEQ_CLS": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        "TOKEN_CLS": transformers.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        "QUESTION_ANS": transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
        "SEQ_2_SEQ_LM": transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        "CAUSAL_LM": transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    }
    return next((task for task, known in mappings.items() if known.get(type(model.config), None) is type(model)), None)


def forced_heads(model: "PreTrainedModel", profile: Profile) -> tuple[str, ...]:
    """How the names of modules end that PEFT wants whole for a class of models; none where the task goes unsaid."""
    ends = _FORCED.get(task_of(model) or "", ())
    # llama.cpp's converter refuses whole modules, vLLM all but these
    allowed = {"peft": ends, "vllm": ("classifier", "score"), "llamacpp": ()}[profile]
    return ends if set(ends) <= set(allowed) else ()


def config_of(contents: Contents, model: "PreTrainedModel", how: Style) -> dict[str, Any]:
    """adapter_config.json.

    Every matrix keeps its own rank, and every stack of experts too: PEFT looks that up by the parameter's name. PEFT
    reads all profiles alike; vLLM's versions agree where alpha is the rank, and llama.cpp knows one alpha for all,
    which the factors then take into account.

    Args:
        contents: what the adapter holds.
        model: of the tuned model's class.
        how: in which way it is written.
    """
    rank = how.rank
    names = [name for module in contents.ranks for name in contents.targets(module)]
    by_parameter = [name for name in names if how.profile == "peft" and mistaken(name, model)]
    mixed = {
        re.escape(f"{name}.weight" if name in by_parameter else name): value
        for module, value in contents.ranks.items()
        for name in contents.targets(module)
        if value != rank
    }
    stacked = {name: value for ranks in contents.experts.values() for name, value in ranks.items()}
    mixed |= {re.escape(name): value for name, value in stacked.items() if value != rank}
    task = task_of(model) if how.task else None
    forced = forced_heads(model, how.profile) if how.task else ()
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": None if task in _FORCED and not forced else task,
        "base_model_name_or_path": how.base_name,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": [name for name in names if name not in by_parameter],
        "rank_pattern": mixed,
        "alpha_pattern": {} if how.profile == "llamacpp" else dict(mixed),
        "bias": "lora_only" if contents.bias else "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    extra: Mapping[str, Any] = {
        "fan_in_fan_out": contents.transposed,
        "modules_to_save": _saved(contents.saved, model, forced),
        "target_parameters": [*(f"{name}.weight" for name in by_parameter), *stacked],
        "ensure_weight_tying": bool(contents.tied),
    }
    return config | {key: value for key, value in extra.items() if value}


def _saved(modules: Sequence[str], model: "PreTrainedModel", forced: tuple[str, ...]) -> list[str]:
    """Modules carried whole, named so that PEFT, which looks at how names end, finds no others."""
    names = [name for name, _ in model.named_modules()]
    made: list[str] = []
    for module in modules:
        if forced and module.endswith(forced):
            # one of these names finds all that end so
            if not any(module != other and module.endswith(other) for other in modules):
                made.append(module)
        elif any(name != module and name.endswith(module) for name in names):
            made.append(PREFIX.split(".")[1] + "." + module)
        else:
            made.append(module)
    return made

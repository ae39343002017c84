"""What an adapter's folder says of itself: a card to read, and the same as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._version import __version__
from .functional import Functional, head_outputs
from .pairs import LeftOut, Models
from .profiles import CANNOT, MAX_RANKS, Profile
from .style import Style

__all__ = ["Row", "card", "record"]

_LISTED = 30  # of what is left out


@dataclass(frozen=True)
class Row:
    """One matrix.

    Attributes:
        name, kind, shape: as its slot has them.
        rank: of its factors; 0 where none of its difference lies above rounding.
        norm: Frobenius norm of the difference.
        residual: of what the file leaves of it.
        floor: singular values up to here may be rounding.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rank: int
    norm: float
    residual: float
    floor: float

    @property
    def relative(self) -> float:
        return self.residual / self.norm if self.norm else 0.0


def record(
    rows: Sequence[Row], kept: dict[str, float], sizes: dict[str, float], left_out: Sequence[LeftOut],
    functional: Functional, how: Style,
) -> dict[str, Any]:  # fmt: skip
    """Everything of the card, for ``verify``; and the norm of each change or value that the file holds."""
    return {
        "lorascope": __version__,
        "profile": how.profile,
        "base": how.base_name,
        "dtype": str(how.dtype).removeprefix("torch."),
        "told": list(how.told),
        "matrices": [asdict(row) for row in rows],
        "whole": kept,
        "sizes": sizes,
        "left_out": [asdict(entry) for entry in left_out],
        "functional": asdict(functional),
    }


def card(
    models: Models, rows: Sequence[Row], kept: dict[str, float], left_out: Sequence[LeftOut], functional: Functional,
    how: Style,
) -> str:  # fmt: skip
    """README.md of the adapter."""
    profile, base_name, largest = how.profile, how.base_name, how.rank
    norm = math.hypot(*(row.norm for row in rows))
    error = math.hypot(*(row.residual for row in rows)) / norm if norm else 0.0
    lines = [
        "---", f"base_model: {base_name}", "library_name: peft", "tags: [lora, lorascope]", "---", "",
        f"# LoRA of a fine-tuned {base_name}", "",
        f"Extracted by lorascope {__version__} from a fine-tune of `{base_name}` ({type(models.model).__name__}).",
        f"Profile `{profile}`, largest rank {largest}, relative Frobenius error of all matrices {error:.4g}.",
        *how.told,
        "",
        "## Load", "", *_load(models, profile, base_name, largest), "",
        "## Outputs compared", "", *_outputs(functional), "",
        "## What is left over", "",
        "Relative Frobenius error of each difference, read back from this file.", "",
        "| matrix | rank | norm of the difference | relative error |", "|---|---|---|---|",
        *(f"| {row.name} | {row.rank} | {row.norm:.4g} | {row.relative:.4g} |" for row in rows), "",
        f"Carried whole: {len(kept)} parameters{_moved(kept)}.", "",
        "## What is left out", "", *_left(left_out), "",
        f"The profile `{profile}` can never carry: {'; '.join(CANNOT[profile])}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _load(models: Models, profile: Profile, base_name: str, largest: int) -> list[str]:
    if profile == "vllm":
        allowed = next(rank for rank in MAX_RANKS if rank >= largest)
        return [
            "```sh",
            f"vllm serve {base_name} --enable-lora --max-lora-rank {allowed} --lora-modules tuned=THIS_FOLDER",
            "```",
        ]
    if profile == "llamacpp":
        return [
            "```sh",
            "python convert_lora_to_gguf.py THIS_FOLDER --base BASE_FOLDER --outfile adapter.gguf",
            "llama-cli -m BASE.gguf --lora adapter.gguf",
            "```",
        ]
    name = type(models.model).__name__
    fresh = any(pair.kind == "head" and pair.load_base is None for pair in models.pairs)
    labels = f", num_labels={head_outputs(models)}, ignore_mismatched_sizes=True" if fresh else ""
    grown = next((pair for pair in models.pairs if pair.grown and pair.kind == "embedding"), None)
    resize = [] if grown is None else [f"model.resize_token_embeddings({grown.shape[0]})"]
    lines = [
        "```python",
        "from peft import PeftModel",
        f"from transformers import {name}",
        "",
        f'model = {name}.from_pretrained("{base_name}"{labels})',
        *resize,
        'model = PeftModel.from_pretrained(model, "THIS_FOLDER")',
        "```",
    ]
    if any(pair.slot.tied for pair in models.pairs):
        lines += [
            "",
            "The base ties its embeddings: `merge_and_unload` would add their difference twice, so load it unmerged.",
        ]
    return lines


def _outputs(functional: Functional) -> list[str]:
    if functional.error is None:
        return [f"{functional.inputs[:1].upper()}{functional.inputs[1:]}."]
    told = [f"On {functional.inputs}: relative error of the outputs {functional.error:.3g}"]
    if functional.kl is not None:
        told.append(f"KL to the fine-tune {functional.kl:.3g} nats (without the adapter {functional.base_kl:.3g})")
    if functional.agreement is not None:
        told.append(f"same largest output at {functional.agreement:.1%}")
    return ["; ".join(told) + "."]


def _moved(kept: dict[str, float]) -> str:
    count = sum(error > 0 for error in kept.values())
    return f", {count} of them biases that take up the mean of what the factors leave" if count else ""


def _left(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return ["Nothing that changed."]
    lines = [f"- `{entry.name}`: {entry.reason}" for entry in left_out[:_LISTED]]
    more = len(left_out) - _LISTED
    return [*lines, f"- and {more} more, in lorascope.json"] if more > 0 else lines

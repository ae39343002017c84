"""Two models' outputs on the same inputs, one model in memory after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .configuration import configuration
from .cotangents import output_of, run
from .loading import config_for, written_for
from .pairs import Models
from .profiles import Profile
from .quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "Compared",
    "Functional",
    "adapted",
    "compare",
    "divergence",
    "head_outputs",
    "load_base",
    "load_full",
    "mean_kl",
    "outputs",
    "random_inputs",
]

Inputs = dict[str, Tensor]
_BATCH, _LENGTH = 4, 16
_PIXELS = 64  # a side, where a configuration does not say


@dataclass(frozen=True)
class Functional:
    """Outputs of the adapted base against the tuned model's.

    Attributes:
        inputs: what they were computed on, in words; or why they were not computed.
        kl: mean of KL(tuned || adapted) over all output distributions, in nats; None where there is none.
        base_kl: the same of the base; heads it does not have are the tuned model's.
        error: relative Frobenius error of the outputs.
        agreement: share of positions at which the largest output is the same.
    """

    inputs: str
    kl: float | None = None
    base_kl: float | None = None
    error: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Compared:
    """On what outputs are compared.

    Attributes:
        batches: inputs; None: a few random ones.
        described: what they are, in words.
    """

    batches: Sequence[Inputs] | None = None
    described: str = "random inputs"


def compare(
    models: Models, adapter: Path, inputs: Sequence[Inputs] | None, described: str, profile: Profile
) -> Functional:
    """Load the tuned model, then the adapted base; compare what they put out.

    Args:
        models: base and tuned.
        adapter: the adapter's folder.
        inputs: batches; None: a few random ones.
        described: what they are, in words.
        profile: who the adapter was written for.

    Cost: one forward pass of each model a batch.
    """
    from psutil import virtual_memory  # noqa: PLC0415

    needed = 4 * sum(pair.entries for pair in models.pairs)
    if needed > virtual_memory().available / 2:
        return Functional(f"not run: the model takes {needed / 1e9:.1f} GB, more than half of the free memory")
    batches = random_inputs(models.model) if inputs is None else inputs
    if batches is None:
        return Functional(f"not run: inputs of a {type(models.model).__name__} are not known here")
    with quiet():
        tuned = load_full(models)
        try:
            wanted = outputs(tuned, batches)
        except CheckpointError as error:
            return Functional(f"not run on {described}: {error}")
        if wanted is None:
            return Functional(f"not run: a {type(models.model).__name__} has no logits and no last hidden state")
        base = load_base(models)
        before = outputs(base, batches)
        got = outputs(adapted(base, adapter, profile), batches)
    assert before is not None
    assert got is not None
    distribution = wanted[1]
    return Functional(
        described,
        divergence(wanted[0], got[0]) if distribution else None,
        divergence(wanted[0], before[0]) if distribution else None,
        float((got[0] - wanted[0]).norm() / wanted[0].norm()),
        float((got[0].argmax(-1) == wanted[0].argmax(-1)).float().mean()) if distribution else None,
    )


def load_full(models: Models) -> "PreTrainedModel":
    """The tuned model in float32."""
    if isinstance(models.tuned, Checkpoint):
        return type(models.model).from_pretrained(models.tuned.folder, dtype=torch.float32).eval()
    return adapted(load_base(models), models.tuned.folder, written_for(models.tuned.folder))


def adapted(base: "PreTrainedModel", adapter: Path, profile: Profile = "peft") -> Any:  # noqa: ANN401
    """The base with an adapter on it, as PEFT loads it; one for another runtime, as that does."""
    from peft import PeftModel  # noqa: PLC0415

    return PeftModel.from_pretrained(base, str(adapter), config=config_for(adapter, base, profile)).eval()


def load_base(models: Models) -> "PreTrainedModel":
    """The base in float32, in the tuned model's class; heads it does not have are the tuned model's."""
    config = configuration(models.base)
    fresh = [pair for pair in models.pairs if pair.load_base is None]
    if fresh:
        config.num_labels = head_outputs(models)
    with torch.random.fork_rng():
        base = type(models.model).from_pretrained(
            models.base.folder, config=config, dtype=torch.float32, ignore_mismatched_sizes=bool(fresh)
        )
    grown = [pair for pair in models.pairs if pair.grown and pair.kind == "embedding"]
    if grown:
        base.resize_token_embeddings(grown[0].shape[0], mean_resizing=False)
    parameters = base.state_dict(keep_vars=True)
    with torch.no_grad():
        for pair in fresh:
            parameters[pair.name].copy_(pair.tuned())
    return base.eval()


def head_outputs(models: Models) -> int:
    """Of the tuned model; an adapter's configuration does not say, but the last weight of the head that it brings."""
    weights = [pair for pair in models.pairs if pair.load_base is None and pair.kind != "bias"]
    if isinstance(models.tuned, Checkpoint) or not weights:
        return int(models.model.config.num_labels or 1)
    return weights[-1].shape[0]


def random_inputs(model: "PreTrainedModel") -> list[Inputs] | None:
    """A batch of random tokens, pixels or spectrograms, or None where a model takes something else."""
    generator = torch.Generator().manual_seed(0)
    config = model.config
    if model.main_input_name == "input_ids":
        tokens = _tokens(config, generator)
        return [{"input_ids": tokens} | ({"decoder_input_ids": tokens.flip(0)} if config.is_encoder_decoder else {})]
    size = getattr(config, "image_size", _PIXELS)
    if model.main_input_name == "pixel_values" and isinstance(size, int):
        shape = (_BATCH, config.num_channels, size, size)
        return [{"pixel_values": torch.randn(shape, generator=generator)}]
    if model.main_input_name == "input_features" and isinstance(getattr(config, "max_source_positions", None), int):
        shape = (_BATCH, config.num_mel_bins, 2 * config.max_source_positions)
        heard = {"input_features": torch.randn(shape, generator=generator)}
        return [heard | ({"decoder_input_ids": _tokens(config, generator)} if config.is_encoder_decoder else {})]
    return None


def _tokens(config: "PreTrainedConfig", generator: torch.Generator) -> Tensor:
    size = int(config.get_text_config().vocab_size)
    tokens = torch.randint(0, size, (_BATCH, _LENGTH), generator=generator)
    special = {getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
    ordinary = next(token for token in range(size) if token not in special)
    for token in special - {None}:
        tokens[tokens == token] = ordinary
    return tokens


def outputs(model: Callable[..., Any], batches: Sequence[Inputs]) -> tuple[Tensor, bool] | None:
    """Rows of logits of all batches, or of last hidden states; and whether each is a distribution's. None: neither."""
    rows: list[Tensor] = []
    distribution = False
    for batch in batches:
        with torch.no_grad():
            made = run(model, batch)
        try:
            output = output_of(made, batch)
        except CheckpointError:
            return None
        rows.append(output.rows)
        distribution = output.distribution
    return torch.cat(rows).double(), distribution


def mean_kl(wanted: Tensor, got: Tensor) -> Tensor:
    """Mean over rows of KL(softmax wanted || softmax got), in nats."""
    if not torch.is_grad_enabled():  # to be told; small ones are lost in float32
        wanted, got = wanted.double(), got.double()
    left, right = wanted.log_softmax(-1), got.log_softmax(-1)
    return (left.exp() * (left - right)).sum(-1).mean()


def divergence(wanted: Tensor, got: Tensor) -> float:
    """The same as a number."""
    return float(mean_kl(wanted, got))

"""Directions in a model's output whose squares add up to its Fisher information."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..shapes import Float

__all__ = ["Output", "cotangents", "output_of", "run"]

_SHOWN = 200  # characters of what transformers says
EXACT = 8
"""Classes up to which the information is summed exactly, one direction less than classes; beyond, one is drawn."""


@dataclass(frozen=True)
class Output:
    """What a model puts out.

    Attributes:
        value: (batch, classes) or (batch, seq, classes).
        mask: (batch, seq), the positions that count; None for all.
        logits: they are logits, else hidden states.
    """

    value: Tensor
    mask: Tensor | None
    logits: bool

    @property
    def distribution(self) -> bool:
        """Whether each row has a softmax that says something; one output alone has none."""
        return self.logits and self.value.shape[-1] > 1

    @property
    def rows(self) -> Tensor:
        """The positions that count, (rows, classes)."""
        kept = self.value if self.mask is None else self.value[self.mask]
        return kept.reshape(-1, kept.shape[-1])


def run(model: Any, batch: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A forward pass.

    Raises:
        CheckpointError: the model does not take such inputs.
    """
    try:
        return model(**batch)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:  # of transformers' own code
        why = " ".join(str(error).split())[:_SHOWN].rstrip(".")
        raise CheckpointError(
            f"a {type(model).__name__} must take these inputs, but says: {why}; mend its configuration or "
            f"that of its tokenizer"
        ) from None


def output_of(made: Any, batch: dict[str, Tensor]) -> Output:  # noqa: ANN401
    """Logits, or else last hidden states, and which positions count.

    The two scores of each position of a question answerer, which is the start or the end, count as its hidden state.

    Args:
        made: what its forward returned.
        batch: what it was given.

    Raises:
        CheckpointError: neither of the two.
    """
    logits = next((name for name in ("logits", "prediction_logits") if made.get(name) is not None), None)
    if logits is not None:
        value = made[logits]
    elif made.get("last_hidden_state") is not None:
        value = made["last_hidden_state"]
    elif made.get("start_logits") is not None and made.get("end_logits") is not None:
        value = torch.stack([made["start_logits"], made["end_logits"]], -1)
    else:
        raise CheckpointError(
            f"a model for calibration must put out logits or hidden states, got {type(made).__name__}; "
            f"extract without --calibration and --refine"
        )
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    fits = value.dim() == 3 and mask is not None and value.shape[:2] == mask.shape
    return Output(value, mask.bool() if fits and mask is not None else None, logits is not None)


def cotangents(output: Output, generator: torch.Generator) -> list[Float[Tensor, "batch ... classes"]]:
    """Directions ``u_k`` with ``sum_k E[u_k u_k^T] = diag(p) - p p^T`` at each position, ``p`` its softmax.

    Up to eight classes a square root of the matrix itself gives them; beyond, one direction ``e_c - p`` with the class
    ``c`` drawn from ``p``. A single output, and hidden states, count as the mean of a unit Gaussian: one normal draw.

    Args:
        output: logits or hidden states.
        generator: on the CPU.

    Source: the true Fisher matrix (Kunstner et al. 2019). Cost O(output), times classes up to eight.
    """
    value, mask = output.value.detach(), output.mask
    if not output.distribution:
        directions = [torch.randn(value.shape, generator=generator).to(value)]
    elif value.shape[-1] <= EXACT:
        directions = _roots(value.double().softmax(-1), generator)
    else:
        directions = [_drawn(value.float().softmax(-1), generator)]
    if mask is not None:
        directions = [direction * mask[..., None] for direction in directions]
    return [direction.to(value) for direction in directions]


def _roots(p: Tensor, generator: torch.Generator) -> list[Tensor]:
    information = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    values, vectors = torch.linalg.eigh(information)
    # random signs: what one text's positions do to each other cancels on average
    signs = torch.randint(0, 2, p.shape[:-1], generator=generator).to(p) * 2 - 1
    scaled = vectors * (signs[..., None] * values.clamp(min=0).sqrt())[..., None, :]
    return list(scaled[..., 1:].unbind(-1))  # the first is 0: equal shifts of all logits change nothing


def _drawn(p: Tensor, generator: torch.Generator) -> Tensor:
    flat = p.reshape(-1, p.shape[-1])
    uniform = torch.rand(len(flat), 1, generator=generator).to(flat)
    choice = torch.searchsorted(flat.cumsum(-1), uniform).clamp(max=p.shape[-1] - 1)
    return (torch.zeros_like(flat).scatter_(1, choice, 1.0) - flat).reshape(p.shape)

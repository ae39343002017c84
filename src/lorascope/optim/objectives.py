"""What many members minimise, as a function of their outputs: the value of each member and the gradient."""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from ..errors import SpecError
from ..shapes import Float

__all__ = ["OBJECTIVES", "ObjectiveName", "OutputLoss", "check_objective", "output_loss"]

ObjectiveName = Literal["mse", "classification", "binary"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
# Below this logarithm of a ratio of probabilities exp(t) - 1 - t loses digits unless it is formed with care.
SMALL = 1.0


@runtime_checkable
class OutputLoss(Protocol):
    """A mean over a batch of a loss that compares one output with one target; buffers are made once.

    Attributes:
        couples: whether the gradient by one coordinate depends on the others. Where it does not, outputs that a ReLU
            sets to zero need not be set before :meth:`gradient` is asked for: their gradient is dropped.
        upstream: (members, width, batch), where :meth:`gradient` writes.
    """

    couples: bool
    upstream: Tensor

    def values(self, outputs: Tensor, targets: Tensor, out: Tensor) -> None:
        """The loss of each member, into ``out``; ``upstream`` is overwritten.

        Args:
            outputs: (members, width, batch).
            targets: (width, batch), or with a members axis in front.
            out: (members,).
        """
        ...

    def gradient(self, outputs: Tensor, targets: Tensor, out: Tensor | None) -> None:
        """The gradient of each member's loss by its outputs, into ``upstream``; the losses into ``out``, if wanted."""
        ...


def check_objective(name: str, width: int) -> ObjectiveName:
    """The name, if there is such an objective for outputs of that width.

    Raises:
        SpecError: another name, or two classes of an odd number of coordinates.
    """
    if name not in OBJECTIVES:
        raise SpecError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    if name == "binary" and width % 2:
        raise SpecError(
            f'objective "binary" compares the sums of two halves of the coordinates, so the output width must be even, '
            f"got {width}; pad the models to {width + 1}"
        )
    return name


def output_loss(name: ObjectiveName, sizes: Sequence[int], like: Tensor) -> OutputLoss:
    """The objective of that name, for outputs of one shape.

    ``mse`` is ``E |f(x) - fbar(x)|^2 / D``. The other two are ``E KL(softmax(s(fbar(x))) || softmax(s(f(x))))`` in
    nats: zero if and only if the probabilities agree. For ``classification`` s(y) = y, one class a coordinate; for
    ``binary`` s(y) has two entries, the sum of the first half of y and the sum of the second.

    Args:
        name: which.
        sizes: members, width, batch.
        like: sets dtype and device.

    Source: Zeng & Lee 2024, Appendix G (the two classification tasks). Departs in that both networks' outputs are
    normalised: cross-entropy to unnormalised outputs of a ReLU is not least where the networks agree.

    >>> loss, found = output_loss("binary", (1, 2, 1), torch.empty(0)), torch.empty(1)
    >>> loss.values(torch.tensor([[[2.0], [5.0]]]), torch.tensor([[0.0], [3.0]]), found)
    >>> found
    tensor([0.])
    """
    upstream = like.new_empty(*sizes)
    return MeanSquares(upstream) if name == "mse" else Divergence(upstream, halves=name == "binary")


class MeanSquares:
    """Mean squared error."""

    couples = False

    def __init__(self, upstream: Float[Tensor, "members width batch"]) -> None:
        self.upstream, self._flat = upstream, upstream.flatten(1)
        # the library's own gradient is that of the mean over everything
        self._members = upstream.new_tensor(len(upstream))

    def values(self, outputs: Tensor, targets: Tensor, out: Tensor) -> None:
        goal = targets.expand_as(self.upstream)
        torch.ops.aten.mse_loss.out(outputs, goal, 0, out=self.upstream)  # 0: each difference squared
        torch.mean(self._flat, 1, out=out)

    def gradient(self, outputs: Tensor, targets: Tensor, out: Tensor | None) -> None:
        # 2 / (width batch) times the difference, in one pass
        torch.ops.aten.mse_loss_backward.grad_input(self._members, outputs, targets, 1, grad_input=self.upstream)
        if out is not None:
            out.copy_(torch.linalg.vector_norm(self._flat, dim=1).square_().mul_(self._flat.shape[1] / 4))


class Divergence:
    """Kullback-Leibler divergence of the outputs' probabilities from the targets'."""

    couples = True

    def __init__(self, upstream: Float[Tensor, "members width batch"], halves: bool) -> None:
        members, width, batch = upstream.shape
        self.upstream, self._halves, self._batch = upstream, halves, batch
        # without halves the scores are the outputs, and their gradient is written in place
        self._scores = upstream.new_empty(members, 2, batch) if halves else upstream
        self._spread = upstream.view(members, 2, width // 2, batch) if halves else upstream

    def values(self, outputs: Tensor, targets: Tensor, out: Tensor) -> None:
        scores, wanted = self._scores_of(outputs), self._scores_of(targets).log_softmax(-2)
        torch.log_softmax(scores, 1, out=self._scores)
        out.copy_(_divergence(self._scores, wanted).sum((1, 2)).div_(self._batch))

    def gradient(self, outputs: Tensor, targets: Tensor, out: Tensor | None) -> None:
        if out is not None:
            self.values(outputs, targets, out)
        scores, wanted = self._scores_of(outputs), self._scores_of(targets).softmax(-2)
        torch.softmax(scores, 1, out=self._scores)
        self._scores.sub_(wanted).mul_(1 / self._batch)
        if self._halves:
            self._spread.copy_(self._scores.unsqueeze(2))

    def _scores_of(self, values: Tensor) -> Tensor:
        return values.unflatten(-2, (2, -1)).sum(-2) if self._halves else values


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """``p (exp(t) - 1 - t)`` of each class, t = log q - log p: never negative, and exact where p and q are close.

    Args:
        found: log q.
        wanted: log p.
    """
    ratio = found - wanted
    p = wanted.exp()
    return torch.where(ratio < SMALL, p * (ratio.expm1() - ratio), found.exp() - p - p * ratio)

"""Gradients of many adapted fully connected networks at once, written by hand."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..shapes import Float
from .members import Buffers, Layer, Members, Workspace
from .objectives import ObjectiveName, check_objective

__all__ = ["LayeredGradient", "fitting"]

# Bytes of hidden values that one visit of a chunk of members touches: what goes back and forth between two levels of
# cache costs less than many small calls.
CACHE = 2 << 20

Batch = tuple[Tensor, Tensor]  # inputs (batch, inp) and targets (batch, out), or with a members axis in front


def fitting(widths: Sequence[int], rows: int, like: Tensor) -> int:
    """How many members to work on together: as many as the cache takes, on a GPU all.

    Args:
        widths: of the layers' outputs.
        rows: of a batch.
        like: sets dtype and device.
    """
    if like.is_cuda:
        return 1 << 30
    return max(1, CACHE // (rows * like.element_size() * (sum(widths) + widths[-1])))


class LayeredGradient:
    """Loss of each member and its gradient: ``z_l = act((W_l + B_l A_l) z_{l-1} + b_l)``, ``W_l`` frozen.

    A :data:`Gradient` for :func:`adam`. The parameters are, in this order and with a members axis in front each:

    * ``A_l`` (rank, inp) of every adapted layer, then ``B_l`` (out, rank) of every adapted layer,
    * the whole weight (out, inp) of every layer in ``full``,
    * ``b_l`` (out,) of every layer whose bias is trained.

    Ranks may differ from layer to layer; members of several ranks share one, the factors padded with zeros: where row
    i of A and column i of B are both zero they have zero gradient, and stay so.

    Args:
        weights: frozen ``W_l``, first layer first: (out, inp) for all members, or (members, out, inp).
        batches: step -> inputs (batch, inp) and targets (batch, out); either may have a members axis in front. None for
            callers of :meth:`visit` alone.
        activation: ``"relu"`` after every layer, or ``"identity"``.
        adapted: layers with factors; default all that are not in ``full``.
        full: layers whose whole weight is a parameter; what ``weights`` has for them sets the shape only.
        biases: the fixed ones, (out,) or (members, out), one a layer, None where the bias is trained. Default: all
            are trained.
        chunk: members worked on together; default as many as fit a core's second-level cache, on a GPU all.
        objective: what is minimised, as :func:`.output_loss` names it.
        workspace: buffers shared with others that take turns; default its own.

    Raises:
        ShapeError: layers that do not chain, or parameters and batches that do not fit them.
        SpecError: another activation or objective; a layer both adapted and full.

    The gradients live in one set of buffers, which the next call overwrites. Cost of a step: three products of
    (out, inp) with the batch a layer and member, whatever the rank, since ``W + B A`` is formed once.

    >>> weight, x = torch.eye(2), torch.ones(5, 2)
    >>> gradient = LayeredGradient([weight], lambda _: (x, 3 * x))
    >>> losses, (a, b, bias) = gradient(0, [torch.ones(4, 1, 2), torch.zeros(4, 2, 1), torch.zeros(4, 2)])
    >>> losses.tolist(), b[0].flatten().tolist()
    ([4.0, 4.0, 4.0, 4.0], [-4.0, -4.0])
    """

    def __init__(
        self,
        weights: Sequence[Float[Tensor, "... _ _"]],
        batches: Callable[[int], Batch] | None = None,
        activation: str = "relu",
        *,
        adapted: Iterable[int] | None = None,
        full: Iterable[int] = (),
        biases: Sequence[Float[Tensor, "... _"] | None] | None = None,
        chunk: int | None = None,
        objective: str = "mse",
        workspace: Workspace | None = None,
    ) -> None:
        if activation not in ("relu", "identity"):
            raise SpecError(f'activation must be "relu" or "identity", got {activation!r}')
        self._weights, self._relu, self._batches, self._chunk = list(weights), activation == "relu", batches, chunk
        depth = len(self._weights)
        self._full = sorted(set(full))
        free = [layer for layer in range(depth) if layer not in self._full]
        self._adapted = free if adapted is None else sorted(set(adapted))
        self._fixed = [None] * depth if biases is None else list(biases)
        self._biased = [layer for layer, bias in enumerate(self._fixed) if bias is None]
        self._check_layers()
        self._widths = tuple(weight.shape[-2] for weight in self._weights)
        self._objective: ObjectiveName = check_objective(objective, self._widths[-1])
        self._given, self._workspace = workspace, Workspace() if workspace is None else workspace
        self._seen: list[Tensor] = []
        self._unknown = torch.empty(0)
        self._grads: list[Tensor] = []
        self._members: list[Members] = []

    def __call__(self, step: int, parameters: Sequence[Tensor]) -> tuple[Float[Tensor, " members"], Sequence[Tensor]]:
        """The losses on the batch of this step, and the gradient of each parameter."""
        if self._batches is None:
            raise SpecError("this LayeredGradient was made without batches; call visit with a batch instead")
        return self.visit(parameters, self._batches(step))[0], self._grads

    def losses(self, parameters: Sequence[Tensor], batch: Batch) -> Float[Tensor, " members"]:
        """The losses on any batch, without gradients."""
        return self.visit(parameters, None, batch)[1]

    def visit(
        self,
        parameters: Sequence[Tensor],
        batch: Batch | None,
        validation: Batch | None = None,
        *,
        losses: bool = True,
        into: Sequence[Tensor] | None = None,
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """Losses on ``batch`` and on ``validation``, and the gradient on ``batch``; ``W + B A`` is formed once for all.

        Args:
            parameters: as above.
            batch, validation: inputs and targets; None where nothing is wanted of them, and the losses are NaN then.
            losses: whether those on ``batch`` are wanted.
            into: where to write the gradient, shaped like the parameters; default buffers that :meth:`gradients` shows.
        """
        with torch.no_grad():
            self._bind(parameters, into)
            like, number = parameters[0], len(parameters[0])
            trained = like.new_empty(number) if batch is not None and losses else self._unknown
            held_out = like.new_empty(number) if validation is not None else self._unknown
            train, validate = (None if part is None else self._checked(part) for part in (batch, validation))
            for members in self._members:
                members.merge()
                if validate is not None:
                    members.losses(*validate, self._buffers_for(members, validate[1]), held_out)
                if train is not None:
                    buffers = self._buffers_for(members, train[1])
                    members.backward(*train, buffers, trained if losses else None)
        return trained, held_out

    def gradients(self) -> Sequence[Tensor]:
        """What the last visit found, one a parameter; the next visit overwrites it."""
        return self._grads

    def _checked(self, batch: Batch) -> Batch:
        """Inputs and targets with the rows of the batch last, as all hidden values are kept."""
        inputs, targets = batch
        members, first, last = len(self._seen[0]), self._weights[0].shape[-1], self._weights[-1].shape[-2]
        for name, values, width in (("inputs", inputs, first), ("targets", targets, last)):
            if values.ndim not in (2, 3) or values.shape[-1] != width or values.shape[:-2] not in ((), (members,)):
                raise ShapeError(
                    f"{name} must be (batch, {width}) or ({members}, batch, {width}), got {tuple(values.shape)}"
                )
        if inputs.shape[-2] != targets.shape[-2]:
            raise ShapeError(f"as many inputs as targets, got {inputs.shape[-2]} and {targets.shape[-2]}")
        return inputs.mT, targets.mT.contiguous()

    def _buffers_for(self, members: Members, targets: Tensor) -> Buffers:
        return self._workspace.of(members.count, targets.shape[-1], self._widths, self._objective, self._seen[0])

    def _bind(self, parameters: Sequence[Tensor], into: Sequence[Tensor] | None) -> None:
        """Views of parameters and gradients, chunk by chunk; an optimiser passes the same tensors at every step."""
        if _same(parameters, self._seen) and (into is None or _same(into, self._grads)):
            return
        self._check_parameters(parameters)
        self._seen, self._unknown = list(parameters), parameters[0].new_full((len(parameters[0]),), torch.nan)
        self._grads = [torch.zeros_like(parameter) for parameter in parameters] if into is None else list(into)
        found, grads = self._by_layer(self._seen), self._by_layer(self._grads)
        number = len(parameters[0])
        size = min(self._chunk or fitting(self._widths, 256, parameters[0]), number)
        self._workspace = Workspace() if self._given is None else self._given
        self._members = []
        for start in range(0, number, size):
            part = slice(start, min(start + size, number))
            layers = [
                Layer(weight, fixed, values, slots, part, parameters[0])
                for weight, fixed, values, slots in zip(self._weights, self._fixed, found, grads, strict=True)
            ]
            self._members.append(Members(layers, part, self._relu))

    def _by_layer(self, tensors: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Layer -> what it has of A, B, weight and bias."""
        found: list[dict[str, Tensor]] = [{} for _ in self._weights]
        rest = iter(tensors)
        for name, layers in (("A", self._adapted), ("B", self._adapted), ("W", self._full), ("b", self._biased)):
            for layer in layers:
                found[layer][name] = next(rest)
        return found

    def _check_layers(self) -> None:
        shapes = [tuple(weight.shape) for weight in self._weights]
        chained = all(second[-1] == first[-2] for first, second in pairwise(shapes))
        if not shapes or any(len(shape) not in (2, 3) or 0 in shape for shape in shapes) or not chained:
            raise ShapeError(f"weights must be (out, inp) or (members, out, inp), each taking the last's, got {shapes}")
        named = [*self._adapted, *self._full]
        if len(set(named)) != len(named) or not set(named) <= set(range(len(shapes))):
            raise SpecError(
                f"adapted and full must name different layers of 0 to {len(shapes) - 1}, got {self._adapted} and "
                f"{self._full}"
            )
        came = [None if bias is None else tuple(bias.shape[-1:]) for bias in self._fixed]
        if len(came) != len(shapes) or any(
            bias is not None and bias != shape[-2:-1] for bias, shape in zip(came, shapes, strict=True)
        ):
            raise ShapeError(f"biases must be one a layer, (out,) or None, got {came} for weights {shapes}")

    def _check_parameters(self, parameters: Sequence[Tensor]) -> None:
        number = 2 * len(self._adapted) + len(self._full) + len(self._biased)
        if len(parameters) != number or number == 0:
            raise ShapeError(f"parameters must be {number} tensors (and at least 1), got {len(parameters)}")
        members = len(parameters[0])
        for layer, (found, weight) in enumerate(zip(self._by_layer(parameters), self._weights, strict=True)):
            out, inp = weight.shape[-2:]
            rank = found["A"].shape[-2] if "A" in found else 0
            wanted = {"A": (rank, inp), "B": (out, rank), "W": (out, inp), "b": (out,)}
            for name, value in found.items():
                if tuple(value.shape) != (members, *wanted[name]):
                    raise ShapeError(
                        f"{name} of layer {layer} must be {(members, *wanted[name])}, got {tuple(value.shape)}"
                    )
                if not value.is_contiguous():
                    raise ShapeError(f"{name} of layer {layer} must be contiguous; call .contiguous() on it")
            if weight.ndim == 3 and len(weight) != members:
                raise ShapeError(f"weights of layer {layer} are {len(weight)} members', the parameters {members}")


def _same(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(tensors) == len(others) and all(a is b for a, b in zip(tensors, others, strict=True))

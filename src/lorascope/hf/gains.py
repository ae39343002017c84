"""How far to go along each direction, so that all matrices together err least, not each of them alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..shapes import Float
from .adapter_files import PREFIX
from .both import Both
from .choose import Choice
from .cotangents import Output
from .factors import Factors
from .passes import Seen, run_back

__all__ = ["Fitted", "fit_gains", "ridge_by_folds"]

FOLDS = 5
STEPS = 2
"""Gauss-Newton steps at most."""
LEAST = 0.03
"""Columns down to this size are scaled up, in root mean squares of all columns."""
BOUNDS = -1.0, 3.0
"""Changes of a gain in a step: no direction is turned round or blown up."""
_SHRINKAGES = tuple(10.0 ** (power / 2) for power in range(-6, 5))


@dataclass(frozen=True)
class Fitted:
    """What the gains came to.

    Attributes:
        factors: of every matrix, residuals not yet measured.
        before, after: mean divergence from the tuned model over the texts, in nats.
    """

    factors: list[Factors]
    before: float
    after: float


def fit_gains(
    both: Both,
    choice: Choice,
    found: Sequence[Factors],
    means: Sequence[Tensor | None],
    progress: Callable[[float, str], None] | None = None,
) -> Fitted:
    """Scale every direction ``b_k a_k^T`` of every matrix by a gain, fitted to the outputs on texts.

    What truncation leaves out of the matrices points the same way in the outputs, so it adds up. With the student's
    outputs ``z`` and their gradients ``g`` along a random direction ``u`` of the Fisher metric, gains ``1 + d`` solve
    ``min_d sum (u^T (z' - z) - sum_k d_k g^T b_k a_k^T x)^2 + shrinkage |d|^2`` over the texts: Gauss and Newton's step
    for the divergence. The shrinkage is chosen on texts left out, and ``-1 <= d_k <= 3``: other texts than these use
    other directions. A step is taken only where the divergence falls.

    Args:
        both: the models; the student changes with the factors.
        choice: what is carried.
        found: the factors as the student has them.
        means: ``E[x]`` of each matrix whose bias takes up the mean of what its factors leave.
        progress: called with the share done and a few words.

    Returns:
        The factors, and the divergence with and without the gains.

    Cost: two forward passes and one backward pass a step, and a least-squares problem of one unknown a direction.
    """
    made = list(found)
    before = reached = both.divergence()
    names = [pair.name for pair in choice.factors]
    for step in range(STEPS):
        responses, wanted, texts = _responses(both, choice, made, means, lambda share, step=step: (
            progress and progress((step + share) / STEPS, "gains of directions")))  # fmt: skip
        changes = ridge_by_folds(responses, wanted, texts).clamp(*BOUNDS)
        tried = [
            replace(factors, B=factors.B * (1 + change).float()) if name in both.factors else factors
            for name, factors, change in zip(names, made, changes.split([f.rank for f in made]), strict=True)
        ]
        _put(both, choice, made, tried, means)
        after = both.divergence()
        if not after < reached:
            _put(both, choice, tried, made, means)
            break
        made, reached = tried, after
    return Fitted(made, before, reached)


def ridge_by_folds(
    responses: Float[Tensor, "rows k"], wanted: Float[Tensor, " rows"], texts: Tensor
) -> Float[Tensor, " k"]:
    """Coefficients of a ridge regression on columns of like size, its shrinkage found on texts left out.

    A column much smaller than most is not scaled up to them: what hardly any text uses would get any coefficient. Of
    all shrinkages within one standard error of the best the largest is taken; if no coefficients at all do as well, or
    there are too few texts to tell, they are 0.

    Args:
        responses: a row each text and direction.
        wanted: what the columns are to add up to.
        texts: (rows,), which text a row belongs to; its rows are left out together.

    Source: Hoerl & Kennard 1970; the rule of one standard error is Breiman et al.'s (1984). Cost
    O(rows k min(rows, k)).
    """
    squares = responses.square().mean(dim=0)
    size = squares.sqrt().clamp(min=LEAST * float(squares.mean().sqrt()))
    fold = texts % FOLDS
    if len(texts.unique()) < 2 * FOLDS or not size.any():
        return torch.zeros_like(size)
    scaled = responses / size
    errors = torch.stack([
        torch.cat([
            (wanted[fold == left] - scaled[fold == left] @ coefficients).square()
            for left in range(FOLDS)
            for coefficients in [_ridge(scaled[fold != left], wanted[fold != left], shrinkage)]
        ])
        for shrinkage in (*_SHRINKAGES, None)
    ])  # fmt: skip
    means = errors.mean(dim=1)
    best = int(means.argmin())
    allowed = means[best] + errors[best].std() / len(wanted) ** 0.5
    chosen = int((means <= allowed).nonzero()[-1])
    return _ridge(scaled, wanted, (*_SHRINKAGES, None)[chosen]) / size


def _ridge(columns: Tensor, wanted: Tensor, shrinkage: float | None) -> Tensor:
    if shrinkage is None:
        return columns.new_zeros(columns.shape[1])
    rows, unknowns = columns.shape
    weight = shrinkage * rows
    if unknowns <= rows:
        gram = columns.T @ columns
        gram.diagonal().add_(weight)
        return torch.linalg.solve(gram, columns.T @ wanted)
    gram = columns @ columns.T
    gram.diagonal().add_(weight)
    return columns.T @ torch.linalg.solve(gram, wanted)


def _responses(
    both: Both,
    choice: Choice,
    made: Sequence[Factors],
    means: Sequence[Tensor | None],
    progress: Callable[[float], object],
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every text and direction: what each gain does, what is wanted of them together, and the text's number."""
    given = {f"{PREFIX}{pair.module}": index for index, pair in enumerate(choice.factors)
             if pair.name in both.factors}  # fmt: skip
    responses: list[Tensor] = []
    wanted: list[Tensor] = []
    texts: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    first = 0
    for number, batch in enumerate(both.batches):
        count = next(iter(batch.values())).shape[0]
        parts: dict[tuple[int, int], Tensor] = {}

        def visit(seen: Seen, parts: dict[tuple[int, int], Tensor] = parts, count: int = count) -> None:
            if seen.gradient.shape[0] % count:
                return  # a table of positions is read once for all texts: what it does to each is not known
            index = given[seen.name]
            factors, mean = made[index], means[index]
            parts[seen.direction, index] = _parts(seen, factors, mean, count)

        output, directions = run_back(both.student, list(given), batch, generator, visit)
        target, _ = both.wanted(number)
        short = _short(output, target.rows)
        for turn, direction in enumerate(directions):
            wanted.append((direction * short).reshape(count, -1).sum(dim=1).double().cpu())
            columns = [
                parts.get((turn, index), torch.zeros(count, factors.rank, dtype=torch.float64))
                for index, factors in enumerate(made)
            ]
            responses.append(torch.cat(columns, dim=1))
            texts.append(torch.arange(first, first + count))
        first += count
        progress((number + 1) / len(both.batches))
    return torch.cat(responses), torch.cat(wanted), torch.cat(texts)


def _short(output: Output, target: Tensor) -> Tensor:
    """What the outputs lack, zero where they do not count."""
    value = output.value.detach()
    if output.mask is None:
        return target.reshape(value.shape) - value
    short = torch.zeros_like(value)
    short[output.mask] = target - value[output.mask]
    return short


def _parts(seen: Seen, factors: Factors, mean: Tensor | None, count: int) -> Tensor:
    """``sum_t (g_t^T b_k) (a_k^T (x_t - E[x]))`` of every text and direction: (batch, rank)."""
    gradient = seen.gradient.double().reshape(count, -1, seen.gradient.shape[-1])
    A, B = factors.A.double().to(gradient.device), factors.B.double().to(gradient.device)
    if isinstance(seen.module, nn.Embedding) or not seen.given.is_floating_point():
        left = B[seen.given.reshape(count, -1)]  # batch, seq, rank
        return (left * (gradient @ A.T)).sum(dim=1).cpu()
    inputs = seen.given.double().reshape(count, -1, seen.given.shape[-1])
    if mean is not None:
        inputs = inputs - mean.to(inputs)
    return ((gradient @ B) * (inputs @ A.T)).sum(dim=1).cpu()


def _put(
    both: Both, choice: Choice, old: Sequence[Factors], new: Sequence[Factors], means: Sequence[Tensor | None]
) -> None:
    """The student with the new factors; its biases go on taking up the mean."""
    with torch.no_grad():
        for pair, was, now, mean in zip(choice.factors, old, new, means, strict=True):
            if pair.name not in both.factors or not was.rank:
                continue
            A, B = both.factors[pair.name]
            if pair.kind == "embedding":
                A.copy_(now.B.T)
            else:
                B.copy_(now.B)
            if mean is not None and pair.module in both.biases:
                moved = (was.B - now.B).double() @ (now.A.double() @ mean)
                both.biases[pair.module].add_(moved.to(both.biases[pair.module]))

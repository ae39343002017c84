"""Which parameters an adapter carries, and how; one rank for all matrices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SpecError
from .adapter_tensors import task_of
from .pairs import LeftOut, Models, Pair
from .profiles import How, Profile, how
from .spectrum import Spectrum

__all__ = ["Choice", "choose", "rank_for_error", "rank_for_parameters"]


@dataclass(frozen=True)
class Choice:
    """What is to be carried.

    Attributes:
        factors: matrices that get A and B.
        values: parameters of modules that are carried whole.
        biases: whose value is carried beside its matrix.
        left_out: what changed and is not carried, with the reason.
        unchanged: how many parameters are the same in both models.
    """

    factors: list[Pair]
    values: list[Pair]
    biases: list[Pair]
    left_out: list[LeftOut]
    unchanged: int


def choose(models: Models, profile: Profile, modules: str | None, exclude: str | None) -> Choice:
    """Sort the parameters that changed by how a profile carries them; reads each pair once.

    Args:
        models: opened.
        profile: peft, vllm or llamacpp.
        modules: a regular expression some part of a module's name must match; None: all.
        exclude: one that no part may match; None: none.

    Raises:
        SpecError: no regular expression, or nothing that changed can be carried.
    """
    wanted, unwanted = _pattern(modules, "--modules"), _pattern(exclude, "--exclude")
    weights: dict[str, How] = {pair.module: how(pair, profile)[0] for pair in models.pairs if pair.kind != "bias"}
    changed = {pair.name for pair in models.pairs if pair.changed()}
    # PEFT's classes for classification carry these whole whether or not they changed
    forced = (
        {"classifier", "score"}
        if task_of(models.model) in {"SEQ_CLS", "TOKEN_CLS"} and profile != "llamacpp"
        else set()
    )
    whole: set[str] = set()
    sorted_in: dict[How, list[Pair]] = {"factors": [], "value": [], "bias": [], "nothing": []}
    left_out: list[LeftOut] = list(models.left_out)
    for pair in models.pairs:
        way, reason = how(pair, profile)
        if pair.kind == "bias" and weights.get(pair.module) in {"value", "nothing"}:
            way = weights[pair.module]
            reason = reason or "its matrix is not carried"
        if way == "value" and pair.module in forced:
            whole.add(pair.module)
        if pair.name not in changed:
            continue
        if (wanted and not wanted.search(pair.module)) or (unwanted and unwanted.search(pair.module)):
            left_out.append(LeftOut(pair.name, "excluded by --modules or --exclude"))
        elif way == "nothing":
            left_out.append(LeftOut(pair.name, reason))
        elif way == "value":
            whole.add(pair.module)
        else:
            sorted_in[way].append(pair)
    values = [pair for pair in models.pairs if pair.module in whole]
    if not (sorted_in["factors"] or sorted_in["bias"] or any(pair.name in changed for pair in values)):
        raise SpecError(_nothing(left_out, profile))
    return Choice(sorted_in["factors"], values, sorted_in["bias"], left_out, len(models.pairs) - len(changed))


def rank_for_parameters(factors: Sequence[Pair], parameters: int) -> int:
    """The largest uniform rank whose factors have at most that many entries.

    Raises:
        SpecError: not even rank 1 fits.
    """
    each = sum(sides(pair) for pair in factors)
    if parameters < each:
        raise SpecError(f"--params must be at least {each:,} (rank 1 everywhere), got {parameters:,}; ask for more")
    return parameters // each if each else 1


def rank_for_error(spectra: Sequence[Spectrum], error: float) -> int:
    """The least uniform rank at which all differences together are off by at most a relative Frobenius error.

    Args:
        spectra: of every matrix; values below their floors are never kept.
        error: relative, of all together.

    Raises:
        SpecError: rounding of the stored weights alone leaves more.
    """
    total = sum(spectrum.norm**2 for spectrum in spectra)
    most = max((spectrum.rank for spectrum in spectra), default=1)

    def left(rank: int) -> float:
        return sum(max(spectrum.norm**2 - spectrum.captured(rank), 0.0) for spectrum in spectra)

    low, high = 1, most
    if left(high) > error**2 * total * (1 + 1e-9):
        least = (left(high) / total) ** 0.5
        raise SpecError(
            f"--max-error must be at least {least:.3g}, got {error}: the rest is rounding of the stored weights, "
            f"or beyond the singular values that are computed; allow more"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= error**2 * total * (1 + 1e-9) else (middle + 1, high)
    return low


def sides(pair: Pair) -> int:
    """Entries of A and B together at rank 1."""
    count = pair.shape[0] if pair.kind == "expert" else 1
    return count * (pair.shape[-1] + pair.shape[-2])


def _pattern(text: str | None, option: str) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise SpecError(f"{option} must be a regular expression, got {text!r} ({error}); escape it") from None


def _nothing(left_out: Sequence[LeftOut], profile: Profile) -> str:
    if not left_out:
        return "base and tuned model are the same: there is nothing to carry; name another TUNED"
    first = left_out[0]
    return (
        f"the profile {profile} can carry nothing of what changed ({len(left_out)} parameters, such as {first.name}: "
        f"{first.reason}); take another profile, or carry more"
    )

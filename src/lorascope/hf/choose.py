"""Which parameters an adapter carries, and how."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SpecError
from .adapter_tensors import CLASSIFIERS, task_of
from .pairs import LeftOut, Models, Pair
from .profiles import How, Profile, how

__all__ = ["Choice", "choose"]

_EXCLUDED = "excluded by --modules or --exclude"


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


def choose(
    models: Models, profile: Profile, modules: str | None, exclude: str | None, *, all_biases: bool = False
) -> Choice:
    """Sort the parameters that changed by how a profile carries them; reads each pair once.

    Args:
        models: opened.
        profile: peft, vllm or llamacpp.
        modules: a regular expression some part of a module's name must match; None: all.
        exclude: one that no part may match; None: none.
        all_biases: carry those beside a changed matrix too, where the profile carries any.

    Raises:
        SpecError: no regular expression, or nothing that changed can be carried.
    """
    wanted, unwanted = _pattern(modules, "--modules"), _pattern(exclude, "--exclude")
    weights: dict[str, How] = {pair.module: how(pair, profile)[0] for pair in models.pairs if pair.kind != "bias"}
    changed = {pair.name for pair in models.pairs if pair.changed()}
    forced = {"classifier", "score"} if task_of(models.model) in CLASSIFIERS and profile != "llamacpp" else set()
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
            left_out.append(LeftOut(pair.name, _EXCLUDED))
        elif way == "nothing":
            left_out.append(LeftOut(pair.name, reason))
        elif way == "value":
            whole.add(pair.module)
        else:
            sorted_in[way].append(pair)
    values = [pair for pair in models.pairs if pair.module in whole]
    biases = {pair.module for pair in sorted_in["bias"]} | {pair.module for pair in sorted_in["factors"] if all_biases}
    carried = [pair for pair in models.pairs if pair.kind == "bias" and pair.module in biases - whole]
    if not (sorted_in["factors"] or sorted_in["bias"] or any(pair.name in changed for pair in values)):
        raise SpecError(_nothing(left_out, profile))
    carried = [pair for pair in carried if how(pair, profile)[0] == "bias"]
    return Choice(sorted_in["factors"], values, carried, left_out, len(models.pairs) - len(changed))


def _pattern(text: str | None, option: str) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise SpecError(f"{option} must be a regular expression, got {text!r} ({error}); escape it") from None


def _nothing(left_out: Sequence[LeftOut], profile: Profile) -> str:
    if not left_out:
        return "base and tuned model are the same: there is nothing to carry; name another TUNED"
    first = left_out[0]
    excluded = [entry for entry in left_out if entry.reason == _EXCLUDED]
    if excluded:
        return (
            f"--modules and --exclude leave nothing that can be carried of what changed ({len(excluded)} parameters "
            f"excluded, such as {excluded[0].name}); check the patterns"
        )
    return (
        f"the profile {profile} can carry nothing of what changed ({len(left_out)} parameters, such as {first.name}: "
        f"{first.reason}); take another profile, or carry more"
    )

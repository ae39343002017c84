"""Which parameters an adapter carries, and how."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import SpecError
from .adapter_tensors import forced_heads
from .factors import Factors
from .pairs import LeftOut, Models, Pair
from .profiles import How, Profile, how
from .slots import Slot

__all__ = ["Choice", "choose", "hung"]

_EXCLUDED = "excluded by --modules or --exclude"


@dataclass(frozen=True)
class Choice:
    """What is to be carried.

    Attributes:
        factors: matrices that get A and B.
        whole: modules that are carried whole, none inside another.
        values: their parameters.
        biases: whose value is carried beside its matrix.
        left_out: what changed and is not carried, with the reason.
        unchanged: how many parameters are the same in both models.
        spare: a matrix that can get factors, for an adapter that has none; None where the model has none.
    """

    factors: list[Pair]
    whole: list[str]
    values: list[Pair]
    biases: list[Pair]
    left_out: list[LeftOut]
    unchanged: int
    spare: Slot | None


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
    weights = _ways(models, profile)
    changed = {pair.name for pair in models.pairs if pair.changed()}
    whole = _forced(models, profile)
    forced = frozenset(whole)
    sorted_in: dict[How, list[Pair]] = {"factors": [], "value": [], "bias": [], "nothing": []}
    left_out: list[LeftOut] = list(models.left_out)
    for pair in models.pairs:
        if pair.name not in changed or _inside(pair, forced):
            continue
        way, reason = how(pair, profile)
        if pair.kind == "bias" and weights.get(pair.module) in {"value", "nothing"}:
            way = weights[pair.module]
            reason = reason or "its matrix is not carried"
        if (wanted and not wanted.search(pair.module)) or (unwanted and unwanted.search(pair.module)):
            left_out.append(LeftOut(pair.name, _EXCLUDED))
        elif way == "nothing":
            left_out.append(LeftOut(pair.name, reason))
        elif way == "value":
            whole.add(pair.module)
        else:
            sorted_in[way].append(pair)
    lone = None if sorted_in["factors"] or sorted_in["bias"] else _lone_head(models, whole, forced)
    if lone is not None:
        whole.remove(lone.module)
        own = [pair for pair in models.pairs if pair.module == lone.module and pair.name in changed]
        for pair in own:
            sorted_in["factors" if pair is lone else "bias"].append(pair)
    values = [pair for pair in models.pairs if _inside(pair, whole)]
    held = {pair.name for pair in values}
    factors = [pair for pair in sorted_in["factors"] if pair.name not in held]
    biases = {pair.module for pair in sorted_in["bias"]} | {pair.module for pair in factors if all_biases}
    carried = [pair for pair in models.pairs if pair.kind == "bias" and pair.module in biases and pair.name not in held]
    carried = [pair for pair in carried if how(pair, profile)[0] == "bias"]
    left_out = [entry for entry in left_out if entry.name not in held]
    if not (factors or carried or held & changed):
        raise SpecError(_nothing(left_out, profile))
    outermost = sorted(module for module in whole if not _held(module, whole - {module}))
    unchanged = len(models.pairs) - len(changed)
    return Choice(factors, outermost, values, carried, left_out, unchanged, _spare(models, held))


def _ways(models: Models, profile: Profile) -> dict[str, How]:
    """How the weight of each module is carried; of one that shares an embedding's, that."""
    ways: dict[str, How] = {}
    for pair in models.pairs:
        if pair.kind != "bias":
            modules = (pair.module, *(name.rpartition(".")[0] for name in pair.slot.outputs))
            ways |= dict.fromkeys(modules, how(pair, profile)[0])
    return ways


def _forced(models: Models, profile: Profile) -> set[str]:
    """Modules that PEFT wants whole, whether or not they changed."""
    ends = forced_heads(models.model, profile)
    return {name for name, _ in models.model.named_modules() if ends and name.endswith(ends)}


def _inside(pair: Pair, modules: Collection[str]) -> bool:
    """Whether a parameter, by any of its names, belongs to one of these modules or to a part of it."""
    return any(_held(name, modules) for name in (pair.name, *pair.slot.tied))


def _held(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _spare(models: Models, held: Collection[str]) -> Slot | None:
    """The first matrix of the body that nothing else shares, or failing that a head's."""
    old = (pair for pair in models.pairs if pair.load_base is not None)
    free = [pair for pair in old if pair.name not in held and not pair.slot.tied]
    kinds = ("linear", "conv1d", "head")
    return next((pair.slot for kind in kinds for pair in free if pair.kind == kind), None)


def _lone_head(models: Models, whole: Collection[str], forced: Collection[str]) -> Pair | None:
    """A head that gets factors though it could be whole: PEFT loads no adapter without any, and nothing else can."""
    if _spare(models, {pair.name for pair in models.pairs if _inside(pair, whole)}) is not None:
        return None
    heads = (pair for pair in models.pairs if pair.kind == "head" and pair.module in whole)
    return next((pair for pair in heads if pair.load_base and not pair.grown and not _inside(pair, forced)), None)


def hung(choice: Choice, found: Sequence[Factors] | None = None) -> dict[str, Slot]:
    """Weights that get factors of rank 1, all zero, by module.

    PEFT carries a bias beside factors only, and loads no adapter without any.

    Args:
        choice: what is carried.
        found: the factors; None: all of them are to have some rank.
    """
    ranks = [1] * len(choice.factors) if found is None else [factors.rank for factors in found]
    ranked = {
        name.rpartition(".")[0]
        for pair, rank in zip(choice.factors, ranks, strict=True)
        if rank
        for name in (pair.name, *pair.slot.tied)
    }
    biases = [pair for pair in choice.biases if pair.module not in ranked]
    made = {pair.module: pair.beside for pair in biases if pair.beside is not None}
    if not ranked and not made and choice.spare is not None:
        made[choice.spare.module] = choice.spare
    return made


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

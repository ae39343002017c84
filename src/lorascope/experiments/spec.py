"""What a suite of experiments may say, and everything that is wrong with one at once."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from ..errors import SpecError

if TYPE_CHECKING:
    from pydantic import ValidationInfo
else:  # a protocol that no value can be checked against, which the tests' checker of annotations refuses
    ValidationInfo = object

__all__ = ["Depths", "Method", "Pretrain", "Scale", "ScaleName", "Suite", "parse_suite"]

Method = Literal["gradient", "last-layers", "paper", "stable", "refined"]
ScaleName = Literal["smoke", "paper"]
CLOSED_FORM: tuple[Method, ...] = ("paper", "stable", "refined")
T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"must not name anything twice, got {twice[0]!r} again")
    return values


def _at_most_width(rank: int, info: ValidationInfo) -> int:
    width = _known(info).get("width")
    if isinstance(width, int) and rank > width:
        raise ValueError(f"must be a rank of at most the width {width}, got {rank}")
    return rank


def _fits_depths(layers: int, info: ValidationInfo) -> int:
    for depths in _depths(info):
        if layers > depths.frozen:
            raise ValueError(f"must be at most the frozen depth {depths.frozen}, got {layers}")
    return layers


def _one_a_layer(ranks: list[int], info: ValidationInfo) -> list[int]:
    for depths in _depths(info):
        if len(ranks) != depths.frozen:
            raise ValueError(f"must have one rank for each of {depths.frozen} frozen layers, got {len(ranks)}: {ranks}")
    return ranks


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Rank = Annotated[int, Field(ge=0), AfterValidator(_at_most_width)]
Layers = Annotated[int, Field(ge=0), AfterValidator(_fits_depths)]
Allocation = Annotated[list[Rank], AfterValidator(_one_a_layer)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Some = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]


class _Table(BaseModel):
    """A TOML table: no keys but its own, no value turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Depths(_Table):
    """Layers of the two networks."""

    target: Count
    frozen: Count

    @field_validator("frozen")
    @classmethod
    def _no_shallower(cls, frozen: int, info: ValidationInfo) -> int:
        target = info.data.get("target")
        if target is not None and frozen < target:
            raise ValueError(f"must be at least the target's depth {target}, got {frozen}")
        return frozen


class Pretrain(_Table):
    """How a pretrained frozen network came to be: Adam on all parameters until the loss is ``level`` of the first."""

    lr: Rate = 1e-3
    steps: Count = 1000
    level: Annotated[float, Field(gt=0, le=1)] = 1 / 3


class Scale(_Table):
    """How much of a suite is run; what a scale leaves out is as in the paper.

    Attributes:
        seeds: one pair of networks each.
        ranks: of all adapters alike.
        allocations: ranks layer by layer, for the gradient method.
        layers: how many of the last layers are tuned.
        lr, weight_decay: grid, of which the lowest held-out loss is taken, rank by rank and seed by seed.
        steps, batch, validate_every, dtype: of the gradient steps.
        test_inputs: fresh inputs that the error is measured on.
        profile: how much work goes into a refinement.
    """

    seeds: Some[Seed] = [0, 1, 2, 3, 4]
    ranks: Distinct[Rank] = Field(default=[], validate_default=True)
    allocations: Distinct[Allocation] = Field(default=[], validate_default=True)
    layers: Distinct[Layers] = Field(default=[], validate_default=True)
    lr: Some[Rate] = [1e-2, 1e-3, 1e-4]
    weight_decay: Some[Decay] = [0.0, 1e-4, 1e-3, 1e-2]
    steps: Count = 5000
    batch: Count = 256
    validate_every: Annotated[int, Field(ge=0)] = 1
    dtype: Literal["float32", "float64"] = "float32"
    test_inputs: Count = 5000
    profile: Literal["fast", "full"] = "full"

    @field_validator("allocations")
    @classmethod
    def _for_somebody(cls, allocations: list[list[int]], info: ValidationInfo) -> list[list[int]]:
        methods = _methods(info)
        if methods and allocations and "gradient" not in methods:
            raise ValueError('are for the method "gradient", which the suite does not have')
        needing = [method for method in methods if method in CLOSED_FORM or (method == "gradient" and not allocations)]
        if needing and info.data.get("ranks") == []:
            raise ValueError(f"and ranks are empty, but {', '.join(needing)} cannot do without")
        return allocations

    @field_validator("layers")
    @classmethod
    def _of_last_layers(cls, layers: list[int], info: ValidationInfo) -> list[int]:
        methods = _methods(info)
        if methods and bool(layers) != ("last-layers" in methods):
            raise ValueError(f'must be given if and only if there is the method "last-layers", got {layers}')
        return layers


class Suite(_Table):
    """One experiment: which networks, adapted how.

    Attributes:
        name: of the suite, and in every row of its results.
        title: one line about it.
        width, activation, bias: of both networks.
        depths: pairs of networks.
        inits: what the frozen network is: random, or trained a little towards the target.
        methods: what adapts it.
        tune_bias: whether the gradient methods train biases; both to compare.
        pretrain: of pretrained frozen networks.
        scales: scale -> how much of it.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    title: Annotated[str, Field(min_length=1)]
    width: Count
    activation: Literal["relu", "identity"]
    bias: bool
    depths: Some[Depths]
    inits: Some[Literal["random", "pretrained"]]
    methods: Some[Method]
    tune_bias: Some[bool]
    pretrain: Pretrain = Pretrain()
    scales: Annotated[dict[ScaleName, Scale], Field(min_length=1)]

    @field_validator("bias")
    @classmethod
    def _relu_has_biases(cls, bias: bool, info: ValidationInfo) -> bool:
        if info.data.get("activation") == "relu" and not bias:
            raise ValueError('must be true for the activation "relu", got false')
        return bias

    @field_validator("tune_bias")
    @classmethod
    def _biases_are_there(cls, tuned: list[bool], info: ValidationInfo) -> list[bool]:
        if info.data.get("bias") is False and True in tuned:
            raise ValueError("must be [false] for networks without biases, got true in it")
        fixed = [method for method in info.data.get("methods", []) if method in CLOSED_FORM]
        if info.data.get("bias") and False in tuned and fixed:
            raise ValueError(f"must be [true], since {', '.join(fixed)} set biases; got false in it")
        return tuned


def parse_suite(content: Mapping[str, object], where: str) -> Suite:
    """The suite that a TOML file's content describes.

    Args:
        content: as tomllib reads it.
        where: what to call it in a message.

    Raises:
        SpecError: unknown or missing keys, values of the wrong type, grids that cannot be run; all faults at once.

    >>> parse_suite({"title": ""}, "mine.toml")
    Traceback (most recent call last):
    lorascope.errors.SpecError: mine.toml must describe a suite, got 10 faults: name is missing; ...
    """
    try:
        return Suite.model_validate(dict(content), context=_partly(content))
    except ValidationError as error:
        faults = [_worded(dict(fault)) for fault in error.errors()]
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    raise SpecError(f"{where} must describe a suite, got {count}: {'; '.join(faults)}; mend these") from None


def _partly(content: Mapping[str, object]) -> dict[str, object]:
    """What scales are checked against, where it is right itself."""
    adapters = {"width": TypeAdapter(Count), "depths": TypeAdapter(list[Depths]), "methods": TypeAdapter(list[Method])}
    known: dict[str, object] = {}
    for key, adapter in adapters.items():
        try:
            known[key] = adapter.validate_python(content.get(key), strict=True)
        except ValidationError:
            continue
    return known


def _known(info: ValidationInfo) -> dict[str, object]:
    return cast("dict[str, object]", info.context or {})


def _depths(info: ValidationInfo) -> list[Depths]:
    return cast("list[Depths]", _known(info).get("depths", []))


def _methods(info: ValidationInfo) -> list[Method]:
    return cast("list[Method]", _known(info).get("methods", []))


def _worded(fault: dict[str, object]) -> str:
    steps = cast("tuple[int | str, ...]", fault["loc"])
    # pydantic marks a fault of a key itself by a last step of its own
    named = steps[:-1] if steps[-1:] == ("[key]",) else steps
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in named).lstrip(".")
    kind, message = fault["type"], str(fault["msg"])
    if kind == "missing":
        return f"{place} is missing"
    if kind == "extra_forbidden":
        return f"{place} is no key that a suite has"
    if kind == "value_error":
        return f"{place} {message.removeprefix('Value error, ')}"
    return f"{place}: {message[:1].lower()}{message[1:]}, got {fault['input']!r:.80}"

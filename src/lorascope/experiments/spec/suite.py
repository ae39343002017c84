"""The tables of a suite."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from .keys import CLOSED_FORM, MEASURED, Facts, Measure, Method, ModelName, ScaleName, StartName, Task

if TYPE_CHECKING:
    from pydantic import ValidationInfo
else:  # a protocol that no value can be checked against, which the tests' checker of annotations refuses
    ValidationInfo = object

__all__ = ["Count", "Depths", "Pretrain", "Scale", "Suite"]

T = TypeVar("T")


def _distinct(values: list[T]) -> list[T]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"must not name anything twice, got {twice[0]!r} again")
    return values


def _at_most_width(rank: int, info: ValidationInfo) -> int:
    known = _known(info).width
    width = min(info.data.get("widths") or [known or rank])
    if rank > width:
        raise ValueError(f"must be a rank of at most the width {width}, got {rank}")
    return rank


def _fits_depths(layers: int, info: ValidationInfo) -> int:
    for frozen in _frozen_depths(info):
        if layers > frozen:
            raise ValueError(f"must be at most the frozen depth {frozen}, got {layers}")
    return layers


def _one_a_layer(ranks: list[int], info: ValidationInfo) -> list[int]:
    for frozen in _frozen_depths(info):
        if len(ranks) != frozen:
            raise ValueError(f"must have one rank for each of {frozen} frozen layers, got {len(ranks)}: {ranks}")
    return ranks


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Rank = Annotated[int, Field(ge=0), AfterValidator(_at_most_width)]
Layers = Annotated[int, Field(ge=0), AfterValidator(_fits_depths)]
Allocation = Annotated[list[Rank], AfterValidator(_one_a_layer)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Level = Annotated[float, Field(gt=0, le=1)]
Init = Literal["random", "pretrained"]
Precision = Literal["float32", "float64"]
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Some = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]


class _Table(BaseModel):
    """A TOML table: no keys but its own, no value turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Depths(_Table):
    """Layers of the two networks, or blocks of transformers, which have as many of them.

    Attributes:
        target, frozen: how many.
        model: where it is another than the suite's.
    """

    model: ModelName | None = None
    target: Count
    frozen: Count

    @field_validator("frozen")
    @classmethod
    def _no_shallower(cls, frozen: int, info: ValidationInfo) -> int:
        target = info.data.get("target")
        if target is not None and frozen < target:
            raise ValueError(f"must be at least the target's depth {target}, got {frozen}")
        model = info.data.get("model") or _known(info).model
        if target is not None and frozen > target and model == "transformer":
            raise ValueError(f"must be the target's depth {target} for transformers, got {frozen}")
        return frozen


class Pretrain(_Table):
    """How a pretrained frozen network came to be: Adam on all parameters until the loss is ``level`` of the first."""

    lr: Rate = 1e-3
    steps: Count = 1000
    level: Level = 1 / 3


class Scale(_Table):
    """How much of a suite is run; what a scale leaves out is as in the paper.

    Attributes:
        seeds: one pair of networks each.
        widths, depths, inits: in place of the suite's own.
        levels: of pretraining, in place of the suite's own.
        dtypes: of the networks.
        ranks: of all adapters alike.
        allocations: ranks layer by layer, for the gradient method.
        layers: how many of the last layers are tuned.
        lr, weight_decay: grid, of which the lowest held-out loss is taken, rank by rank and seed by seed.
        steps, batch, validate_every, dtype: of the gradient steps.
        test_inputs: fresh inputs that the error is measured on.
        profile: how much work goes into a refinement.
    """

    seeds: Some[Seed] = [0, 1, 2, 3, 4]
    widths: Distinct[Count] = []
    depths: Distinct[Depths] = []
    inits: Distinct[Init] = []
    levels: Distinct[Level] | None = None
    dtypes: Distinct[Precision] | None = None
    ranks: Distinct[Rank] = Field(default=[], validate_default=True)
    allocations: Distinct[Allocation] = Field(default=[], validate_default=True)
    layers: Distinct[Layers] = Field(default=[], validate_default=True)
    lr: Some[Rate] = [1e-2, 1e-3, 1e-4]
    weight_decay: Some[Decay] = [0.0, 1e-4, 1e-3, 1e-2]
    steps: Count = 5000
    batch: Count = 256
    validate_every: Annotated[int, Field(ge=0)] = 1
    dtype: Precision = "float32"
    test_inputs: Count = 5000
    profile: Literal["fast", "full"] = "full"

    @field_validator("allocations")
    @classmethod
    def _for_somebody(cls, allocations: list[list[int]], info: ValidationInfo) -> list[list[int]]:
        methods = _known(info).methods
        if methods and allocations and "gradient" not in methods:
            raise ValueError('are for the method "gradient", which the suite does not have')
        if _known(info).measure == "exactness":  # at the rank needed
            return allocations
        needing = [method for method in methods if method in CLOSED_FORM or (method == "gradient" and not allocations)]
        if needing and info.data.get("ranks") == []:
            raise ValueError(f"and ranks are empty, but {', '.join(needing)} cannot do without")
        return allocations


class Suite(_Table):
    """One experiment: which networks, adapted how.

    Attributes:
        name: of the suite, and in every row of its results.
        title: one line about it.
        model: of both networks, where ``depths`` say no other.
        measure: what cells measure of an adapted network: its error; the certificate and attacks on it; how exact it is
            at the rank needed; or its error beside the frozen network's own.
        width, activation, bias: of both networks.
        depths: pairs of networks.
        inits: what the frozen network is: random, or trained a little towards the target.
        methods: what adapts it.
        tune_bias: whether the gradient methods train biases; both to compare.
        heads, tokens: of transformers, and of their inputs.
        enough: mean squared error at which a rank counts as enough.
        tasks: what outputs are for: to be the target's, or to name its classes.
        shift: test inputs so many times as large are measured on too.
        train_inputs_per_layer: so many for every layer of the target, and no others, to train on.
        curve: whether the losses on the way are kept.
        starts: where adapters start: B zero, both factors random, or as constructed, with noise of ``start_noise``
            relative to their size.
        pretrain: of pretrained frozen networks.
        scales: scale -> how much of it.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    title: Annotated[str, Field(min_length=1)]
    model: ModelName = "fnn"
    measure: Measure = "error"
    width: Count
    activation: Literal["relu", "identity"]
    bias: bool
    depths: Some[Depths]
    inits: Some[Init]
    methods: Some[Method]
    tune_bias: Some[bool]
    heads: Count | None = None
    tokens: Count | None = None
    enough: Rate | None = None
    tasks: Some[Task] | None = None
    shift: Rate | None = None
    train_inputs_per_layer: Count | None = None
    curve: Literal[True] | None = None
    starts: Some[StartName] | None = None
    start_noise: Annotated[Decay | None, Field(validate_default=True)] = None
    pretrain: Pretrain = Pretrain()
    scales: Annotated[dict[ScaleName, Scale], Field(min_length=1)]

    @field_validator("activation")
    @classmethod
    def _transformers_have_relu(cls, activation: str, info: ValidationInfo) -> str:
        if activation != "relu" and "transformer" in _known(info).models:
            raise ValueError(f'must be "relu" for the model "transformer", got {activation!r}')
        return activation

    @field_validator("inits")
    @classmethod
    def _at_levels(cls, inits: list[Init], info: ValidationInfo) -> list[Init]:
        if info.data.get("measure") == "proximity" and inits != ["pretrained"]:
            raise ValueError(f'must be ["pretrained"] for the measure "proximity", got {inits}')
        return inits

    @field_validator("methods")
    @classmethod
    def _can_be_measured(cls, methods: list[Method], info: ValidationInfo) -> list[Method]:
        measure = info.data.get("measure", "error")
        wrong = [method for method in methods if method not in MEASURED[measure]]
        if wrong:
            some = ", ".join(MEASURED[measure])
            raise ValueError(f'must be among {some} for the measure "{measure}", got {", ".join(wrong)}')
        return methods

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

    @field_validator("tasks")
    @classmethod
    def _halves(cls, tasks: list[Task] | None, info: ValidationInfo) -> list[Task] | None:
        width = info.data.get("width")
        if tasks and "binary" in tasks and isinstance(width, int) and width % 2:
            raise ValueError(f'must not name "binary", which compares two halves, for an odd width, got width {width}')
        return tasks

    @field_validator("curve")
    @classmethod
    def _of_the_error(cls, curve: Literal[True] | None, info: ValidationInfo) -> Literal[True] | None:
        others = [task for task in info.data.get("tasks") or [] if task != "regression"]
        if curve and others:
            raise ValueError(f'is of the mean squared error, for the task "regression", got {", ".join(others)}')
        return curve

    @field_validator("starts")
    @classmethod
    def _with_biases(cls, starts: list[StartName] | None, info: ValidationInfo) -> list[StartName] | None:
        if starts and "constructed" in starts and False in info.data.get("tune_bias", []):
            raise ValueError('must not name "constructed" where biases are not tuned, got false in tune_bias')
        return starts

    @field_validator("start_noise")
    @classmethod
    def _of_constructed(cls, noise: float | None, info: ValidationInfo) -> float | None:
        named = "constructed" in (info.data.get("starts") or [])
        if named != (noise is not None):
            raise ValueError(f'must be given if and only if "constructed" is among the starts, got {noise}')
        return noise

    @field_validator("scales")
    @classmethod
    def _looked_at(cls, scales: dict[ScaleName, Scale], info: ValidationInfo) -> dict[ScaleName, Scale]:
        blind = [name for name, scale in scales.items() if scale.validate_every == 0]
        if info.data.get("curve") and blind:
            raise ValueError(f"must have validate_every of at least 1 for a curve, got 0 in {', '.join(blind)}")
        return scales


def _frozen_depths(info: ValidationInfo) -> list[int]:
    own = cast("list[Depths]", info.data.get("depths") or [])
    return [one.frozen for one in own] or [frozen for _, frozen in _known(info).depths]


def _known(info: ValidationInfo) -> Facts:
    return cast("dict[str, Facts]", info.context or {}).get("facts", Facts())

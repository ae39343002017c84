"""Which kind of suite may say which key, and whose cells say it: the one table of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

__all__ = [
    "CLOSED_FORM",
    "MEASURED",
    "SCALE_KEYS",
    "SUITE_KEYS",
    "TRAINED",
    "Facts",
    "Key",
    "Measure",
    "Method",
    "ModelName",
    "ScaleName",
    "StartName",
    "Task",
    "misplaced",
]

ModelName = Literal["fnn", "transformer"]
Method = Literal["gradient", "last-layers", "full", "biases", "paper", "stable", "refined"]
Measure = Literal["error", "exactness", "certificate", "proximity"]
Task = Literal["regression", "classification", "binary"]
StartName = Literal["zero", "random", "constructed"]
ScaleName = Literal["smoke", "medium", "paper"]

MODELS: tuple[ModelName, ...] = get_args(ModelName)
METHODS: tuple[Method, ...] = get_args(Method)
MEASURES: tuple[Measure, ...] = get_args(Measure)
CLOSED_FORM: tuple[Method, ...] = ("paper", "stable", "refined")
TRAINED: tuple[Method, ...] = ("gradient", "last-layers", "full", "biases")
# Methods that have what is measured.
MEASURED: Mapping[Measure, tuple[Method, ...]] = {
    "error": METHODS,
    "exactness": ("paper", "stable"),
    "certificate": ("gradient", "paper", "stable", "refined"),
    "proximity": ("gradient", "paper", "stable", "refined"),
}


@dataclass(frozen=True)
class Key:
    """A key that only some suites may say.

    It is for suites with one of these models, of these methods and with this measure; cells of other methods and models
    in such a suite do not say it. A key that a suite leaves out is in none of its cells, so that their names stay what
    they are when keys are added.

    Attributes:
        models, methods, measures: kinds of suite and of cell.
        needed: suites that may say it must.
        cell: its name in a cell's spec; default its own.
        each: the suite has a list of values, a cell one of them.
    """

    models: tuple[ModelName, ...] = MODELS
    methods: tuple[Method, ...] = METHODS
    measures: tuple[Measure, ...] = MEASURES
    needed: bool = False
    cell: str = ""
    each: bool = False

    def serves(self, model: str, method: str, measure: str) -> bool:
        return model in self.models and method in self.methods and measure in self.measures


SUITE_KEYS: Mapping[str, Key] = {
    "heads": Key(models=("transformer",), needed=True),
    "tokens": Key(models=("transformer",), needed=True),
    "enough": Key(measures=("proximity",), needed=True),
    "tasks": Key(measures=("error",), cell="task", each=True),
    "shift": Key(measures=("error",)),
    "train_inputs_per_layer": Key(models=("fnn",), methods=("gradient",), measures=("error",)),
    "curve": Key(methods=("gradient",), measures=("error",)),
    "starts": Key(models=("fnn",), methods=("gradient",), measures=("error",), cell="start", each=True),
    "start_noise": Key(models=("fnn",), methods=("gradient",), measures=("error",)),
}
SCALE_KEYS: Mapping[str, Key] = {
    "ranks": Key(measures=("error", "certificate", "proximity")),
    "levels": Key(measures=("proximity",), needed=True),
    "dtypes": Key(measures=("exactness",), needed=True, cell="dtype", each=True),
    "layers": Key(methods=("last-layers",), needed=True, each=True),
}


@dataclass(frozen=True)
class Facts:
    """What a suite's content says of its kind, where it says it rightly.

    Attributes:
        model: of networks that name none; None where it says nothing usable.
        models, methods: all it has; none likewise.
        measure: which; None likewise.
        width: least of the networks; None likewise.
        depths: (target, frozen) of every pair.
    """

    model: str | None = None
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    measure: str | None = None
    width: int | None = None
    depths: tuple[tuple[int, int], ...] = ()


def misplaced(content: Mapping[str, object], facts: Facts) -> Iterator[str]:
    """Keys that a suite of this kind cannot have, and those that it lacks, in words.

    Args:
        content: of a TOML file.
        facts: read from it.
    """
    yield from _misplaced(content, SUITE_KEYS, facts, "")
    scales = content.get("scales")
    for name, scale in cast("Mapping[str, object]", scales if isinstance(scales, Mapping) else {}).items():
        if isinstance(scale, Mapping) and name in get_args(ScaleName):
            yield from _misplaced(cast("Mapping[str, object]", scale), SCALE_KEYS, facts, f"scales.{name}.")


def _misplaced(said: Mapping[str, object], keys: Mapping[str, Key], facts: Facts, place: str) -> Iterator[str]:
    for name, key in keys.items():
        kinds = (
            ("model", key.models, facts.models),
            ("method", key.methods, facts.methods),
            ("measure", key.measures, () if facts.measure is None else (facts.measure,)),
        )
        # where the suite's own kind is at fault, nothing is said of what depends on it
        known = [(what, some, has) for what, some, has in kinds if has]
        missed = [(what, some) for what, some, has in known if not set(some) & set(has)]
        if missed and said.get(name, []) != []:
            yield f"{place}{name} is for {_those(*missed[0])}, which the suite does not have"
        if key.needed and len(known) == len(kinds) and not missed and said.get(name, []) == []:
            narrow = next(((what, some) for what, some, _ in kinds if _is_narrow(some)), None)
            yield f"{place}{name} is missing" + ("" if narrow is None else f", which {_those(*narrow)} needs")


def _is_narrow(some: tuple[str, ...]) -> bool:
    return some not in (MODELS, METHODS, MEASURES)


def _those(what: str, some: tuple[str, ...]) -> str:
    quoted = [f'"{one}"' for one in some]
    return f"the {what} {' or '.join(quoted)}"

"""The suite that a TOML file describes, or everything that is wrong with it at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from ...errors import SpecError
from .keys import Facts, Measure, Method, ModelName, misplaced
from .suite import Count, Depths, Suite
from .tasks import TASK_MEASURE, TaskSuite

__all__ = ["parse_any", "parse_suite"]

T = TypeVar("T")
_MODEL = TypeAdapter[ModelName](ModelName).validate_python
_MEASURE = TypeAdapter[Measure](Measure).validate_python
_METHODS = TypeAdapter(list[Method]).validate_python
_DEPTHS = TypeAdapter(list[Depths]).validate_python
_WIDTH = TypeAdapter[int](Count).validate_python


def parse_any(content: Mapping[str, object], where: str) -> Suite | TaskSuite:
    """The suite that a TOML file's content describes, of networks or of tasks.

    Args:
        content, where: as :func:`parse_suite` has them.

    Raises:
        SpecError: as there.
    """
    return _tasks(content, where) if content.get("measure") == TASK_MEASURE else parse_suite(content, where)


def _tasks(content: Mapping[str, object], where: str) -> TaskSuite:
    try:
        return TaskSuite.model_validate(dict(content))
    except ValidationError as error:
        raise _wrong(where, [_worded(dict(fault)) for fault in error.errors()]) from None


def _wrong(where: str, faults: Sequence[str]) -> SpecError:
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return SpecError(f"{where} must describe a suite, got {count}: {'; '.join(faults)}; mend these")


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
    facts = _facts(content)
    faults: list[str] = []
    suite: Suite | None = None
    try:
        suite = Suite.model_validate(dict(content), context={"facts": facts})
    except ValidationError as error:
        faults = [_worded(dict(fault)) for fault in error.errors()]
    faults += misplaced(content, facts)
    if suite is not None and not faults:
        return suite
    raise _wrong(where, faults)


def _facts(content: Mapping[str, object]) -> Facts:
    """What the rest is checked against, where it is right itself."""
    model: str | None = _right(_MODEL, content.get("model", "fnn"))
    depths = _right(_DEPTHS, content.get("depths")) or []
    models = [one.model or model for one in depths] or [model]
    return Facts(
        model=model,
        models=tuple(dict.fromkeys(one for one in models if one is not None)),
        methods=tuple(_right(_METHODS, content.get("methods")) or ()),
        measure=_right(_MEASURE, content.get("measure", "error")),
        width=_right(_WIDTH, content.get("width")),
        depths=tuple((one.target, one.frozen) for one in depths),
    )


def _right(validate: Callable[..., T], value: object) -> T | None:
    """The value where it is of that kind, None where it is not."""
    try:
        return validate(value, strict=True)
    except ValidationError:
        return None


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

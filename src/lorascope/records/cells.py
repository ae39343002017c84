"""A cell's name and seed, from what it is to compute."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping

from ..errors import SpecError

__all__ = ["canonical_json", "cell_name", "cell_seed"]

SEED_BITS = 53  # JSON readers, browsers among them, keep integers exact up to there


def canonical_json(spec: Mapping[str, object]) -> str:
    """The spec as JSON with sorted keys and no spaces: equal specs, equal text.

    A tuple is a list, as JSON has it; 1, 1.0 and true are three different values.

    Args:
        spec: None, booleans, integers, finite floats, strings, and lists and string-keyed mappings of these.

    Raises:
        SpecError: anything else in it; all of it is named.

    >>> canonical_json({"width": 8, "ranks": (1, 2)})
    '{"ranks":[1,2],"width":8}'
    """
    faults = list(_faults(spec, "spec"))
    if faults:
        raise SpecError(
            "a spec must be what JSON can say (None, booleans, integers, finite floats, strings, lists, mappings with "
            f"string keys), got {'; '.join(faults)}; convert these first"
        )
    return json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def cell_name(spec: Mapping[str, object]) -> str:
    """Sixteen hexadecimal digits of the canonical JSON's SHA-256: the same on every machine, whatever the key order.

    Raises:
        SpecError: the spec holds what JSON cannot say.

    >>> cell_name({"width": 8, "rank": 2}), cell_name({"rank": 2, "width": 8})
    ('73c1155e16b760d5', '73c1155e16b760d5')
    """
    return _digest("cell", spec).hex()[:16]


def cell_seed(spec: Mapping[str, object]) -> int:
    """A seed between 0 and 2^53 - 1 that depends on the spec alone, not on order, batch or worker.

    Raises:
        SpecError: the spec holds what JSON cannot say.

    >>> cell_seed({"width": 8, "rank": 2}) == cell_seed({"rank": 2, "width": 8})
    True
    """
    return int.from_bytes(_digest("seed", spec)[:8], "big") >> (64 - SEED_BITS)


def _digest(purpose: str, spec: Mapping[str, object]) -> bytes:
    return hashlib.sha256(f"{purpose}:{canonical_json(spec)}".encode()).digest()


def _faults(value: object, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            # json would turn 1 into "1", and two specs into one
            if not isinstance(key, str):
                yield f"the key {key!r} in {where}"
            yield from _faults(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _faults(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where} = {value!r}"
    elif type(value) not in (bool, float, int, str, type(None)):
        # subclasses too: an enum's member or a numpy float may print as something else elsewhere
        yield f"{where} = {value!r} ({type(value).__name__})"


def _plain(value: object) -> object:
    """json knows dict and no other mapping."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

"""Rows to write."""

import math

from hypothesis import strategies as st

from lorascope.records import SCHEMA, Provenance, canonical_json, cell_name, cell_seed
from lorascope.records.schema import KEY

ORIGIN = Provenance("0.1.0", None, "cpu")


def row(suite="suite", of=None, **changes):
    """A row of the cell of a spec that fits, with some columns changed."""
    spec = {"width": 8} if of is None else of
    fitting = {
        "suite": suite, "cell": cell_name(spec), "seed": cell_seed(spec), "method": "stable", "rank": 2,
        "metric": "error", "value": 0.5, "status": "ok", "message": "", "seconds": 1.5, "version": "0.1.0",
        "commit": None, "device": "cpu", "spec": canonical_json(spec),
    }  # fmt: skip
    assert list(fitting) == list(SCHEMA)
    return fitting | changes


def key(one):
    return tuple(one[name] for name in KEY)


def same(left, right):
    """Equal rows, where NaN equals NaN and 0.0 is not -0.0."""
    return [_comparable(one) for one in left] == [_comparable(one) for one in right]


def _comparable(one):
    # repr tells every float from every other, but for the NaNs' payloads
    return {name: repr(value) if isinstance(value, float) else value for name, value in one.items()}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
integers = st.integers(0, 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
specs = st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@st.composite
def rows(draw):
    failed = draw(st.booleans())
    return row(
        draw(st.sampled_from(["one", "two"])),
        draw(st.sampled_from([{"width": 1}, {"width": 2}, {"width": 3}])),
        seed=draw(integers),
        method=draw(text.filter(bool)),
        rank=draw(st.none() | integers),
        metric=draw(st.none() if failed else text.filter(bool)),
        value=None if failed else draw(st.floats()),
        status="failed" if failed else "ok",
        message=draw(text.filter(str.strip) if failed else text),
        seconds=draw(st.floats(0, math.inf, exclude_max=True)),
        version=draw(text),
        commit=draw(st.none() | text),
        device=draw(text),
        spec=canonical_json(draw(specs)),
    )


tables = st.lists(rows(), min_size=1, max_size=6, unique_by=key)

"""A cell's name and seed are its spec's alone."""

import json
import math
import subprocess
import sys
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import SpecError
from lorascope.records import canonical_json, cell_name, cell_seed
from records.samples import specs

SPEC = {"width": 8, "ranks": [1, 2], "inner": {"b": 0.1, "a": None}, "wide": False, "text": "ü"}


def backwards(value):
    """The same value, every mapping's keys in the other order."""
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=50)
@given(specs)
def test_key_order_does_not_matter(spec):
    assert cell_name(backwards(spec)) == cell_name(spec)
    assert cell_seed(backwards(spec)) == cell_seed(spec)


@settings(max_examples=50)
@given(specs)
def test_the_recorded_spec_gives_the_cell_again(spec):
    assert cell_name(json.loads(canonical_json(spec))) == cell_name(spec)


@given(specs, specs)
def test_other_specs_other_names(left, right):
    same = canonical_json(left) == canonical_json(right)
    assert (cell_name(left) == cell_name(right)) == same
    assert (cell_seed(left) == cell_seed(right)) == same


def test_names_and_seeds_are_these_on_every_machine_and_for_ever():
    assert canonical_json(SPEC) == (
        '{"inner":{"a":null,"b":0.1},"ranks":[1,2],"text":"\\u00fc","wide":false,"width":8}'
    )
    assert (cell_name(SPEC), cell_seed(SPEC)) == ("9ae7d6896a6a7c5f", 6715072137726967)


def test_another_process_with_other_hashes_agrees():
    code = f"from lorascope.records import *; print(cell_name({SPEC!r}), cell_seed({SPEC!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [cell_name(SPEC), str(cell_seed(SPEC))]


@pytest.mark.parametrize("other", [1.0, True, "1", [1], {"1": None}, None])
def test_values_that_python_takes_for_equal_or_alike_are_apart(other):
    assert cell_name({"x": other}) != cell_name({"x": 1})


def test_tuples_are_lists_and_mappings_are_mappings():
    assert cell_name(MappingProxyType({"x": (1, MappingProxyType({"y": 2}))})) == cell_name({"x": [1, {"y": 2}]})


def test_seeds_fit_every_generator_that_takes_53_bits():
    seeds = [cell_seed({"number": number}) for number in range(2000)]
    assert len(set(seeds)) == 2000
    assert all(0 <= seed < 2**53 for seed in seeds)
    # uniform: the mean of 2000 is within five of its standard deviations
    assert abs(np.mean(seeds) / 2**53 - 0.5) < 5 / math.sqrt(12 * 2000)


@pytest.mark.usefixtures("unchecked_annotations")
def test_all_that_json_cannot_say_is_named():
    with pytest.raises(SpecError) as caught:
        canonical_json({"a": math.nan, "b": [1, {2}], "c": {3: np.float64(1)}})
    assert str(caught.value) == (
        "a spec must be what JSON can say (None, booleans, integers, finite floats, strings, lists, mappings with "
        "string keys), got spec.a = nan; spec.b[1] = {2} (set); the key 3 in spec.c; spec.c.3 = np.float64(1.0) "
        "(float64); convert these first"
    )


@given(st.sampled_from([math.inf, -math.inf, math.nan, b"x", 1j, np.int64(1), object()]))
def test_nothing_else_gets_a_name(value):
    with pytest.raises(SpecError, match="a spec must be what JSON can say"):
        cell_name({"x": [value]})

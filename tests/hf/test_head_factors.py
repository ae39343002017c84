"""Values and outputs fitted together inside an extraction: only where a budget cuts, and where it is worth it."""

import pytest
import torch
from safetensors.torch import load_file

from hf import tiny
from lorascope.hf import extract, head_factors
from lorascope.hf.attention import attentions
from lorascope.hf.pairs import open_models
from lorascope.hf.products import product_error, products_of
from lorascope.models import Adapter

pytestmark = pytest.mark.hf


def errors(base, tuned, folder):
    """Of each attention's products, from the written file."""
    models = open_models(base, tuned)
    kept = load_file(folder / "adapter_model.safetensors")
    found = []
    for attention in attentions(models.model, models.pairs):
        pair = [
            Adapter(*(kept[f"base_model.model.{part.pair.module}.lora_{side}.weight"].double() for side in "AB"))
            for part in (attention.value, attention.out)
        ]
        found.append(product_error(products_of(attention), *pair)[0])
    return torch.tensor(found)


@pytest.mark.parametrize("case", ["llama", "bert", "t5"])
def test_products_are_nearer_than_those_of_plain_truncations(case, tmp_path, monkeypatch):
    base, tuned = tiny.pair(case, tmp_path, size=1.0)
    monkeypatch.setattr(head_factors, "WORTH", 1.0)
    extract(base, tuned, tmp_path / "fitted", rank=4)
    monkeypatch.setattr(head_factors, "WORTH", 0.0)
    extract(base, tuned, tmp_path / "plain", rank=4)
    fitted, plain = (errors(base, tuned, tmp_path / name) for name in ("fitted", "plain"))
    assert bool((fitted <= plain * (1 + 1e-6)).all())
    assert float(fitted.norm()) < 0.98 * float(plain.norm())


def test_what_is_worth_little_is_left(tmp_path, monkeypatch):
    base, tuned = tiny.pair("llama", tmp_path)
    monkeypatch.setattr(head_factors, "WORTH", 0.2)
    extract(base, tuned, tmp_path / "out", rank=4)
    monkeypatch.setattr("lorascope.hf.stages.fit_heads", lambda _models, _pairs, found, *_: found)
    extract(base, tuned, tmp_path / "plain", rank=4)
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_where_nothing_was_cut_nothing_is_fitted(tmp_path, monkeypatch):
    base, tuned = tiny.pair("llama", tmp_path, rank=2)

    def never(*_given, **_named):
        raise AssertionError

    monkeypatch.setattr(head_factors, "refine_products", never)
    extract(base, tuned, tmp_path / "out", rank=16, modules="layers")  # of 16 rows at least
    extract(base, tuned, tmp_path / "bound", max_error=0.5, modules="layers")
    extract(base, tuned, tmp_path / "part", rank=1, modules="v_proj")  # no outputs beside them
    with pytest.raises(AssertionError):
        extract(base, tuned, tmp_path / "cut", rank=1, modules="layers")

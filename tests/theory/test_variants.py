"""Ranks that transformers of every form need: formulas for generic weights, and what related weights save."""

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope.errors import ShapeError
from lorascope.models import TransformerNetwork, weight_names
from lorascope.theory import plan_variant
from lorascope.theory.streams import align
from reference.cases import seeds
from reference.variants import FORMS, pair, seeded

forms = pytest.mark.parametrize("form", FORMS)


def expected(width, form, depth):
    """For generic weights: rank of (query, key), of (value, out), ffn_in and ffn_out of a block, and of the output."""
    inner, hidden = form.get("head_dim", width), form.get("ffn_dim", width)
    norm, stream = form.get("norm"), form.get("norm") or form.get("residual")
    seen = width - 1 if norm == "pre" or (norm == "post" and depth > 0) else width
    least = lambda size: min(inner, -(-size // 2))  # noqa: E731
    if stream:
        shifts_free = form.get("attention_bias") or norm != "pre"
        assert shifts_free or seen == width - 1
        sent = width - 1 if norm else width
        gap = min(sent, seen)  # of values: what is sent on, of what comes in
        scores = min(inner, -(-seen // 2))
        return scores, least(gap), min(seen if norm != "post" else sent, hidden), min(sent, hidden), sent
    return None


@settings(max_examples=60)
@given(seeds, st.integers(2, 7), st.integers(1, 2), st.sampled_from(sorted(FORMS)))
def test_streams_need_half_the_seen_width_for_attention_and_all_of_it_elsewhere(seed, width, heads, name):
    form = {key: min(value, width) if key == "head_dim" else value for key, value in FORMS[name].items()}
    if not (form.get("norm") or form.get("residual")):
        return
    frozen, target = pair(seed, width, heads, 2, **form)
    need = ls.rank_needed(frozen, target)
    for depth in (0, 1):
        scores, values, first, second, last = expected(width, form, depth)
        ranks = {
            key.split(".", 2)[2]: rank for key, rank in need.per_parameter.items() if key.startswith(f"blocks.{depth}")
        }
        assert max(ranks["query"], ranks["key"]) == scores
        assert max(ranks["value"], ranks["out"]) == values
        assert ranks["ffn_in.weight"] == first
        assert ranks["ffn_out.weight"] == second
    assert need.per_parameter["output.weight"] == last
    assert need.uniform == max(need.per_parameter.values())
    assert need.paper_uniform is None
    assert need.partition is None
    assert len(need.per_layer) == 3
    assert max(need.per_layer) == need.uniform


def test_an_embedding_of_seven_behind_a_norm_needs_three():
    frozen, target = pair(0, 7, 2, 1, residual=True, norm="pre", attention_bias=True)
    need = ls.rank_needed(frozen, target)
    assert {need.per_parameter[f"blocks.0.{name}"] for name in ("query", "key", "value", "out")} == {3}
    bare, goal = pair(0, 7, 2, 1, residual=True)
    assert ls.rank_needed(bare, goal).per_parameter["blocks.0.query"] == 4


@settings(max_examples=40)
@given(seeds, st.integers(2, 6), st.integers(1, 14))
def test_coupled_tokens_need_half_the_width_or_what_the_hidden_layer_exceeds_it_by(seed, width, hidden):
    frozen, target = pair(seed, width, 1, 2, ffn_dim=hidden, attention_bias=True)
    need = ls.rank_needed(frozen, target)
    more = min(width, max(hidden - width, 0))
    ranks = need.per_parameter
    if hidden >= width:
        assert need.uniform == max(-(-width // 2), more)
        if more <= width // 2:
            assert ranks["blocks.0.ffn_in.weight"] == ranks["blocks.0.ffn_out.weight"] == more
    else:
        assert need.uniform <= -(-width // 2)


@settings(max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(1, 14))
def test_aligning_leaves_the_least_rank(seed, width, hidden):
    generator = seeded(seed)
    source, goal = (torch.randn(width, hidden, generator=generator, dtype=torch.float64) for _ in range(2))
    turn = align(source, goal)
    left = torch.linalg.matrix_rank(turn @ source - goal, atol=1e-7 * float(goal.norm() + (turn @ source).norm()))
    assert int(left) == min(width, max(hidden - width, 0))
    assert torch.equal(align(source, source), torch.eye(width, dtype=torch.float64))


def test_aligning_gives_up_on_singular_sources():
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.equal(align(torch.zeros(3, 3, dtype=torch.float64), eye), eye)
    flat = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.equal(align(eye, flat), eye)


@forms
def test_a_copy_needs_nothing_and_one_changed_matrix_needs_its_rank(form):
    frozen, _ = pair(3, 6, 2, 2, **FORMS[form])
    need = ls.rank_needed(frozen, frozen)
    assert need.uniform == 0
    assert not any(need.per_parameter.values())
    assert all(gap.rank == 0 for gap in need.gaps)
    for name in ("blocks.1.query", "blocks.0.ffn_out.weight", "output.weight"):
        target = copy.deepcopy(frozen)
        with torch.no_grad():
            weight = dict(target.named_parameters())[name]
            down, across = (torch.arange(1.0, 1 + size, dtype=torch.float64) for size in weight.shape[-2:])
            weight += torch.outer(down, across.sin())
        need = ls.rank_needed(frozen, target)
        assert need.uniform == 1, name
        assert sum(need.per_parameter.values()) <= 2, name


@forms
def test_biases_and_shifts_are_free_but_for_the_weights_they_move(form):
    frozen, other = pair(4, 5, 2, 2, **FORMS[form] | ({"head_dim": 3} if "head_dim" in FORMS[form] else {}))
    target = copy.deepcopy(frozen)
    target.load_state_dict(
        {
            k: (other.state_dict()[k] if k.endswith("bias") and "norm" not in k else v)
            for k, v in frozen.state_dict().items()
        }
    )
    assert ls.rank_needed(frozen, target).uniform == 0


@forms
def test_permuting_heads_and_hidden_units_of_both_changes_nothing(form):
    frozen, target = pair(5, 5, 3, 1, **FORMS[form] | ({"head_dim": 3} if "head_dim" in FORMS[form] else {}))
    before = ls.rank_needed(frozen, target)
    order = torch.randperm(frozen.ffn_dim, generator=seeded())
    with torch.no_grad():
        for model in (frozen, target):
            for name, parameter in model.named_parameters():
                if name.endswith(("query", "key", "value", "out", "query_bias", "key_bias", "value_bias")):
                    parameter.copy_(parameter[[2, 0, 1]].clone())
            block = model.layers[0]
            for parameter in (block.ffn_in.weight, block.ffn_in.bias):
                parameter.copy_(parameter[order].clone())
            block.ffn_out.weight.copy_(block.ffn_out.weight[:, order].clone())
    after = ls.rank_needed(frozen, target)
    assert after.per_parameter == before.per_parameter
    assert sorted(g.rank for g in after.gaps) == sorted(g.rank for g in before.gaps)


def test_fewer_and_narrower_heads_and_fewer_hidden_units():
    frozen, _ = pair(6, 6, 3, 1, residual=True, head_dim=4, ffn_dim=9)
    _, target = pair(7, 6, 2, 1, residual=True, head_dim=2, ffn_dim=5)
    need = ls.rank_needed(frozen, target)
    groups = {gap.group: gap.rank for gap in need.gaps}
    assert ("blocks.0.query[2]", "blocks.0.key[2]") not in groups
    assert groups["blocks.0.value[2]", "blocks.0.out[2]"] == 4
    assert need.per_parameter["blocks.0.query"] == 3
    assert need.per_parameter["blocks.0.ffn_in.weight"] == 5


def test_names_of_weights_leave_biases_out():
    frozen, _ = pair(0, 3, 2, 1, **FORMS["usual pre"] | {"ffn_dim": 4})
    names = weight_names(frozen)
    assert names == [f"blocks.0.{n}" for n in ("query", "key", "value", "out", "ffn_in.weight", "ffn_out.weight")] + [
        "output.weight"
    ]
    assert list(ls.rank_needed(frozen, frozen).per_parameter) == names


WRONG = {
    "skips": ({"residual": True}, {}, "share residual, got True and False"),
    "norms": ({"norm": "pre"}, {"norm": "post"}, "share norm_place, got 'pre' and 'post'"),
    "wider heads": ({"head_dim": 2}, {"head_dim": 3}, "head_dim of at most the frozen model's 2, got 3"),
    "more hidden": (
        {"residual": True},
        {"residual": True, "ffn_dim": 9},
        "ffn_dim of at most the frozen model's 3, got 9",
    ),
    "biases": ({"residual": True}, {"residual": True, "attention_bias": True}, "build it with attention_bias=True"),
}


@pytest.mark.parametrize("case", WRONG)
def test_forms_that_do_not_fit_are_refused(case):
    one, other, words = WRONG[case]
    frozen, target = (TransformerNetwork(3, 1, 1, generator=seeded(), **form) for form in (one, other))
    with pytest.raises(ShapeError, match=re.escape(words)):
        ls.rank_needed(frozen, target)


def test_a_narrower_target_is_for_the_papers_form():
    frozen, target = (TransformerNetwork(width, 1, 1, generator=seeded(), residual=True) for width in (4, 3))
    with pytest.raises(ShapeError, match=r"embed_dim must be 4, got 3"):
        ls.rank_needed(frozen, target)


def test_width_one_has_nothing_behind_a_norm():
    for norm in ("pre", "post"):
        frozen, target = pair(1, 1, 1, 2, residual=True, norm=norm)
        plan = plan_variant(frozen, target)
        assert {match.names[0] for match in plan.matches} <= {"blocks.0.query", "output.weight"}
        assert ls.rank_needed(frozen, target).uniform <= 1

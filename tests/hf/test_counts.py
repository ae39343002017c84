"""What is printed of an adapter's size is that of its file, and a budget of entries holds for the file."""

import json

import pytest
import torch
from safetensors.torch import load_file

from hf import tiny
from hf.architectures import SETTINGS, SIZES, build, check, keys, saved
from lorascope.errors import SpecError
from lorascope.hf import extract

pytestmark = pytest.mark.hf

EXPERTS = {
    "Mixtral": {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4, "pad_token_id": 2},
    "Qwen2Moe": {**SIZES, "num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 2,
                 "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1},
    "GptOss": {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 2,
               "head_dim": 8, "eos_token_id": 1},
    "DeepseekV3": SETTINGS["DeepseekV3"],
}  # fmt: skip


def file_of(folder):
    tensors = load_file(folder / "out" / "adapter_model.safetensors")
    factors = sum(value.numel() for key, value in tensors.items() if ".lora_" in key)
    return factors, sum(value.numel() for value in tensors.values()) - factors, sum(
        value.numel() * value.element_size() for value in tensors.values()
    )  # fmt: skip


def counted(folder, *arguments, **options):
    """Extract, and compare what is told, wet and dry, with the file."""
    planned = extract(*arguments, folder / "out", dry_run=True, **options)
    found = extract(*arguments, folder / "out", **options)
    factors, whole, size = file_of(folder)
    assert (planned.parameters, planned.whole, planned.bytes) == (factors, whole, size)
    assert (found.parameters, found.whole) == (factors, whole)
    assert found.bytes >= size
    return found


@pytest.mark.parametrize("family", EXPERTS)
def test_stacked_experts_keep_their_own_ranks(family, tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, family, EXPERTS[family])
    base, tuned = build(family, "ForCausalLM"), build(family, "ForCausalLM")
    generator, wanted = torch.Generator().manual_seed(1), {}
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.dim() == 3:
                wanted[name] = rank = 2 + len(wanted)
                left = torch.randn(*parameter.shape[:2], rank, generator=generator)
                change = left @ torch.randn(parameter.shape[0], rank, parameter.shape[2], generator=generator)
                parameter.add_(change * (0.3 * parameter.norm() / change.norm()))
            elif "up_proj.weight" in name or "q_proj.weight" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
    found = check(tmp_path, base, tuned)
    assert len(wanted) >= 2
    ranks = {row.name: row.rank for row in found.rows if row.kind == "expert"}
    assert ranks == pytest.approx(wanted, abs=1)  # a little rounding may stand out
    assert len(set(ranks.values())) > 1
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] > max(ranks.values())
    assert {name: config["rank_pattern"][name.replace(".", r"\.")] for name in ranks} == ranks
    assert found.parameters == file_of(tmp_path)[0]


def weighed(folder, case):
    base, tuned = tiny.pair(case, folder)
    tiny.tokenizer(base)
    tiny.tokenizer(tuned)
    return base, tuned, tiny.texts(folder / "texts.txt", 24)


@pytest.mark.parametrize("case", ["mixtral", "llama-tied", "gpt2", "bert"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_number_of_entries_is_kept(case, weighted, tmp_path):
    base, tuned, texts = weighed(tmp_path, case)
    options = {"calibration": texts} if weighted else {}
    found = counted(tmp_path, base, tuned, parameters=15000, **options)
    assert 10000 < found.parameters <= 15000
    with pytest.raises(SpecError, match=r"at least [\d,]+ \(rank 1") as caught:
        extract(base, tuned, tmp_path / "other", parameters=100, **options)
    least = int(str(caught.value).split("at least ")[1].split()[0].replace(",", ""))
    assert extract(base, tuned, tmp_path / "other", parameters=least, dry_run=True, **options).parameters <= least


def test_a_weight_of_three_names(tmp_path):
    base, tuned = tiny.pair("t5", tmp_path)
    assert counted(tmp_path, base, tuned, rank=3, dtype="bfloat16").parameters % 3 == 0
    assert len({key for key in keys(tmp_path) if "lora_embedding_A" in key or "lm_head.lora_A" in key}) > 2


def test_a_vocabulary_carried_whole_under_two_names(tmp_path):
    tuned = build("Bert", "ForMaskedLM")
    with torch.random.fork_rng():
        tuned.resize_token_embeddings(108)
    folders = saved(tmp_path, build("Bert", "ForMaskedLM"), tiny.tune(tuned))
    assert counted(tmp_path, *folders, rank=4, dtype="bfloat16").whole > 2 * 108 * 32


def test_factors_that_only_carry_a_bias_count(tmp_path):
    base = tiny.save(tiny.make("llama"), tmp_path / "base")
    changed = lambda name: "q_proj.bias" in name or "v_proj.weight" in name  # noqa: E731
    tuned = tiny.save(tiny.tune(tiny.make("llama"), only=changed), tmp_path / "tuned")
    least = 2 * (32 + 32) + 2 * (32 + 16)
    assert counted(tmp_path, base, tuned, parameters=least + 95).parameters == least
    with pytest.raises(SpecError, match=f"at least {least}"):
        extract(base, tuned, tmp_path / "other", parameters=least - 1)

"""Small random models of many families, and how an adapter of one is made, loaded and compared."""

import json

import torch
import transformers
from safetensors.torch import load_file

from hf import tiny
from lorascope.hf import extract, verify
from lorascope.hf.cotangents import output_of
from lorascope.hf.functional import quiet, random_inputs

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": 100, "max_position_embeddings": 64}  # fmt: skip
DISTIL = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 100, "max_position_embeddings": 64}
LAYERS = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
          "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 100,
          "max_position_embeddings": 64}  # fmt: skip
RELATIVE = {"pos_att_type": ["p2c", "c2p"], "relative_attention": True}
SETTINGS = {
    "Roberta": {**SIZES, "pad_token_id": 1}, "XLMRoberta": {**SIZES, "pad_token_id": 1}, "Bert": SIZES,
    "Electra": {**SIZES, "embedding_size": 16}, "DistilBert": DISTIL, "Albert": {**SIZES, "embedding_size": 16},
    "DebertaV2": {**SIZES, **RELATIVE}, "Deberta": {**SIZES, **RELATIVE}, "Bart": LAYERS,
    "OPT": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
            "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    "Gemma3": {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0},
    "Llama": {**SIZES, "num_key_value_heads": 2},
    "ViT": {key: value for key, value in SIZES.items() if key not in {"vocab_size", "max_position_embeddings"}}
           | {"image_size": 16, "patch_size": 8},
    "DeepseekV3": {**SIZES, "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
                   "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
                   "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4},
    "Phimoe": {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4},
    "Marian": {**LAYERS, "pad_token_id": 2, "decoder_start_token_id": 2},
    "Whisper": {**LAYERS, "max_source_positions": 32, "max_target_positions": 32, "num_mel_bins": 8, "pad_token_id": 2,
                "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    "Swin": {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
             "window_size": 4},
    "XLNet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "vocab_size": 100},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 100, "state_size": 4},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}  # fmt: skip
CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def build(family, task, seed=0, **changes):
    config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(**{**SETTINGS[family], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(transformers, family + task)(config).eval()


def saved(folder, base, tuned):
    return tiny.save(base, folder / "base"), tiny.save(tuned, folder / "tuned")


def same_body(model, other):
    """Its body's weights in another model, whose head is its own."""
    other.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    return other


def by_the_card(base, adapter):
    """The model as the lines of the adapter's card load it."""
    code = (adapter / "README.md").read_text().split("```python")[1].split("```")[0]
    names = {}
    with quiet():
        exec(code.replace('"base"', repr(base)).replace("THIS_FOLDER", str(adapter)), names)
    return names["model"].eval()


def rows(model, batch):
    with torch.no_grad():
        made = model(**batch)
    return output_of(made, batch).rows


def error(tuned, base, adapter):
    pixels = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))}
    (batch,) = random_inputs(tuned) or [pixels]
    wanted = rows(tuned, batch)
    return float((rows(by_the_card(base, adapter), batch) - wanted).norm() / wanted.norm())


def check(folder, base, tuned, **options):
    """Extract, load as the card says, and compare with the tuned model and with the files."""
    folders = saved(folder, base, tuned)
    found = extract(*folders, folder / "out", rank=64, **options)
    assert error(tuned, folders[0], folder / "out") < 1e-3
    assert verify(*folders, str(folder / "out")).faults == []
    return found


def carried(folder):
    return json.loads((folder / "out" / "adapter_config.json").read_text()).get("modules_to_save", [])


def keys(folder):
    return {key.removeprefix("base_model.model.") for key in load_file(folder / "out" / "adapter_model.safetensors")}

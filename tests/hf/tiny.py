"""Tiny random models of every kind of architecture, as folders: a base and a tuned one."""

import shutil
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
CASES = {
    "llama": ("LlamaForCausalLM", {**SMALL, "num_key_value_heads": 2, "attention_bias": True}),
    "llama-tied": ("LlamaForCausalLM", {**SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64,
                                 "bos_token_id": 0, "eos_token_id": 1}),
    "qwen2": ("Qwen2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
    "bert": ("BertForSequenceClassification", {**SMALL, "num_labels": 3, "max_position_embeddings": 64}),
    "roberta": ("RobertaForSequenceClassification", {**SMALL, "num_labels": 3, "max_position_embeddings": 64}),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4,
                                                           "vocab_size": 100, "max_position_embeddings": 64}),
    "vit": ("ViTForImageClassification", {**{k: v for k, v in SMALL.items() if "_id" not in k and k != "vocab_size"},
                                          "image_size": 32, "patch_size": 8, "num_labels": 5}),
    "t5": ("T5ForConditionalGeneration", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
                                          "vocab_size": 100, "decoder_start_token_id": 0}),
    "mixtral": ("MixtralForCausalLM", {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4}),
}  # fmt: skip
CONFIGS = {
    "LlamaForCausalLM": "LlamaConfig", "GPT2LMHeadModel": "GPT2Config", "Qwen2ForCausalLM": "Qwen2Config",
    "BertForSequenceClassification": "BertConfig", "RobertaForSequenceClassification": "RobertaConfig",
    "DistilBertForSequenceClassification": "DistilBertConfig", "ViTForImageClassification": "ViTConfig",
    "T5ForConditionalGeneration": "T5Config", "MixtralForCausalLM": "MixtralConfig",
}  # fmt: skip


def make(case, seed=0, dtype=torch.float32, **changes):
    """A random model of a case, in evaluation mode."""
    name, settings = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, name)(getattr(transformers, CONFIGS[name])(**{**settings, **changes}))
    return model.to(dtype).eval()


def trained(adapted, seed):
    """Change what PEFT would train, in place, as if it had been."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def tune(model, size=0.3, seed=1, rank=None, only=None):
    """Change every parameter in place by `size` of its own norm; matrices at a rank if one is given."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if only is not None and not only(name):
                continue
            change = torch.randn(parameter.shape, generator=generator)
            if rank is not None and parameter.dim() == 2:
                left = torch.randn(parameter.shape[0], rank, generator=generator)
                change = left @ torch.randn(rank, parameter.shape[1], generator=generator)
            parameter.add_(change * (size * parameter.norm().clamp(min=0.1) / change.norm()))
    return model


def save(model, folder, **options):
    model.save_pretrained(folder, **options)
    return str(folder)


def pair(case, folder, size=0.3, dtype=torch.float32, rank=None, **changes):
    """Folders of a base and a tuned model of a case."""
    base = save(make(case, dtype=dtype, **changes), Path(folder) / "base")
    tuned = tune(make(case, **changes), size, rank=rank).to(dtype)
    return base, save(tuned, Path(folder) / "tuned")


def inputs(case):
    """What its forward takes."""
    generator = torch.Generator().manual_seed(5)
    if case == "vit":
        return {"pixel_values": torch.randn(3, 3, 32, 32, generator=generator)}
    tokens = torch.randint(3, 100, (3, 9), generator=generator)
    return {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)} if case == "t5" else {"input_ids": tokens}


def logits(model, case):
    with torch.no_grad():
        return model(**inputs(case)).logits


def copy(folder, to):
    shutil.copytree(folder, to)
    return str(to)


def tokenizer(folder):
    """Words `w0` to `w95` as tokens 4 to 99, saved where a model of 100 tokens lies."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    words = ["[BOS]", "[EOS]", "[PAD]", "[UNK]", *(f"w{index}" for index in range(96))]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="[BOS]", eos_token="[EOS]", pad_token="[PAD]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)


def texts(file, count=40, seed=3):
    """Lines of three to twelve random words."""
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for _ in range(count):
        length = int(torch.randint(3, 13, (), generator=generator))
        lines.append(" ".join(f"w{int(torch.randint(0, 96, (), generator=generator))}" for _ in range(length)))
    file.write_text("\n".join(lines) + "\n")
    return file

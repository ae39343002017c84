"""Memory and time of an extraction from a large pair: random bfloat16 weights, made and removed here.

    python benchmarks/large_pair.py                        # 2 billion parameters: 8 GB of disk
    python benchmarks/large_pair.py --layers 4 8           # smaller ones: is the time linear?

`peak` is the largest resident memory of the process that extracts, less what it takes before it begins; `tensor` that
of the largest tensor in float32. The difference is of rank 32, so that it lies above the rounding.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH, HIDDEN, VOCABULARY, HEADS, RANK = 2048, 8192, 32000, 16, 32


def shapes(layer):
    square = {f"model.layers.{layer}.self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
    wide = {f"model.layers.{layer}.mlp.{name}_proj.weight": (HIDDEN, WIDTH) for name in ("gate", "up")}
    norms = {
        f"model.layers.{layer}.{name}.weight": (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")
    }
    return {**square, **wide, f"model.layers.{layer}.mlp.down_proj.weight": (WIDTH, HIDDEN), **norms}


def write(folder, layers):
    """A base and a tuned model, shard by shard; returns how many parameters each has."""
    outside = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    shards = [outside, *(shapes(layer) for layer in range(layers))]
    generator = torch.Generator().manual_seed(0)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "vocab_size": VOCABULARY,
        "intermediate_size": HIDDEN, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "tie_word_embeddings": True,
    }  # fmt: skip
    maps = {}
    for number, shard in enumerate(shards):
        name = f"model-{number:05d}.safetensors"
        tensors = {"base": {}, "tuned": {}}
        for key, shape in shard.items():
            value = torch.randn(shape, generator=generator).mul_(0.02)
            tensors["base"][key] = value.bfloat16()
            if len(shape) == 2 and "embed" not in key:
                left = torch.randn(shape[0], RANK, generator=generator)
                value += 0.0005 * left @ torch.randn(RANK, shape[1], generator=generator) / RANK**0.5
            tensors["tuned"][key] = value.bfloat16()
            maps[key] = name
        for which, found in tensors.items():
            (folder / which).mkdir(exist_ok=True)
            save_file(found, folder / which / name, metadata={"format": "pt"})
    for which in ("base", "tuned"):
        (folder / which / "config.json").write_text(json.dumps(config))
        (folder / which / "model.safetensors.index.json").write_text(json.dumps({"weight_map": maps}))
    return sum(torch.Size(shape).numel() for shard in shards for shape in shard.values())


def peak():
    """Largest resident memory of this process; what getrusage says counts the parent's before exec too."""
    told = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", told)[1]) * 1024


def extract(folder):
    """In a process of its own: what it prints is read by the other."""
    import transformers.models.llama.modeling_llama  # noqa: F401, PLC0415

    from lorascope.hf import extract as run  # noqa: PLC0415

    torch.set_num_threads(1)
    before, start = peak(), time.perf_counter()
    found = run(str(folder / "base"), str(folder / "tuned"), folder / "out", rank=64, outputs=False)
    ranks = sorted({row.rank for row in found.rows})
    print(json.dumps({"before": before, "peak": peak(), "seconds": time.perf_counter() - start, "ranks": ranks}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[29], help="29: two billion parameters")
    parser.add_argument("--folder", default=None, help="where there is room; default: the system's temporary folder")
    parser.add_argument("--extract", type=Path, default=None, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.extract is not None:
        extract(chosen.extract)
        return
    print("parameters, 1e9  seconds  s per 1e9  peak, GB  of it ours, GB  tensor, GB  ranks")
    for layers in chosen.layers:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
            count = write(Path(name), layers)
            # -P: a neighbour of this file has the name of a package
            ran = subprocess.run(
                [sys.executable, "-P", __file__, "--extract", name], stdout=subprocess.PIPE, text=True, check=True
            )
            told = json.loads(ran.stdout)
        largest = 4 * max(VOCABULARY * WIDTH, HIDDEN * WIDTH) / 1e9
        print(
            f"{count / 1e9:15.2f} {told['seconds']:8.0f} {told['seconds'] / count * 1e9:10.0f} "
            f"{told['peak'] / 1e9:9.2f} {(told['peak'] - told['before']) / 1e9:15.2f} {largest:11.2f}  {told['ranks']}",
            flush=True,
        )


if __name__ == "__main__":
    main()

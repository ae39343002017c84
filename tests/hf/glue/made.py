"""A tiny encoder with its own tokenizer, and rows like those of GLUE, all made here."""

import random
from pathlib import Path
from warnings import catch_warnings, simplefilter

import peft
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"w{number}" for number in range(24)]
HEADER = "idx\tsentence1\tsentence2\tlabel"


def tokenizer(words=WORDS, pad="[PAD]"):
    """One token a word, a sentence or a pair framed as BERT has it."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def encoder(folder, words=WORDS, seed=0, **changes):
    """A random BERT without a head, and the tokenizer, saved."""
    settings = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 64, "pad_token_id": 0,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.BertModel(transformers.BertConfig(**{**settings, **changes}))
    model.save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return str(folder)


def similar(rows, seed):
    """Pairs with a number from 0 to 5, as STS-B has its similarities: how often the second says one of the words."""
    draw = random.Random(seed)
    made = []
    for _ in range(rows):
        said = draw.randint(0, 5)
        second = [WORDS[0]] * said + draw.sample(WORDS[1:], 5 - said)
        draw.shuffle(second)
        made.append((" ".join(draw.sample(WORDS, 4)), " ".join(second), f"{said:.3f}"))
    return made


def three_way(rows, seed):
    """Pairs of three classes, told by the second text's first word, as MNLI's are told by far more."""
    draw = random.Random(seed)
    made = []
    for _ in range(rows):
        label = draw.randrange(3)
        second = [WORDS[label], *draw.sample(WORDS[3:], draw.randint(1, 6))]
        made.append((" ".join(draw.sample(WORDS, 4)), " ".join(second), str(label)))
    return made


def two_way(rows, seed):
    """The same of two classes."""
    return [row for row in three_way(4 * rows, seed) if row[2] != "2"][:rows]


def write(path, rows, header=HEADER):
    """A split as GLUE's folders have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *("\t".join([str(number), *row]) for number, row in enumerate(rows))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def task(folder, name, make, train=120, dev=40):
    """A task's folder; the folder that --data takes is returned."""
    write(Path(folder) / name / "train.tsv", make(train, 1))
    write(Path(folder) / name / "dev.tsv", make(dev, 2))
    return Path(folder)


def logits(folder, rows, base=None):
    """Of a saved model on pairs, one at a time, by transformers or PEFT alone."""
    own = transformers.AutoTokenizer.from_pretrained(folder)
    with catch_warnings():
        simplefilter("ignore", FutureWarning)  # of what PEFT asks transformers
        model = _loaded(folder, rows, base)
    model.eval()
    with torch.no_grad():
        return torch.cat([model(**own(first, second, return_tensors="pt")).logits for first, second, _ in rows])


def _loaded(folder, rows, base):
    if base is None:
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    labels = len({row[2] for row in rows})
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=labels, ignore_mismatched_sizes=True
    )
    return peft.PeftModel.from_pretrained(plain, folder)


def save(weights, folder):
    """In place of a model's."""
    save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})

"""A file of texts as batches of tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, SpecError
from .pairs import Models

__all__ = ["has_tokenizer", "read_texts", "texts_for"]

LENGTH = 512
"""Tokens a text at most."""
BATCH = 16


def read_texts(file: Path, folders: Sequence[Path], batch: int = BATCH) -> list[dict[str, Tensor]]:
    """Tokenise a file of texts, one a line, or of pairs of texts.

    Args:
        file: UTF-8; empty lines are left out. Where every line has one tab, it parts the two texts of a pair.
        folders: the first that has a tokenizer gives it.
        batch: texts a batch; texts of like length share one, so that little is padded.

    Raises:
        SpecError: no such file, or no text in it.
        CheckpointError: none of the folders has a tokenizer that works.

    Cost O(characters).
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"texts must be a UTF-8 file, one text a line, got {file} ({error}); name another") from None
    texts = sorted(_texts(lines), key=lambda text: sum(map(len, text)))
    if not texts:
        raise SpecError(f"texts must have at least one line, got the empty file {file}; name another")
    from transformers import AutoTokenizer  # noqa: PLC0415

    home = next((folder for folder in folders if has_tokenizer(folder)), None)
    if home is None:
        raise CheckpointError(
            f"texts need a tokenizer, found none in {' or '.join(map(str, folders))}; "
            f"save the model's tokenizer into one of them"
        )
    tokenizer = AutoTokenizer.from_pretrained(home)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if not tokenizer(*texts[-1])["input_ids"]:
        raise CheckpointError(
            f"the tokenizer in {home} makes no tokens of a text, such as {texts[-1][0][:40]!r}; check it"
        )
    # a column of texts, or two
    parts = [map(list, zip(*texts[start : start + batch], strict=True)) for start in range(0, len(texts), batch)]
    return [
        dict(tokenizer(*part, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")) for part in parts
    ]


def _texts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """One text each, or two where every line says so."""
    filled = [line for line in lines if line.strip()]
    if all(line.count("\t") == 1 for line in filled):
        return [tuple(part.strip() for part in line.split("\t")) for line in filled]
    return [(line.strip(),) for line in filled]


def texts_for(models: Models, file: Path, batch: int = BATCH) -> list[dict[str, Tensor]]:
    """The same for two models; what a decoder reads beside an encoder is each text again, shifted by one.

    Raises:
        SpecError, CheckpointError: as :func:`read_texts`.
    """
    batches = read_texts(file, [models.tuned.folder, models.base.folder], batch)
    config = models.model.config
    if config.is_encoder_decoder:
        start = config.decoder_start_token_id
        for made in batches:
            tokens = made["input_ids"]
            first = torch.full_like(tokens[:, :1], 0 if start is None else start)
            made["decoder_input_ids"] = torch.cat([first, tokens[:, :-1]], dim=1)
    return batches


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer's files."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer.model", "vocab.json"))

"""A file of texts as batches of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import CheckpointError, SpecError
from .pairs import Models
from .quiet import quiet
from .reading import reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["has_tokenizer", "positions", "read_texts", "texts_for"]

LENGTH = 512
"""Tokens a text at most."""
BATCH = 16


def read_texts(
    file: Path, folders: Sequence[Path], batch: int = BATCH, length: int = LENGTH
) -> list[dict[str, Tensor]]:
    """Tokenise a file of texts, one a line, or of pairs of texts.

    Args:
        file: UTF-8; empty lines are left out. Where every line has one tab, it parts the two texts of a pair.
        folders: the first that has a tokenizer gives it.
        batch: texts a batch; texts of like length share one, so that little is padded.
        length: tokens a text at most; what is longer is cut.

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
    home = next((folder for folder in folders if has_tokenizer(folder)), None)
    if home is None:
        raise CheckpointError(
            f"texts need a tokenizer, found none in {' or '.join(map(str, folders))}; "
            f"save the model's tokenizer into one of them"
        )
    with reading(f"the tokenizer in {home}", "one that transformers can use", "save the model's own there"), quiet():
        tokenizer = _tokenizer(home)
        tokens = tokenizer(*texts[-1])["input_ids"]
    if not tokens:
        raise CheckpointError(
            f"the tokenizer in {home} makes no tokens of a text, such as {texts[-1][0][:40]!r}; check it"
        )
    # a column of texts, or two
    parts = [map(list, zip(*texts[start : start + batch], strict=True)) for start in range(0, len(texts), batch)]
    with reading(f"the tokenizer in {home}", "one that transformers can use", "save the model's own there"):
        return [
            dict(tokenizer(*part, padding=True, truncation=True, max_length=length, return_tensors="pt"))
            for part in parts
        ]


def _tokenizer(home: Path) -> Any:  # noqa: ANN401
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(home, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _texts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """One text each, or two where every line says so."""
    filled = [line for line in lines if line.strip()]
    if all(line.count("\t") == 1 for line in filled):
        return [tuple(part.strip() for part in line.split("\t")) for line in filled]
    return [(line.strip(),) for line in filled]


def texts_for(models: Models, file: Path, batch: int = BATCH) -> list[dict[str, Tensor]]:
    """The same for two models, no longer than they take; a decoder beside an encoder reads each text shifted by one.

    Raises:
        SpecError: as :func:`read_texts`.
        CheckpointError: likewise; or the model reads no texts, or not those tokens.
    """
    model, config = models.model, models.model.config
    if model.main_input_name != "input_ids":
        raise CheckpointError(f"texts are read as tokens, but a {type(model).__name__} takes {model.main_input_name}; "
                              f"leave them out")  # fmt: skip
    length = min(LENGTH, positions(model) or LENGTH)
    batches = read_texts(file, [models.tuned.folder, models.base.folder], batch, length)
    known = _vocabulary(models)
    largest = max(int(made["input_ids"].max()) for made in batches)
    if largest >= known:
        raise CheckpointError(
            f"a tokenizer must make tokens below the model's {known}, got {largest} from that beside "
            f"{models.tuned.name} or {models.base.name}; save the model's own there"
        )
    if config.is_encoder_decoder:
        start = config.decoder_start_token_id
        for made in batches:
            tokens = made["input_ids"]
            first = torch.full_like(tokens[:, :1], 0 if start is None else start)
            made["decoder_input_ids"] = torch.cat([first, tokens[:, :-1]], dim=1)
    return batches


def positions(model: "PreTrainedModel") -> int | None:
    """Tokens that the model has positions for; None where it does not say.

    Args:
        model: its weights may be on the device meta.
    """
    told = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    known = [told] if isinstance(told, int) and told > 0 else []
    for name, module in model.named_modules():
        padding, table = getattr(module, "padding_idx", None), getattr(module, "weight", None)
        # RoBERTa and its like number positions from behind the padding's row
        if "position" in name and isinstance(padding, int) and isinstance(table, Tensor):
            known.append(len(table) - padding - 1)
    return min(known, default=None)


def _vocabulary(models: Models) -> int:
    """Rows of the input embedding; an adapter may bring more than its base has."""
    table = models.model.get_input_embeddings()
    rows = {
        id(models.model.get_submodule(pair.module)): pair.shape[0] for pair in models.pairs if pair.kind == "embedding"
    }
    return rows.get(id(table), int(getattr(table, "num_embeddings", 1 << 62)))


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer's files."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer.model", "vocab.json"))

"""What rank a fine-tune needs, matrix by matrix and head by head."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .attention import attentions
from .configuration import differing
from .head_products import HeadGap, head_gaps
from .pairs import LeftOut, Models, Pair, open_models
from .recommend import Recommendation, recommend_by_energy
from .recommend_texts import recommend_by_texts
from .slots import MATRICES
from .spectrum import Spectrum, noise_floor, spectrum
from .texts import texts_for

__all__ = ["HeadRow", "MatrixRow", "RankReport", "matrix_rows", "rank_report"]

Progress = Callable[[float, str], None]
_WORK_OF_HEADS = 1.0  # in units of the query's matrix


@dataclass(frozen=True)
class MatrixRow:
    """One matrix; of stacked experts, one of them.

    Attributes:
        name: the parameter's, with the expert's number where there are several.
        layer: what is common to a layer's names, e.g. ``model.layers.3``; empty outside the layers.
        module: the rest of the name, the same in every layer.
        kind: as ``Slot`` has it.
        shape: (out, in); of an embedding (vocabulary, width).
        relative: ``|Delta|_F / |W|_F``.
        spectrum: singular values of the difference, and the floor.
        new_rows: rows the base does not have.
    """

    name: str
    layer: str
    module: str
    kind: str
    shape: tuple[int, int]
    relative: float
    spectrum: Spectrum
    new_rows: int


@dataclass(frozen=True)
class HeadRow:
    """One head of one attention.

    Attributes:
        layer, module: as for a matrix.
        gap: one product's difference.
    """

    layer: str
    module: str
    gap: HeadGap


@dataclass(frozen=True)
class RankReport:
    """Everything that ``rank_report`` found.

    Attributes:
        tolerance: epsilon of the ranks, relative Frobenius error.
        matrices: that could have changed, those that did not too.
        heads: every attention whose parts were recognised.
        whole: parameters that only a copy can carry (norms, biases, routers), and how many of their entries changed.
        left_out: what no adapter carries, and why.
        configurations: in what the two compute differently whatever their weights, a sentence; empty for nothing.
        parameters: of the base and tuned model's matched tensors, as in the tuned one.
        bytes: of the base's and of the tuned model's files.
        recommendation: a rank for every matrix, with its reason.
    """

    tolerance: float
    matrices: list[MatrixRow]
    heads: list[HeadRow]
    whole: dict[str, int]
    left_out: list[LeftOut]
    configurations: str
    parameters: int
    bytes: tuple[int, int]
    recommendation: Recommendation


def rank_report(
    base: str, tuned: str, tolerance: float = 0.1, texts: Path | None = None, progress: Progress | None = None
) -> RankReport:
    """Singular values of every difference, above what rounding makes, and the rank they ask for.

    ``Delta = W' - W``; the epsilon-rank is the least ``r`` with ``|Delta - LR_r(Delta)|_F <= epsilon |Delta|_F``.

    Args:
        base: folder or hub name.
        tuned: folder or hub name of a full model, or an adapter's folder.
        tolerance: epsilon; 0.1 keeps 99 % of the energy.
        texts: a file, one text a line, on which the recommended rank is to do what the tuned model does.
        progress: called with the share done and a few words.

    Returns:
        The report.

    Raises:
        CheckpointError: models that cannot be read or do not fit; texts without a tokenizer or a model without logits.
        SpecError: texts that cannot be read.
        MissingExtraError: transformers or peft is not installed.

    Source: ranks of products as in Zeng & Lee 2024, Theorem 7; the floor is that of ``noise_floor``.
    Cost O(out inp min(out, inp)) a matrix; one matrix of each model in memory, two for a head's product.
    """
    models = open_models(base, tuned)
    differences = differing(models.base, models.tuned)
    batches = None if texts is None else texts_for(models, texts)
    generator = torch.Generator().manual_seed(0)
    matrices: list[MatrixRow] = []
    whole: dict[str, int] = {}
    told = _by_size(models, progress)
    for pair in models.pairs:
        told(pair.name)
        if pair.kind in MATRICES and pair.load_base is not None:
            matrices += matrix_rows(pair, generator)
        else:
            whole[pair.name] = int((pair.difference() != 0).sum())
    heads: list[HeadRow] = []
    for attention in attentions(models.model, models.pairs):
        told(attention.name)
        layer, module = place(attention.name)
        heads += [HeadRow(layer, module, gap) for gap in head_gaps(attention)]
    parameters = sum(pair.entries for pair in models.pairs)
    recommendation = recommend_by_energy(
        [(row.shape, row.spectrum) for row in matrices if row.kind != "head"], tolerance
    )
    if batches is not None and recommendation.rank != 0:
        recommendation = recommend_by_texts(models, batches, recommendation, progress or _silent)
    sizes = (models.base.size, models.tuned.size)
    return RankReport(
        tolerance, matrices, heads, whole, models.left_out, differences, parameters, sizes, recommendation
    )


def place(name: str) -> tuple[str, str]:
    """A name's layer and the rest.

    >>> place("model.layers.3.mlp.up_proj"), place("lm_head")
    (('model.layers.3', 'mlp.up_proj'), ('', 'lm_head'))
    """
    match = re.match(r"(.*?\.\d+)\.(.+)", name)
    return (match[1], match[2]) if match else ("", name)


def _silent(_share: float, _what: str) -> None:
    """Nobody listens."""


def _by_size(models: Models, progress: Progress | None) -> Callable[[str], None]:
    """Call with what is begun; tells the share of the entries done before."""
    sizes = {pair.name: float(pair.entries) for pair in models.pairs}
    for attention in attentions(models.model, models.pairs):
        sizes[attention.name] = _WORK_OF_HEADS * sizes[attention.query.pair.name]
    total, done = sum(sizes.values()), 0.0

    def begun(name: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done / total, name)
        done += sizes[name]

    return begun


def matrix_rows(pair: Pair, generator: torch.Generator) -> Iterator[MatrixRow]:
    """One row, or one for each of several stacked experts."""
    base, difference = pair.oriented(pair.base()), pair.difference()
    layer, module = place(pair.name.removesuffix(".weight"))
    if pair.kind != "expert":
        values = _spectrum(pair, base, difference, generator)
        yield _row(pair, pair.name, (layer, module), base, values)
        return
    for index in range(pair.shape[0]):
        values = _spectrum(pair, base[index], difference[index], generator)
        yield _row(pair, f"{pair.name}[{index}]", (layer, f"{module}[{index}]"), base[index], values)


def _row(pair: Pair, name: str, where: tuple[str, str], base: Tensor, values: Spectrum) -> MatrixRow:
    norm = float(torch.linalg.vector_norm(base, dtype=torch.float64))
    relative = values.norm / norm if norm else 0.0
    return MatrixRow(name, *where, pair.kind, (base.shape[0], base.shape[1]), relative, values, pair.grown)


def _spectrum(pair: Pair, base: Tensor, difference: Tensor, generator: torch.Generator) -> Spectrum:
    """Rows a grown vocabulary adds are no difference of anything: the floor and the values are of the others."""
    if pair.kind == "embedding" or pair.grown:
        base, difference = (value[: len(value) - pair.grown] for value in (base, difference))
    if pair.load_change is not None:
        # an adapter's difference is as exact as its factors, whatever rounding its base has
        eps = torch.finfo(pair.tuned_dtype).eps
        floor = 2 * eps * float(torch.linalg.vector_norm(difference, dtype=torch.float64))
        return spectrum(difference, floor, generator)
    assert pair.base_dtype is not None
    return spectrum(difference, noise_floor(base, base + difference, (pair.base_dtype, pair.tuned_dtype)), generator)

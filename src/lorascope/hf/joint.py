"""The factors of all matrices together against the tuned model's outputs: gains, then a distillation."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..errors import SpecError
from .both import load_both
from .calibration import Calibration
from .choose import Choice
from .factors import Factors, settled
from .gains import fit_gains
from .memory import lacking
from .pairs import Models
from .passes import Inputs
from .refine import refine
from .saving import whole
from .style import Style
from .work import Where
from .write import write_files

__all__ = ["joined"]

Progress = Callable[[float, str], None]


def joined(
    models: Models, choice: Choice, found: Sequence[Factors], where: Where, calibration: Calibration,
    batches: Sequence[Inputs], steps: int, progress: Progress,
) -> tuple[list[Factors], str]:  # fmt: skip
    """The factors fitted together to what the tuned model says on texts, residuals measured; and how that went.

    Args:
        models: base and tuned.
        choice: what is carried.
        found: factors of each matrix by itself.
        where: the work is done and kept.
        calibration: means of the inputs.
        batches: tokens.
        steps: of distillation, after the gains were fitted.
        progress: called with the share done and a few words.

    Raises:
        SpecError: steps were asked for, but both models do not fit into the memory.
    """
    work, device = where.work, where.device
    note = work.folder / "joined.txt"
    if note.is_file():
        kept = [work.load(index, "joined") for index in range(len(found))]
        return [factors for factors in kept if factors is not None], note.read_text()
    if not any(factors.rank for factors in found):
        return list(found), "There are no factors that could be fitted to the texts."
    room = lacking(models, 2, device)
    if room and steps:
        raise SpecError(f"--refine needs {room}; leave it out, or name a --device that has the room")
    if room:
        return list(found), f"Gains were not fitted: {room}."
    start = work.folder / "start"
    largest = max((factors.rank for factors in found), default=1)
    # whatever the profile makes of heads, here they are what the choice says
    style = Style("peft", torch.float32, "start", max(largest, 1), task=False)
    write_files(start, models, choice, found, style)
    both = load_both(models, choice, start, batches, device)
    means = [calibration.mean(pair) for pair in choice.factors]
    part = 0.2 if steps else 1.0
    fitted = fit_gains(both, choice, found, means, lambda share, what: progress(part * share, what))
    made = fitted.factors
    told = f"Gains fitted to all directions together took their {both.measure} from {fitted.before:.4g} to "
    told += f"{fitted.after:.4g}."
    if steps:
        trained = refine(both, choice, made, steps, lambda share, what: progress(0.2 + 0.8 * share, what))
        after = both.divergence()
        if after < fitted.after:
            made = trained
            told += f" {steps} steps of distillation took it to {after:.4g}."
        else:
            told += f" {steps} steps of distillation made it no smaller and were dropped."
    shifts = {pair.module: both.biases[pair.module].cpu() - pair.tuned() for pair in choice.biases}
    for index, (pair, factors) in enumerate(zip(choice.factors, made, strict=True)):
        shift = None if means[index] is None else shifts.get(pair.module)
        made[index] = replace(settled(pair, factors, None), shift=shift)
        work.save(index, made[index], "joined")
    with whole(note) as unready:
        unready.write_text(told)
    return made, told

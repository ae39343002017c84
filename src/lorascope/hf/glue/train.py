"""One training run on a task, by transformers' trainer; it goes on where a killed run stopped."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import SpecError
from ..quiet import quiet
from .base import Base
from .checkpoints import last_checkpoint
from .data import Data
from .encode import by_length, encode
from .model import build, trainable
from .order import batched_order
from .probe import uses_all
from .randomness import own_randomness
from .score import predictions, score
from .settings import Settings
from .tasks import Task

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

__all__ = ["Trained", "on_cpu", "train"]

Progress = Callable[[float, str], None]
WARMUP = 0.06  # of the steps


@dataclass(frozen=True)
class Trained:
    """A model after training.

    Attributes:
        model: of transformers, or of PEFT for adapters; on the device it was trained on.
        metrics: of the development rows, and of what else is held out, in float32.
        parameters: entries of what was trained, head and all.
        head: entries of the head, a pooler that the checkpoint does not have included.
        steps: that were made.
        best: the step whose weights these are.
        seconds: of this process, evaluation included.
    """

    model: Any
    metrics: dict[str, float]
    parameters: int
    head: int
    steps: int
    best: int
    seconds: float


def train(
    base: Base,
    task: Task,
    data: Data,
    settings: Settings,
    folder: Path,
    *,
    device: str | None = None,
    save_body: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on a task's rows and score what came of it.

    Args:
        base: the checkpoint.
        task, data: what to learn.
        settings: how.
        folder: for checkpoints; those that lie there are gone on from, so it must be this run's own.
        device: ``"cpu"``, or None for whatever accelerate finds.
        save_body: where a random body is saved.
        progress: called with the share done and a few words.

    Returns:
        The model and its scores; the same, bit for bit on a CPU, whether or not the run was interrupted.

    Raises:
        CheckpointError, SpecError: as :func:`build`; a batch that the devices cannot share evenly.
    """
    started = perf_counter()
    with own_randomness(settings.seed), quiet():
        built = build(base, task, settings, save_body)
        model = built.model
        left = last_checkpoint(folder)
        # what had stopped early has all its steps behind it
        steps = left.step if left is not None and left.stopped else settings.steps
        arguments = _arguments(model, settings, folder, device, steps)
        generator = torch.Generator().manual_seed(settings.seed)
        drawn = torch.randperm(len(data.train), generator=generator).tolist()[: settings.batch * settings.steps]
        rows = encode(data.train.take(drawn), task, base.tokenizer, settings.length)
        order = batched_order([len(row["input_ids"]) for row in rows], settings.batch, settings.steps, generator)
        trainer = _trainer(model, arguments, base, task, settings, progress)
        trainer.train_dataset = [rows[index] for index in order[: settings.batch * steps]]  # pyright: ignore[reportAttributeAccessIssue]
        trainer.eval_dataset = by_length(encode(data.dev, task, base.tokenizer, settings.length))  # pyright: ignore[reportAttributeAccessIssue]
        trainer.train(resume_from_checkpoint=None if left is None else str(left.folder))
        metrics = _scores(model, base, task, data, settings)
    state = trainer.state
    best = int(state.best_global_step or state.global_step) if settings.patience else int(state.global_step)
    seconds = perf_counter() - started
    return Trained(model, metrics, trainable(model), built.head, int(state.global_step), best, seconds)


def _scores(model: Any, base: Base, task: Task, data: Data, settings: Settings) -> dict[str, float]:  # noqa: ANN401
    """Of all rows that are held out."""
    from .precision import full_precision  # noqa: PLC0415

    with full_precision(model):
        return {
            f"{name}{suffix}": value
            for suffix, split in (("", data.dev), *data.others.items())
            for name, value in score(model, split, task, base.tokenizer, settings.length).items()
        }


def _arguments(
    model: Any,  # noqa: ANN401
    settings: Settings,
    folder: Path,
    device: str | None,
    steps: int,
) -> "TrainingArguments":
    from transformers import TrainingArguments  # noqa: PLC0415

    early = settings.patience > 0
    every = min(settings.every, settings.steps)
    share = settings.batch // _devices(device)
    if share * _devices(device) != settings.batch:
        raise SpecError(
            f"--batch must be a multiple of the {_devices(device)} devices that share it, got {settings.batch}"
        )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=share,
        per_device_eval_batch_size=64,
        max_steps=steps,
        learning_rate=settings.rate,
        weight_decay=settings.weight_decay,
        warmup_steps=round(WARMUP * settings.steps),
        lr_scheduler_type="linear",
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",
        use_cpu=on_cpu(device),
        # the rows lie in the order in which they are to come
        train_sampling_strategy="sequential",
        eval_strategy="steps" if early else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=early,
        metric_for_best_model="eval_score" if early else None,
        greater_is_better=True if early else None,
        restore_callback_states_from_checkpoint=early,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        label_names=["labels"],
        # every device's loss is the mean over its rows, of which all have as many: the gradient is the mean of theirs
        average_tokens_across_devices=False,
        ddp_find_unused_parameters=not uses_all(model) if _processes() > 1 else None,
    )


def on_cpu(device: str | None) -> bool:
    """Whether the CPU does the work; accelerate does not see processes beside this one there unless it is told so.

    Args:
        device: ``"cpu"``, or None for whatever there is.
    """
    return device == "cpu" or not torch.cuda.is_available()


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _devices(device: str | None) -> int:
    """That share a batch: processes of ``accelerate launch``, or GPUs of this one process."""
    return _processes() if _processes() > 1 or device == "cpu" else max(torch.cuda.device_count(), 1)


def _trainer(
    model: Any,  # noqa: ANN401
    arguments: "TrainingArguments",
    base: Base,
    task: Task,
    settings: Settings,
    progress: Progress | None,
) -> "Trainer":
    from transformers import DataCollatorWithPadding, EarlyStoppingCallback, PrinterCallback  # noqa: PLC0415

    from .precision import ScoringTrainer  # noqa: PLC0415
    from .told import told  # noqa: PLC0415

    def compute(found: Any) -> dict[str, float]:  # noqa: ANN401
        logits = torch.from_numpy(found.predictions).float()
        scores = task.scores(predictions(logits, task), [float(label) for label in found.label_ids.tolist()])
        return {"score": scores[task.metric]}

    callbacks: list[Any] = [told(progress)] if progress is not None else []
    if settings.patience:
        callbacks.append(EarlyStoppingCallback(settings.patience))
    trainer = ScoringTrainer(
        model=model,
        args=arguments,
        data_collator=DataCollatorWithPadding(base.tokenizer),
        compute_metrics=compute,
        callbacks=callbacks,
        train_dataset=[],  # pyright: ignore[reportArgumentType]
        eval_dataset=[] if settings.patience else None,  # pyright: ignore[reportArgumentType]
        preprocess_logits_for_metrics=_logits,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _logits(logits: Tensor | tuple[Tensor, ...], _labels: Tensor) -> Tensor:
    return logits[0] if isinstance(logits, tuple) else logits

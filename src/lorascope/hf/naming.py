"""From the names on disk to a model's parameters, as transformers itself reads them."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from .reading import reading
from .stored import Stored

if TYPE_CHECKING:
    from concurrent.futures import Future

    from transformers import PreTrainedModel
    from transformers.core_model_loading import WeightConverter

__all__ = ["Source", "recipes"]


@dataclass(frozen=True)
class _Group:
    """Tensors on disk that become one or more parameters together, such as experts stored one by one.

    Attributes:
        target: the name transformers files them under.
        parts: the pattern each matched, and where it lies; in the order they are joined.
        converter: what joins them; None where there is one tensor and only its name differs.
        model: on the meta device; some converters ask its configuration.
    """

    target: str
    parts: tuple[tuple[str, Stored], ...]
    converter: "WeightConverter | None"
    model: "PreTrainedModel"

    def convert(self, tensors: list[Tensor]) -> dict[str, Tensor]:
        if self.converter is None:
            return {self.target: tensors[0]}
        converter = deepcopy(self.converter)
        for (pattern, stored), tensor in zip(self.parts, tensors, strict=True):
            # a future or a tensor, says its code; its annotation says the first alone
            converter.add_tensor(self.target, stored.key, pattern, cast("Future[Tensor]", tensor))
        made = converter.convert(self.target, model=self.model, config=self.model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True)
class Source:
    """One parameter's value on disk.

    Attributes:
        name: the parameter's name in the model.
        shape: as the model has it.
        dtype: as stored.
        group: the tensors on disk it is made of.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    group: _Group

    def load(self) -> Tensor:
        """The value, in the dtype it is stored in.

        Raises:
            CheckpointError: it is not finite.
        """
        return self.group.convert([stored.load() for _, stored in self.group.parts])[self.name]


def recipes(tensors: Mapping[str, Stored], model: "PreTrainedModel") -> tuple[dict[str, Source], list[str]]:
    """How to read each parameter of a model from a checkpoint.

    Args:
        tensors: by their names on disk.
        model: on the meta device.

    Returns:
        A source for each name of the model's state dict that the checkpoint has; names on disk it has no use for.

    Source: ``convert_and_load_state_dict_in_model`` of transformers, without the loading. Cost O(tensors).
    """
    from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: PLC0415
    from transformers.core_model_loading import (  # noqa: PLC0415
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    known = model.state_dict(keep_vars=True)
    prefix = model.base_model_prefix
    parts: dict[str, list[tuple[str, Stored]]] = {}
    chosen: dict[str, WeightConverter | None] = {}
    unused: list[str] = []
    for key in sorted(tensors, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, prefix, known)
        if name not in known:
            name, pattern = rename_source_key(key, [], [], prefix, known)
        if name not in known:
            unused.append(key)
            continue
        chosen.setdefault(name, None if pattern is None else by_pattern[pattern])
        parts.setdefault(name, []).append((pattern or key, tensors[key]))
    found: dict[str, Source] = {}
    for target, converter in chosen.items():
        group = _Group(target, tuple(parts[target]), converter, model)
        # shapes without reading: the same conversion of tensors that have no values
        with reading(", ".join(part.key for _, part in group.parts[:2]), f"what a {type(model).__name__} stores"):
            empty = [torch.empty(part.shape, dtype=part.dtype, device="meta") for _, part in group.parts]
            shapes = group.convert(empty)
        for name, value in shapes.items():
            found[name] = Source(name, tuple(value.shape), value.dtype, group)
    return found, unused

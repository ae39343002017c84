"""How PEFT is asked to load an adapter that was written for it or for another runtime."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from .profiles import Profile
from .work import MARK

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

__all__ = ["config_for", "mistaken", "written_for"]


def mistaken(name: str, model: "PreTrainedModel") -> bool:
    """Whether PEFT takes a Linear for one of the experts that transformers 5 stacks, because its name ends like theirs.

    Dense layers and shared experts of many mixtures are named so. Asked for by its parameter, it is left alone.

    Args:
        name: the module's full name.
        model: whose type decides.
    """
    from peft import LoraConfig  # noqa: PLC0415
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers  # noqa: PLC0415

    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # it wants the rest of the fused matrix too
        return True
    return name not in (config.target_modules or ())


def written_for(adapter: Path) -> Profile:
    """Who was to load an adapter, by its record; PEFT where it has none that can be read."""
    try:
        told = json.loads((adapter / MARK).read_text())["profile"]
    except (OSError, ValueError, KeyError, TypeError):
        return "peft"
    return told if told in {"vllm", "llamacpp"} else "peft"


def config_for(adapter: Path, model: "PreTrainedModel", profile: Profile) -> "LoraConfig":
    """The configuration to load an adapter with: its own, and what PEFT would mistake asked for by its parameter.

    Args:
        adapter: its folder.
        model: its base.
        profile: who it was written for. One for PEFT is loaded as it is, for so will everyone else.
    """
    from peft import LoraConfig  # noqa: PLC0415

    config = cast("LoraConfig", LoraConfig.from_pretrained(str(adapter)))
    targets = config.target_modules
    if profile == "peft" or targets is None or isinstance(targets, str):
        return config
    names = [name for name in targets if _is_linear(name, model) and mistaken(name, model)]
    config.target_modules = [name for name in targets if name not in names]
    config.target_parameters = [*(config.target_parameters or ()), *(f"{name}.weight" for name in names)]
    for pattern in (config.rank_pattern or {}, config.alpha_pattern or {}):
        for key in pattern.keys() & {re.escape(name) for name in names}:
            pattern[rf"{key}\.weight"] = pattern.pop(key)
    return config


def _is_linear(name: str, model: "PreTrainedModel") -> bool:
    try:
        return isinstance(model.get_submodule(name), nn.Linear)
    except AttributeError:
        return False

"""What of an adapter's file PEFT would not read, by its configuration."""

from copy import deepcopy

import torch

from ..errors import LorascopeError
from .adapter_files import PREFIX, AdapterFiles
from .loading import config_for
from .pairs import Models
from .profiles import Profile
from .quiet import quiet

__all__ = ["CANNOT", "unread"]

CANNOT = "PEFT cannot load it"
_SHOWN = 200  # characters of what PEFT says


def unread(models: Models, adapter: AdapterFiles, profile: Profile) -> list[str]:
    """Tensors that the configuration does not ask for, and those it asks for that are not there.

    PEFT passes over both in silence: the adapted model is then another than the file's tensors say.

    Args:
        models: base and tuned.
        adapter: of the base.
        profile: who it was written for.

    Returns:
        A sentence for each kind of fault; none where the configuration and the tensors fit.

    Cost O(tensors): PEFT loads tensors without values into a model without values.
    """
    from peft import get_peft_model, set_peft_model_state_dict  # noqa: PLC0415

    stored = {PREFIX + key: torch.empty(value.shape, device="meta") for key, value in adapter.tensors.items()}
    try:
        with quiet(), torch.device("meta"):
            # some classes make values of their own, wherever they are told to
            bare = deepcopy(models.model).to(torch.device("meta"))  # pyright: ignore[reportArgumentType]
            model = get_peft_model(bare, config_for(adapter.folder, bare, profile))
            found = set_peft_model_state_dict(model, stored, ignore_mismatched_sizes=True)
    except (LorascopeError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever PEFT says of a configuration that it cannot use
        return [f"{CANNOT}: {' '.join(str(error).split())[:_SHOWN]}"]
    asked = {key: key.replace(".modules_to_save.default.", ".").replace(".default", "") for key in found.missing_keys}
    other = [key for key, name in asked.items() if ".lora_" in key and name in stored]
    if other:
        return [f"{CANNOT}: adapter_config.json gives {asked[other[0]].removeprefix(PREFIX)} another rank than it has"]
    # a head may have another number of outputs here
    needed = {name for key, name in asked.items() if ".lora_" in key or ".modules_to_save." in key}
    absent = sorted(needed - stored.keys())
    return [
        f"PEFT {what} {len(keys)} tensors, such as {keys[0].removeprefix(PREFIX)}: "
        f"adapter_config.json is not that of this file"
        for what, keys in (("does not read", found.unexpected_keys), ("misses", absent))
        if keys
    ]

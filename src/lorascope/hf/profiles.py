"""What each runtime's adapters can carry, and why not the rest."""

from typing import Literal

from .pairs import Pair

__all__ = ["CANNOT", "MAX_RANKS", "How", "Profile", "how"]

Profile = Literal["peft", "vllm", "llamacpp"]
How = Literal["factors", "value", "bias", "nothing"]

CANNOT: dict[Profile, tuple[str, ...]] = {
    "peft": (
        "bare parameters (class tokens and the like) and buffers of modules that hold matrices too",
        "restoring changed biases when the adapter is disabled: they replace the base's",
    ),
    "vllm": (
        "biases, norms, routers: it refuses bias other than none, and modules_to_save other than classifier and score",
        "tied embeddings: adapting one side would untie them",
        "new vocabulary rows",
        "stacked experts: it does not read target_parameters",
        "ranks above 512",
        "convolutions and bare parameters",
    ),
    "llamacpp": (
        "biases, norms, routers and whole heads: its converter stops at every tensor that is no factor",
        "embeddings",
        "layers stored transposed (Conv1D)",
        "new vocabulary rows",
        "stacked experts",
        "convolutions and bare parameters",
    ),
}
"""What an adapter of a profile leaves out whatever changed."""

MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for ``--max-lora-rank``."""

_REASONS = {
    "bias": "the profile {profile} carries no biases",
    "norm": "the profile {profile} carries no norms",
    "whole": "the profile {profile} carries no whole matrices",
    "buffer": "the profile {profile} carries no buffers",
    "bare": "the profile {profile} carries no convolutions and no bare parameters",
    "expert": "the profile {profile} carries no stacked experts",
    "embedding": "the profile {profile} carries no such embeddings",
    "conv1d": "the profile {profile} carries no layers stored transposed",
    "head": "the profile {profile} carries no whole heads",
}


def how(pair: Pair, profile: Profile) -> tuple[How, str]:
    """How a profile carries a parameter that changed, and the reason where it does not.

    ``factors``: a low-rank difference; ``value``: the module's own parameters, whole; ``bias``: the value of one bias.

    Args:
        pair: the parameter.
        profile: peft, vllm or llamacpp.
    """
    fresh = pair.load_base is None or pair.grown > 0
    way: How
    if profile == "peft":
        way = _peft(pair, fresh)
    elif pair.kind in {"head", "bias"} and profile == "vllm" and _classifies(pair):
        way = "value"
    elif fresh or pair.kind not in {"linear", "conv1d", "head", "embedding"}:
        way = "nothing"
    elif pair.kind == "embedding":
        way = "nothing" if profile == "llamacpp" or pair.slot.tied else "factors"
    elif pair.kind == "conv1d":
        way = "nothing" if profile == "llamacpp" else "factors"
    else:
        way = "factors"
    if way != "nothing":
        return way, ""
    if pair.load_base is not None and pair.grown:
        return way, f"the profile {profile} carries no new rows"
    return way, _REASONS.get(pair.kind, "the profile {profile} carries no new modules").format(profile=profile)


def _peft(pair: Pair, fresh: bool) -> How:
    if pair.kind in {"norm", "whole", "head", "bare", "buffer"} or fresh:
        return "value"
    return "bias" if pair.kind == "bias" else "factors"


def _classifies(pair: Pair) -> bool:
    return pair.module.rpartition(".")[2] in {"classifier", "score"}

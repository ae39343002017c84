"""What a classifier's forward pass comes by, found by one on a few tokens: the order of names does not tell."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["behind", "uses_all"]

TOKENS = 8


def behind(model: nn.Module, layer: str) -> list[str]:
    """Modules with parameters of their own that are first called after the last call of a layer.

    Args:
        model: a classifier; left in the mode it was in.
        layer: name of one of its modules.

    Returns:
        Their names, in the order of the calls; what lies within the layer is not among them.

    Cost: one forward pass on 8 tokens.
    """
    called: list[str] = []
    hooks = [
        part.register_forward_hook(_noting(called, name))
        for name, part in model.named_modules()
        if name == layer or any(True for _ in part.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            _logits(model)
    finally:
        for hook in hooks:
            hook.remove()
    last = max((place for place, name in enumerate(called) if name == layer), default=len(called))
    before = set(called[: last + 1])
    return [name for name in dict.fromkeys(called[last + 1 :]) if name not in before]


def uses_all(model: nn.Module) -> bool:
    """Whether the logits depend on every parameter that is trained, so that each has a gradient in every step.

    Args:
        model: a classifier; left in the mode it was in.

    Cost: one forward pass on 8 tokens.
    """
    todo, seen = [_logits(model).sum().grad_fn], set[Any]()
    reached: set[int] = set()
    while todo:
        node: Any = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # only the graph's leaves have a variable
        reached.add(id(getattr(node, "variable", None)))
        todo += [following for following, _ in node.next_functions]
    return all(id(part) in reached for part in model.parameters() if part.requires_grad)


def _noting(called: list[str], name: str) -> Callable[..., None]:
    return lambda *_: called.append(name)


def _logits(model: nn.Module) -> Tensor:
    training = model.training
    model.eval()  # dropout would draw random numbers
    try:
        device = next(model.parameters()).device
        return model(input_ids=torch.zeros(1, TOKENS, dtype=torch.long, device=device)).logits
    finally:
        model.train(training)

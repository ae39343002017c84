"""An adaptation as one file: its adapters and biases, its certificate, and which frozen model it belongs to."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .adaptation import Adaptation, Ball, Box, Certificate, Domain
from .errors import CheckpointError, ShapeError, SpecError
from .linalg import tolerance
from .models import FNN, Adapter, TransformerNetwork, merge

__all__ = ["load_adaptation", "save_adaptation"]

Model = TypeVar("Model", FNN, TransformerNetwork)

_FORMAT = "lorascope adaptation 1"
_TOLD = "lorascope"  # the key of the metadata that holds everything but tensors, as JSON
_PARTS = ("lora_A", "lora_B", "bias", "merged")
_OTHER_ROUNDING = "merged anew with another rounding: last digits of the weights are not those that were saved"


def save_adaptation(adaptation: Adaptation[Model], frozen: Model, path: str | os.PathLike[str]) -> Path:
    """Write an adaptation as a safetensors file: A and B of each adapted parameter, biases, and what is known of it.

    Args:
        adaptation: of ``frozen``, by whatever method.
        frozen: the model it adapts; its weights are not written, only what tells them from others.
        path: the file; written whole under another name first, then put there.

    Returns:
        The file.

    Raises:
        SpecError: a file that cannot be written.
        ShapeError: no FNN or TransformerNetwork, or another model than the adaptation's.

    Cost O(parameters).

    >>> import tempfile
    >>> import lorascope as ls
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = ls.adapt(frozen, target, rank=2)
    ...     again = ls.load_adaptation(ls.save_adaptation(made, frozen, f"{folder}/adapter.safetensors"), frozen)
    >>> x = torch.ones(3, 4, dtype=torch.float64)
    >>> torch.equal(again.model(x), made.model(x)), again.certificate == made.certificate
    (True, True)
    """
    settings = _settings(frozen)
    if settings != _settings(adaptation.model):
        raise ShapeError(f"frozen must be the model that was adapted, {_settings(adaptation.model)}, got {settings}")
    tensors: dict[str, Tensor] = {}
    for name, adapter in adaptation.adapters.items():
        tensors |= {f"{name}.lora_A": _plain(adapter.A), f"{name}.lora_B": _plain(adapter.B)}
    tensors |= {f"{name}.bias": _plain(value) for name, value in adaptation.biases.items()}
    wanted = adaptation.model.state_dict()
    tensors |= {f"{name}.merged": _plain(value) for name, value in _rounded(adaptation, frozen, tensors).items()}
    told = {
        "model": settings,
        "frozen": _digest(frozen.state_dict()),
        "merged": _digest(wanted),
        "tensors": _digest(tensors),
        "order": list(tensors),  # safetensors has its own
        "certificate": _as_json(adaptation.certificate),
        "method": adaptation.method,
        "seconds": adaptation.seconds,
    }
    return _write(Path(path), save(tensors, metadata={"format": _FORMAT, _TOLD: json.dumps(told)}))


def load_adaptation(path: str | os.PathLike[str], frozen: Model) -> Adaptation[Model]:
    """Read what :func:`save_adaptation` wrote, and merge it into the frozen model it was made for.

    Args:
        path: the file.
        frozen: of the same class, settings, dtype and weights; left as it is.

    Returns:
        The adaptation, on the frozen model's device. Its model has the bits of the one that was saved; where another
        machine's products round otherwise, ``conditions`` says so.

    Raises:
        CheckpointError: no such file, another kind of file, a damaged one, or another frozen model.
        ShapeError: no FNN or TransformerNetwork.

    Cost O(parameters).
    """
    file = Path(path)
    tensors, told = _read(file)
    settings = _settings(frozen)
    if told["model"] != settings:
        wanted = {key: value for key, value in told["model"].items() if settings.get(key) != value}
        came = {key: settings.get(key) for key in wanted}
        raise CheckpointError(f"{file} needs a frozen model with {wanted}, got {came}; load it with its own")
    if _digest(frozen.state_dict()) != told["frozen"]:
        raise CheckpointError(
            f"{file} needs the frozen weights it was made for, fingerprint {told['frozen'][:12]}, got "
            f"{_digest(frozen.state_dict())[:12]}; load it with the model that was adapted, as it was then"
        )
    device = next(frozen.parameters()).device
    adapters, biases, whole = _sorted({name: value.to(device) for name, value in tensors.items()})
    model = merge(frozen, adapters, biases | whole)
    certificate = _certificate(told["certificate"], _digest(model.state_dict()) == told["merged"])
    return Adaptation(model, adapters, biases, certificate, told["method"], told["seconds"])


def _rounded(adaptation: Adaptation[Model], frozen: Model, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters whose sums round otherwise when the adapters are merged as they are read.

    Raises:
        ShapeError: one is further off than rounding explains.
    """
    adapters, biases, _ = _sorted(tensors)
    again, own = merge(frozen, adapters, biases).state_dict(), frozen.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in adaptation.model.state_dict().items():
        if torch.equal(value, again[name]):
            continue
        scale = float(own[name].norm()) + float(value.norm())
        if name in adapters:
            scale += float(adapters[name].A.norm()) * float(adapters[name].B.norm())
        off = float((value - again[name]).norm())
        if not off <= tolerance(max(value.shape, default=1), scale, dtype=value.dtype):
            raise ShapeError(
                f"frozen must be the model that was adapted, but with the adapters merged in {name} is off by {off:.3g}"
            )
        found[name] = value
    return found


def _settings(model: FNN | TransformerNetwork) -> dict[str, Any]:
    """Everything but the weights, as JSON gives it back."""
    if isinstance(model, FNN):
        shapes = [list(layer.weight.shape) for layer in model.linears]
        told: dict[str, Any] = {"shapes": shapes, "activation": model.activation, "bias": model.has_bias}
    elif isinstance(model, TransformerNetwork):
        names = ("embed_dim", "num_heads", "depth", "head_dim", "ffn_dim", "attention_bias", "residual", "norm_place")
        told = {name: getattr(model, name) for name in names}
    else:
        raise ShapeError(f"the model must be an FNN or a TransformerNetwork, got {type(model).__name__}")
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return {"class": type(model).__name__, **told, "dtype": dtype}


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous().clone()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bits, in the order of the names."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = _plain(value)
        found.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _sorted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Adapter], dict[str, Tensor], dict[str, Tensor]]:
    """Adapters, biases, and parameters that are kept whole."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for key, value in tensors.items():
        name, _, part = key.rpartition(".")
        parts[part][name] = value
    adapters = {name: Adapter(A, parts["lora_B"][name]) for name, A in parts["lora_A"].items()}
    return adapters, parts["bias"], parts["merged"]


def _as_json(certificate: Certificate) -> dict[str, Any]:
    """Floats as Python writes them: read again they are the same."""
    domain: dict[str, Any]
    if isinstance(certificate.domain, Ball):
        domain = {"radius": float(certificate.domain.radius)}
    else:
        low, high = (torch.as_tensor(bound).tolist() for bound in (certificate.domain.low, certificate.domain.high))
        domain = {"low": low, "high": high}
    return {
        "error_bound": certificate.error_bound,
        "expected_error_bound": certificate.expected_error_bound,
        "residual": certificate.residual,
        "exact": certificate.exact,
        "domain": domain,
        "conditions": list(certificate.conditions),
    }


def _certificate(told: Mapping[str, Any], same: bool) -> Certificate:
    where = told["domain"]
    domain: Domain = Ball(where["radius"]) if "radius" in where else Box(where["low"], where["high"])
    return Certificate(
        told["error_bound"],
        told["expected_error_bound"],
        told["residual"],
        told["exact"],
        domain,
        (*told["conditions"], *(() if same else (_OTHER_ROUNDING,))),
    )


def _write(path: Path, content: bytes) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise SpecError(
            f"an adaptation must go to a file that can be written, got {path} ({error.strerror}); name another"
        ) from None
    return path


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(file, framework="pt") as stream:
            told: dict[str, str] = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key).clone() for key in stream.keys()}  # noqa: SIM118 (not iterable)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{file} must be a whole file of save_adaptation's, but cannot be read: {reason}; save it again"
        ) from None
    if told.get("format") != _FORMAT or _TOLD not in told:
        raise CheckpointError(f'{file} must be a "{_FORMAT}", got the format {told.get("format")!r}; name another file')
    known = json.loads(told[_TOLD])
    if _digest(tensors) != known["tensors"]:
        raise CheckpointError(f"{file} is damaged: its tensors are not those that were saved; save it again")
    return {name: tensors[name] for name in known["order"]}, known

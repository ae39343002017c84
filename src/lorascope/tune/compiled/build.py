"""The kernel, built where it is first used and kept in the user's cache folder."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

__all__ = ["Built", "flags_for", "load"]

SOURCES = ("kernel.cpp", "adam.h", "divergence.h", "job.h", "lanes.h", "products.h")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# torch's name of what a CPU can do -> compiler's flags
VECTORS = {"AVX512": ("-mavx512f", "-mfma"), "AVX2": ("-mavx2", "-mfma")}
PATIENCE = 120.0  # seconds for the compiler


@dataclass(frozen=True)
class Built:
    """The kernel, or why there is none.

    Attributes:
        library: None where there is none.
        why: what it was built by and for; or what is missing.
    """

    library: ctypes.CDLL | None
    why: str


@lru_cache(maxsize=1)
def load() -> Built:
    """The kernel for this machine; it is looked for once a process."""
    try:
        return _load()
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:  # no home, odd words in $CXX, ...
        return Built(None, f"the kernel could not be built: {_line(error)}")


def flags_for(vectors: str, machine: str) -> tuple[str, ...] | None:
    """What the compiler is told about the CPU; None: no suitable one.

    Args:
        vectors: as :func:`torch.backends.cpu.get_cpu_capability` names them.
        machine: as :func:`platform.machine` names it.
    """
    if machine in ("arm64", "aarch64"):
        return ()
    return VECTORS.get(vectors) if machine in ("x86_64", "AMD64") else None


def _load() -> Built:
    vectors, machine = torch.backends.cpu.get_cpu_capability(), platform.machine()
    chosen = flags_for(vectors, machine)
    if chosen is None or os.name != "posix":
        return Built(None, f"the kernel needs x86-64 with AVX2 or 64-bit ARM, and POSIX; this is {machine}, {vectors}")
    compiler = _compiler()
    if not compiler:
        return Built(None, "no C++ compiler: none of $CXX, c++, g++, clang++ was found")
    version = _told([*compiler, "--version"]).partition("\n")[0]
    flags = (*FLAGS, *chosen)
    folder = _cache()
    key = _key(version, machine, *compiler, *flags)
    path = _kept(folder, key) or _build(compiler, flags, folder, key)
    return Built(ctypes.CDLL(str(path)), f"{version}, {' '.join(chosen) or machine}")


def _compiler() -> list[str]:
    for words in (shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]):
        if words and shutil.which(words[0]):
            return words
    return []


def _cache() -> Path:
    """The user's folder; nobody else may write to what will be run."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "lorascope"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _key(*parts: str) -> str:
    """Of everything that the kernel is built from."""
    texts = [Path(__file__).with_name(name).read_bytes() for name in SOURCES]
    return hashlib.sha256(b"\0".join([*texts, *(part.encode() for part in parts)])).hexdigest()[:16]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _kept(folder: Path, key: str) -> Path | None:
    """One that was built before and still is what it was: its name tells its digest."""
    found = folder.glob(f"kernel-{key}-*.so")
    return next((path for path in found if path.stem.split("-")[-1] == _digest(path)), None)


def _build(compiler: list[str], flags: tuple[str, ...], folder: Path, key: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "kernel.so"
        source = str(Path(__file__).with_name(SOURCES[0]))
        _told([*compiler, *flags, source, "-o", str(made)])
        path = folder / f"kernel-{key}-{_digest(made)}.so"
        return made.replace(path)  # at once, for another process may be doing the same


def _told(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise OSError(f"{command[0]} failed with {done.returncode}: {first}")
    return done.stdout


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

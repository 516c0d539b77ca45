"""What this machine is, found out without importing torch."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

_ABSENT = "not installed"


@dataclass(frozen=True)
class Place:
    """Where a step runs: a torch device string and the number of threads on the CPU.

    What else may change without changing results: how many images are evaluated at once, and whether a dataset
    that would fit into memory stays on disk nevertheless.
    """

    device: str
    threads: int
    evaluation_batch: int = 1000
    stream: bool = False


@dataclass(frozen=True)
class Machine:
    """A machine as the plan sees it."""

    processor: str
    cores: int
    cpu_bfloat16: bool
    devices: tuple[str, ...]
    cuda_bfloat16: bool
    cuda_memory: int = 0
    """bytes on the first GPU; 0 without one"""

    def bfloat16(self, device: str) -> bool:
        """Whether the device multiplies in bfloat16 natively."""
        return self.cuda_bfloat16 if device.startswith("cuda") else self.cpu_bfloat16 and device == "cpu"


@cache
def this_machine() -> Machine:
    """This machine: processor, usable cores, devices that torch would find, best first."""
    text = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    capability, cuda_memory = _cuda() if _torch_has_cuda() else (None, 0)
    devices: tuple[str, ...] = ("cpu",)
    if capability:
        devices = ("cuda", *devices)
    elif platform.system() == "Darwin" and platform.machine() == "arm64":
        devices = ("mps", *devices)
    return Machine(
        processor=model[1].strip() if model else platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_bfloat16=bool(known & {"avx512_bf16", "amx_bf16", "bf16"}),
        devices=devices,
        cuda_bfloat16=bool(capability and capability >= (8, 0)),
        cuda_memory=cuda_memory,
    )


def available_memory() -> int:
    """Bytes of memory that a process may take without swapping: all, where the system does not tell what is free."""
    if found := re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE):
        return 1024 * int(found[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30


def environment(place: Place) -> dict[str, str | int]:
    """What numbers may depend on besides the inputs: recorded with artifacts, never keyed."""
    return {
        "autosparse": _version("autosparse"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy", "scipy", "optuna")},
        "processor": this_machine().processor,
        "device": place.device,
        "threads": place.threads,
    }


def missing_extras() -> dict[str, str]:
    """Extras of which something is not installed -> the command that installs them."""
    missing: dict[str, str] = {}
    for requirement in metadata.requires("autosparse") or []:
        extra = re.search(r"extra\s*==\s*['\"](.+?)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra[1] != "test" and _version(name[0]) == _ABSENT:
            missing[extra[1]] = f"pip install 'autosparse[{extra[1]}]'"
    return missing


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _ABSENT


def _torch_has_cuda() -> bool:
    spec = util.find_spec("torch")
    folder = next(iter(spec.submodule_search_locations or []), None) if spec else None
    version = _read(str(Path(folder) / "version.py")) if folder else ""
    return bool(re.search(r"^cuda\b.*=\s*['\"]", version, re.MULTILINE))


def _cuda() -> tuple[tuple[int, int] | None, int]:
    # Compute capability and bytes of memory. The driver's own library answers in milliseconds; asking torch costs
    # its import.
    try:
        cuda = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        device = ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return None, 0
        major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    except (OSError, AttributeError):
        return None, 0
    return (major.value, minor.value), memory.value


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

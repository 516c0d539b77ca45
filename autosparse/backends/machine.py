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

EVALUATION_BATCH = 1000
"""Images that are evaluated at once, where memory does not ask for fewer."""


@dataclass(frozen=True)
class Placement:
    """Where a step runs: a torch device string and the number of threads on the CPU.

    What else may change without changing results: how many images are evaluated at once, and whether a dataset
    that would fit into memory stays on disk nevertheless.
    """

    device: str
    threads: int
    evaluation_batch: int = EVALUATION_BATCH
    stream: bool = False
    devices: int = 1
    """how many of them train one network together; their threads are shared"""

    @property
    def usual(self) -> bool:
        """Whether nothing was changed to keep to a limit of memory."""
        return self.evaluation_batch == EVALUATION_BATCH and not self.stream


@dataclass(frozen=True)
class Machine:
    """A machine as the plan sees it."""

    processor: str
    cores: int
    cpu_bfloat16: bool
    devices: tuple[str, ...]
    cuda_bfloat16: bool
    cuda_memory: tuple[int, ...] = ()
    """bytes on every GPU"""

    def has(self, device: str) -> bool:
        """Whether torch would find a device, such as `cpu`, `cuda` or `cuda:1`."""
        kind, _, number = device.partition(":")
        if kind not in self.devices:
            return False
        return not number or int(number) < max(1, len(self.cuda_memory) if kind == "cuda" else 1)

    def bfloat16(self, device: str) -> bool:
        """Whether the device multiplies faster in bfloat16."""
        return self.cuda_bfloat16 if device.startswith("cuda") else self.cpu_bfloat16 and device == "cpu"


@cache
def this_machine() -> Machine:
    """This machine: processor, usable cores, devices that torch would find, best first."""
    text = read_system("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    capability, cuda_memory = _cuda() if _torch_has_cuda() else (None, ())
    devices: tuple[str, ...] = ("cpu",)
    if capability:
        devices = ("cuda", *devices)
    elif platform.system() == "Darwin" and platform.machine() == "arm64":
        devices = ("mps", *devices)
    return Machine(
        processor=model[1].strip() if model else platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_bfloat16=gains_by_bfloat16(known, vendor[1] if vendor else ""),
        devices=devices,
        cuda_bfloat16=bool(capability and capability >= (8, 0)),
        cuda_memory=cuda_memory,
    )


def gains_by_bfloat16(flags: set[str], vendor: str) -> bool:
    """Whether a processor of these features multiplies faster in bfloat16 than in float32."""
    # Intel's processors with AVX-512's products of bfloat16 but without AMX, as virtual machines show them, multiply
    # float32 twice as fast; AMD's multiply bfloat16 almost three times as fast.
    return bool(flags & {"amx_bf16", "bf16"}) or ("avx512_bf16" in flags and vendor != "GenuineIntel")


def available_memory() -> int:
    """Bytes of memory that a process may take without swapping: all, where the system does not tell what is free."""
    if match := re.search(r"^MemAvailable:\s*(\d+) kB", read_system("/proc/meminfo"), re.MULTILINE):
        return 1024 * int(match[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30


def system_load() -> float:
    """How many processes wanted a core over the last minute; 0 where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return 0.0


def environment(placement: Placement) -> dict[str, str | int]:
    """What numbers, seconds and memory may depend on besides the inputs: recorded with artifacts, never keyed."""
    return {
        "autosparse": _version("autosparse"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "numpy", "scipy", "optuna")},
        "processor": this_machine().processor,
        "device": placement.device,
        "threads": placement.threads,
        "evaluation_batch": placement.evaluation_batch,
        "stream": placement.stream,
        **({"devices": placement.devices} if placement.devices > 1 else {}),
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
    version = read_system(str(Path(folder) / "version.py")) if folder else ""
    return bool(re.search(r"^cuda\b.*=\s*['\"]", version, re.MULTILINE))


def _cuda() -> tuple[tuple[int, int] | None, tuple[int, ...]]:
    # Compute capability of the first GPU, and bytes of memory of all. The driver's own library answers in
    # milliseconds; asking torch costs its import.
    try:
        cuda = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        device, number = ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number)) or not number.value:
            return None, ()
        memory = []
        for index in range(number.value):
            size = ctypes.c_size_t()
            cuda.cuDeviceGet(ctypes.byref(device), index)
            cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
            memory.append(size.value)
        major, minor = ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    except (OSError, AttributeError):
        return None, ()
    return (major.value, minor.value), tuple(memory)


def read_system(path: str) -> str:
    """Return the text of a file that the system may not have; empty where it does not."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""Properties of the machine that steps run on: processor, devices and memory, read without importing torch."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from autosparse.backends.cgroups import read_system, system_bytes
from autosparse.backends.limits import default_threads, memory_without_others, usable_cores
from autosparse.lazy_torch import torch

_ABSENT = "not installed"
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)

EVALUATION_BATCH = 1000
"""Images per evaluation batch, unless memory requires fewer."""


@dataclass(frozen=True)
class Placement:
    """Placement of a step: a torch device string, the number of CPU threads, and choices that change no result."""

    device: str
    threads: int
    evaluation_batch: int = EVALUATION_BATCH
    stream: bool = False
    """streaming from disk of a dataset that would fit into memory"""
    devices: int = 1
    """number of devices that train one network together; they share the threads"""
    adaptive: bool = False
    """true if a step uses fewer threads while other processes want the cores"""

    @property
    def usual(self) -> bool:
        """True if no choice deviates from the defaults to fit a memory limit."""
        return self.evaluation_batch == EVALUATION_BATCH and not self.stream


@dataclass(frozen=True)
class Machine:
    """Machine as the plan sees it."""

    processor: str
    """name, and in brackets the instruction sets that matter for networks"""
    cores: int
    cpu_bfloat16: bool
    devices: tuple[str, ...]
    cuda_bfloat16: bool
    cuda_memory: tuple[int, ...] = ()
    """bytes on every GPU"""
    most_threads: int | None = None
    """default limit of a process's threads, as OpenMP's variables set it; None for all cores"""

    @property
    def threads(self) -> int:
        """The default number of threads."""
        return min(self.cores, self.most_threads or self.cores)

    def has(self, device: str) -> bool:
        """Return whether torch would find a device, such as `cpu`, `cuda` or `cuda:1`."""
        kind, _, number = device.partition(":")
        if kind not in self.devices:
            return False
        return not number or int(number) < max(1, len(self.cuda_memory) if kind == "cuda" else 1)

    def bfloat16(self, device: str) -> bool:
        """Return whether the device multiplies faster in bfloat16."""
        return self.cuda_bfloat16 if device.startswith("cuda") else self.cpu_bfloat16 and device == "cpu"


@cache
def this_machine() -> Machine:
    """Return this machine: processor, usable cores, and the devices that torch would find, best first."""
    entries = re.findall(r"^([^\t\n:]+)\t*: *(.+)$", read_system("/proc/cpuinfo"), re.MULTILINE)
    facts: dict[str, str] = dict(reversed(entries))  # of the first processor
    flags = {*facts.get("flags", "").split(), *facts.get("Features", "").split()}
    capability, cuda_memory = _cuda() if _torch_has_cuda() else (None, ())
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Machine(
        processor=processor_name(facts.get("model name", "").strip(), flags),
        cores=(cores := usable_cores()).value,
        cpu_bfloat16=gains_by_bfloat16(flags, facts.get("vendor_id", "")),
        devices=("cuda", "cpu") if capability else ("mps", "cpu") if is_apple else ("cpu",),
        cuda_bfloat16=bool(capability and capability >= (8, 0)),
        cuda_memory=cuda_memory,
        most_threads=default_threads(cores).value,
    )


_INSTRUCTIONS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "AMX": {"amx_tile"},
    "int8 products": {"asimddp"},
    "SVE": {"sve"},
}
"""Name -> the flags of Linux that say a processor has the instructions, which decide how fast networks run."""


def processor_name(name: str, flags: set[str]) -> str:
    """Return the name of a processor with its instruction sets: virtual machines call different ones `AMD EPYC`."""
    sets = " ".join(sets for sets, any_of in _INSTRUCTIONS.items() if flags & any_of)
    return f"{name or platform.processor() or platform.machine()}{f' ({sets})' if sets else ''}"


def gains_by_bfloat16(flags: set[str], vendor: str) -> bool:
    """Return whether a processor with these features multiplies faster in bfloat16 than in float32."""
    # Intel processors with bfloat16 products of AVX-512 but no AMX, as on virtual machines, multiply float32 twice as
    # fast; AMD processors multiply bfloat16 almost three times as fast.
    return bool(flags & {"amx_bf16", "bf16"}) or ("avx512_bf16" in flags and vendor != "GenuineIntel")


def environment(placement: Placement) -> dict[str, str | int]:
    """Return facts that may affect results, times and memory in addition to the inputs; not part of the cache key."""
    return {
        "autosparse": version_of("autosparse"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "torchvision", "numpy", "scipy", "optuna")},
        "processor": this_machine().processor,
        "device": placement.device,
        "threads": placement.threads,
        "evaluation_batch": placement.evaluation_batch,
        "stream": placement.stream,
        **({"devices": placement.devices} if placement.devices > 1 else {}),
    }


def missing_extras() -> dict[str, str]:
    """Return the extras with a missing package -> the command that installs them."""
    missing: dict[str, str] = {}
    for requirement in metadata.requires("autosparse") or []:
        extra = re.search(r"extra\s*==\s*['\"](.+?)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra[1] != "test" and version_of(name[0]) == _ABSENT:
            missing[extra[1]] = f"pip install 'autosparse[{extra[1]}]'"
    return missing


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, or `not installed`."""
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
    # Compute capability of the first GPU, and memory of all GPUs in bytes. The driver library answers in milliseconds;
    # importing torch takes seconds.
    def ask(function: Any, *arguments: int, kind: Any = ctypes.c_int) -> int:
        answer = kind()
        function(ctypes.byref(answer), *arguments)
        return int(answer.value)

    try:
        cuda = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        devices = [] if cuda.cuInit(0) else [ask(cuda.cuDeviceGet, at) for at in range(ask(cuda.cuDeviceGetCount))]
        if not devices:
            return None, ()
        memory = tuple(ask(cuda.cuDeviceTotalMem_v2, device, kind=ctypes.c_size_t) for device in devices)
        major, minor = (ask(cuda.cuDeviceGetAttribute, attribute, devices[0]) for attribute in (75, 76))
    except (OSError, AttributeError):
        return None, ()
    return (major, minor), memory


def memory_of(device: str) -> int:
    """Return the memory of a target in bytes: the device's, or the part of the machine's that is left to this process.

    It is read once: a plan keeps its limit.
    """
    memories, index = this_machine().cuda_memory, int(device.partition(":")[2] or 0)
    return memories[index] if device.startswith("cuda") and index < len(memories) else _host_memory()


class PeakMemory:
    """Peak memory since creation: of the process, or on a GPU the memory that torch reserved."""

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else ""
        self._resettable = not self._cuda and _reset_peak()
        self._before = _highest()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    @property
    def bytes(self) -> int | None:
        """Peak in bytes; None where the system reports only the all-time peak, and it did not rise."""
        if self._cuda:
            return int(torch.cuda.max_memory_reserved(self._cuda))
        now = _highest()
        return now if self._resettable or now > self._before else None


def release_memory() -> None:
    """Return freed memory to the system: C libraries keep it, and it would count in the next step's peak."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library of that name
        ctypes.CDLL(None).malloc_trim(0)  # glibc


def keep_memory() -> None:
    """Keep up to 2 GiB of freed memory in the C library: tensors else allocate it page by page in every step."""
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def resident_memory(*, children: bool = False) -> int:
    """Return the resident bytes of this process, with `children` of its child processes too; else the all-time peak."""
    tasks = Path("/proc/self/task").glob("*/children") if children else ()
    processes = ["self", *(process for task in tasks for process in read_system(str(task)).split())]
    return sum(system_bytes(f"/proc/{process}/status", "VmRSS") for process in processes) or _highest()


def private_memory() -> int:
    """Return the resident bytes that no other process shares, without pages of libraries; 0 where unknown."""
    return system_bytes("/proc/self/status", "RssAnon")


def _highest() -> int:
    if highest := system_bytes("/proc/self/status", "VmHWM"):
        return highest
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


@cache
def _host_memory() -> int:
    return memory_without_others()

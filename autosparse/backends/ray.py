"""Steps as tasks of a Ray cluster, or of one that is begun on this machine alone.

Names, numbers and texts travel; what steps read and write goes through the store. A task that a lost machine or process
took with it is submitted again: whatever it had published is found there.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType, TracebackType
from typing import Annotated, Any

from autosparse.backends import Result, Tell, Work, backends
from autosparse.backends.local import local
from autosparse.backends.machine import Place
from autosparse.errors import (
    AutosparseError,
    FitError,
    MissingExtra,
    MissingRequirement,
    StepError,
    UsageError,
)

_AGAIN = 10  # times that a step is begun anew after a machine or process was lost
_AHEAD, _AHEAD_SCALING = 2, 64  # steps that are submitted beyond the room that there is
_LOOKS = 5.0  # seconds between two looks at which machines there are
_PATIENCE = 0.2  # seconds between two looks at what is told
_CURRENT = "/tmp/ray/ray_current_cluster"  # where `ray start` leaves the address of its cluster


@backends.register
def ray(
    place: Place,
    *,
    address: Annotated[
        str, "`auto` is the cluster that this machine belongs to, `local` one of its own that ends with the run"
    ] = "auto",
    trusted: Annotated[bool, "whether a cluster that asks for no token may be reached over a network"] = False,
    scales: Annotated[bool, "whether the cluster starts machines when they are asked for: nothing is refused"] = False,
) -> _Ray:
    """As tasks of a Ray cluster (extra `ray`), many at once, each with the threads, GPU and memory that it takes."""
    return _Ray(place, address, trusted=trusted, scales=scales)


class _Ray:
    def __init__(self, place: Place, address: str, *, trusted: bool, scales: bool) -> None:
        self._place, self._here = place, local(place)
        self._address, self._trusted, self._scales = address, trusted, scales

    def prepare(self) -> None:
        self._here.prepare()

    def run(self, work: Callable[[Place], Result]) -> Result:
        return self._here.run(work)  # what a report finds damaged is made again where it is read

    def crew(self, work: Work, memory: Mapping[str, int], *, same_machine: bool) -> _Crew:
        """Tasks of a cluster; with `same_machine` all of its nodes must be on this one."""
        return _Crew(self._address, self._place, work, memory, self._trusted, self._scales, same_machine)


class _Crew:
    """Steps that are tasks; a context manager that leaves none behind."""

    def __init__(
        self,
        address: str,
        place: Place,
        work: Work,
        memory: Mapping[str, int],
        trusted: bool,
        scales: bool,
        same_machine: bool,
    ) -> None:
        self._ray = _library()
        self._address = address if address == "local" else _known(address, trusted=trusted)
        self._needs = {"CPU": place.threads, "GPU": place.devices if place.device.startswith("cuda") else 0}
        self._memory = memory
        self._scales, self._same_machine = scales, same_machine
        self._work = work
        self._at: dict[Any, str] = {}
        self._lost: dict[str, int] = {}
        self._stdout = -1
        self._slots, self._looked = 1, -_LOOKS

    def __enter__(self) -> _Crew:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray").setLevel(logging.ERROR)
        sys.stdout.flush()
        # Ray and its processes write there, whatever they are told: what is lost, and pages of logs about it. The run
        # tells what matters of that itself.
        self._stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        try:
            self._begin()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._ray.is_initialized():
                for task in self._at:
                    with suppress(Exception):
                        self._ray.cancel(task, force=True)
                self._ray.shutdown()
        finally:
            os.dup2(self._stdout, 1)
            os.close(self._stdout)

    @property
    def busy(self) -> bool:
        """Whether any step is a task."""
        return bool(self._at)

    @property
    def idle(self) -> Iterator[None]:
        """As many as the cluster has room for, and a few more: which of the others comes next is chosen when it can."""
        room = self._room() + (_AHEAD_SCALING if self._scales else _AHEAD)
        while len(self._at) < room:
            yield None

    def make(self, worker: None, name: str) -> None:
        """Submit a step."""
        options: dict[str, Any] = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"], "name": name}
        if name in self._memory:
            options["memory"] = self._memory[name]
        self._at[self._task.options(**options).remote(self._work, name, self._board)] = name

    def hear(self) -> Iterator[tuple[Any, ...]]:
        """What tasks tell, as soon as one of them does, and how those ended that did."""
        self._ray.wait([*self._at], num_returns=1, timeout=_PATIENCE)
        done, _ = self._ray.wait([*self._at], num_returns=len(self._at), timeout=0)
        with suppress(self._ray.exceptions.RayError):
            yield from self._ray.get(self._board.drain.remote())
        for task in done:
            name = self._at.pop(task)
            try:
                yield from self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                yield self._again(name, error)

    def check(self, name: str) -> None:
        """Raise FitError for a step that no machine of the cluster has room for."""
        if self._scales:
            return
        needs = {**self._needs, "memory": self._memory.get(name, 0)}
        nodes = self._nodes()
        if any(all(node.get(what, 0) >= number for what, number in needs.items()) for node in nodes):
            return
        what, number = next(
            ((what, number) for what, number in needs.items() if all(n.get(what, 0) < number for n in nodes)),
            ("CPU", self._needs["CPU"]),
        )
        most = max((node.get(what, 0) for node in nodes), default=0)
        told = {"CPU": "threads", "GPU": "GPUs", "memory": "bytes of memory"}[what]
        raise FitError(
            f"step `{name}` takes {number:,} {told}, and no machine of the cluster has more than {most:,.0f}",
            "add one, or `--set target.backend.scales=true` where the cluster adds it itself",
        )

    def _nodes(self) -> list[Mapping[str, float]]:
        # What the machines that are there have.
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        # Machines come and go.
        now = time.monotonic()
        if now - self._looked > _LOOKS:
            needs = [(what, number) for what, number in self._needs.items() if number]
            self._slots = sum(min(int(node.get(what, 0) // number) for what, number in needs) for node in self._nodes())
            self._looked = now
        return self._slots

    def _begin(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        try:
            if self._address == "local":
                # Within the machine alone: nothing listens for others.
                self._ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
            else:
                self._ray.init(self._address, **quiet)
        except Exception as error:
            told = " ".join(str(error).split())
            raise MissingRequirement(
                f"the cluster at {self._address} cannot be reached: {told}", "`ray status` tells how it is"
            ) from error
        hosts = {node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]}
        if self._same_machine and len(hosts) > 1:
            raise UsageError(
                f"the cluster has {len(hosts)} machines, and the cache is on one of them",
                "name what they share: `--set store=s3://bucket/prefix`, or a folder that all of them mount",
            )
        here = self._ray.get_runtime_context().get_node_id()
        near = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._board = self._ray.remote(Board).options(num_cpus=0, scheduling_strategy=near).remote()
        self._task = self._ray.remote(max_retries=0)(act)

    def _again(self, name: str, error: Exception) -> tuple[Any, ...]:
        # Its process or machine is gone: whatever it was, the step can be begun anew.
        self._lost[name] = self._lost.get(name, 0) + 1
        reason = type(error).__name__
        if self._lost[name] > _AGAIN or isinstance(error, self._ray.exceptions.RuntimeEnvSetupError):
            first = next(iter(str(error).splitlines()), "")
            failed = StepError(
                f"step `{name}` failed: its process was lost {self._lost[name]} times ({reason}: {first})",
                "where memory ran out, `target.memory` says how much there is",
            )
            return "failed", failed
        self.make(None, name)
        return "note", f"`{name}` is begun again: its process was lost ({reason})"


class Board:
    """Where tasks write what happens, until the run reads it."""

    def __init__(self) -> None:
        self._told: list[tuple[Any, ...]] = []

    def tell(self, told: tuple[Any, ...]) -> None:
        """Write."""
        self._told.append(told)

    def drain(self) -> list[tuple[Any, ...]]:
        """Read and wipe."""
        told, self._told = self._told, []
        return told


def act(work: Work, name: str, board: Any) -> list[tuple[Any, ...]]:
    """Make a step in a task: what happens meanwhile goes to the board, how it ended is the result."""
    ended: list[tuple[Any, ...]] = []

    def tell(*told: Any) -> None:
        if told[0] in ("started", "progress", "waiting"):
            board.tell.remote(told)
        else:
            ended.append(told)

    try:
        work(name, tell)
    except AutosparseError as error:
        ended.append(("failed", error))
    return ended


def _library() -> ModuleType:
    try:
        import ray as library
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtra("backend `ray` needs ray", "run `pip install 'autosparse[ray]'`") from error
    return library


def _known(address: str, *, trusted: bool) -> str:
    """The address of a cluster. Raises UsageError for one over a network that asks for no token."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _current()
    if "://" in address:
        raise UsageError(
            f"the cluster at {address} would be reached through a proxy, which steps cannot be followed through",
            "run on a machine of the cluster, as by `ray job submit`",
        )
    host = address.rpartition(":")[0].strip("[]") or address
    if not trusted and not _is_loopback(host) and os.environ.get("RAY_AUTH_MODE") != "token":
        raise UsageError(
            f"the cluster at {address} is reached over a network and asks for no token: anyone there may run anything",
            "set RAY_AUTH_MODE=token where it is started and here, or `--set target.backend.trusted=true`",
        )
    return address


def _current() -> str:
    try:
        with open(_CURRENT, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        raise MissingRequirement(
            "there is no Ray cluster on this machine",
            "`ray start --head` begins one, `--set target.backend.address=local` one for this run alone",
        ) from None


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


__all__ = ["Board", "Tell", "act", "ray"]

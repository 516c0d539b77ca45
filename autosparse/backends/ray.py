"""Steps as tasks of a Ray cluster: they read and write the store, and are retried after a node failure."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Annotated, Any

from autosparse.backends._base import Event, Note, Progress, Raised, Result, RunStep, Started, Waiting, backends, local
from autosparse.backends.limits import Limits, this_process
from autosparse.backends.machine import Placement
from autosparse.borders import is_of_machine, optional
from autosparse.errors import AutosparseError, FitError, MissingRequirement, StepError, UsageError
from autosparse.foreign_code import is_ours, unexpected

_LEAST_OBJECTS = 80 * 2**20  # bytes of objects, of which Ray requires 75 MiB
_AGAIN = 10  # retries of a step after a node or process failure
_AHEAD, _AHEAD_SCALING = 2, 64  # tasks that are submitted beyond the free capacity
_LOOKS = 5.0  # seconds between two checks of the cluster's nodes
_PATIENCE = 0.2  # seconds between two reads of the event board
_GONE = 120.0  # seconds that a step waits for a node with capacity, if one existed before
_CURRENT = "/tmp/ray/ray_current_cluster"  # file of `ray start` with the address of its cluster


@backends.register
def ray(
    placement: Placement,
    *,
    address: Annotated[str, "cluster address; auto: this machine's cluster, local: a new one for the run"] = "auto",
    trusted: Annotated[bool, "allow clusters without tokens on a network"] = False,
    scales: Annotated[bool, "autoscaling cluster: accept steps that need more than the current nodes"] = False,
) -> _Ray:
    """Run as tasks of a Ray cluster (extra `ray`), in parallel, each with its threads, GPU and memory reserved."""
    return _Ray(placement, address, trusted, scales)


@dataclass(frozen=True)
class _Ray:
    placement: Placement
    address: str
    trusted: bool
    scales: bool

    def prepare(self) -> None:
        local(self.placement).prepare()

    def run(self, work: Callable[[Placement], Result]) -> Result:
        return local(self.placement).run(work)  # for damaged artifacts, rebuilt by the reader

    def pool(self, work: RunStep, memory: Mapping[str, int], *, same_machine: bool) -> _Pool:
        """Return a pool of tasks on the cluster; with `same_machine` all of its nodes must be this machine."""
        return _Pool(self, work, memory, same_machine=same_machine)


class _Pool:
    """Pool of steps as tasks; a context manager that cancels all tasks at its end."""

    def __init__(self, backend: _Ray, work: RunStep, memory: Mapping[str, int], *, same_machine: bool) -> None:
        self._ray = _library()
        self._work, self._memory, self._same_machine = work, memory, same_machine
        self._trusted, self._scales = backend.trusted, backend.scales
        self._address = "local" if backend.address == "local" else _known(backend.address, trusted=backend.trusted)
        on_gpu = backend.placement.device.startswith("cuda")
        self._needs = {"CPU": backend.placement.threads, "GPU": backend.placement.devices if on_gpu else 0}
        self._at: dict[Any, str] = {}
        self._lost: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._waiting: dict[str, float] = {}  # step -> time since which no node has capacity for it
        self._slots, self._looked, self._asked = 1, -_LOOKS, time.monotonic()

    def __enter__(self) -> _Pool:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray").setLevel(logging.ERROR)
        sys.stdout.flush()
        # Ray and its processes write pages of logs to it, whatever their configuration. The run reports node failures.
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
                self._ray.shutdown()  # shutdown ends the tasks: cancelling a task that just ends would end this process
        finally:
            os.dup2(self._stdout, 1)
            os.close(self._stdout)
        if error is not None and error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__  # a signal, wrapped by Ray

    @property
    def busy(self) -> bool:
        """True while any task runs."""
        return bool(self._at)

    @property
    def idle(self) -> Iterator[None]:
        """Free slots of the cluster, an item each, and a few more: the next step is chosen as late as possible."""
        room = self._room() + (_AHEAD_SCALING if self._scales else _AHEAD)
        while len(self._at) < room:
            yield None

    def start(self, worker: None, name: str) -> None:
        """Submit a step as a task."""
        options: dict[str, Any] = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"], "name": name}
        if name in self._memory:
            options["memory"] = self._memory[name]
        self._at[self._task.options(**options).remote(self._work, name, self._board)] = name

    def receive(self) -> Iterator[Event | Raised]:
        """Yield the events of running tasks, then those of ended tasks; wait briefly for the first."""
        self._ray.wait([*self._at], num_returns=1, timeout=_PATIENCE)
        done, _ = self._ray.wait([*self._at], num_returns=len(self._at), timeout=0)
        with suppress(self._ray.exceptions.RayError):
            for event in self._ray.get(self._board.drain.remote()):
                if isinstance(event, Started):
                    self._begun.add(event.step)
                yield event
        for task in done:
            if (name := self._at.pop(task, None)) is None:
                continue
            try:
                ended = self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:  # no node failure: a retry would fail too
                ended = [Raised(_broken(name, error.cause))]
            except self._ray.exceptions.RayError as error:
                ended = [self._retry(name, error)]
            yield from self._checked(ended)
        yield from self._checked(self._without_machine())

    def _checked(self, events: Iterable[Event | Raised]) -> Iterator[Event | Raised]:
        for event in events:
            if isinstance(event, Raised) and not event.error.step:  # the error ends the run
                self._drop()
            yield event

    def _drop(self) -> None:
        # Cancel all but the running tasks, then end the run.
        for task, name in [*self._at.items()]:
            if name not in self._begun:
                with suppress(Exception):
                    self._ray.cancel(task)
                del self._at[task]

    def _without_machine(self) -> Iterator[Event | Raised]:
        # Steps whose only suitable nodes have left the cluster.
        now = time.monotonic()
        if self._scales or now - self._asked < _LOOKS:
            return
        self._asked = now
        for name in [*self._at.values()]:
            try:
                if name not in self._begun:
                    self.check(name)
                self._waiting.pop(name, None)
            except FitError as error:
                if name not in self._waiting:
                    self._waiting[name] = now
                    yield Note(f"{error.message}: it waits for one")
                elif now - self._waiting[name] > _GONE:
                    yield Raised(error)
                    return

    def check(self, name: str) -> None:
        """Raise FitError for a step that no node of the cluster has capacity for."""
        if self._scales:
            return
        needs = {**self._needs, "memory": self._memory.get(name, 0)}
        nodes = self._nodes()
        if any(_fits(needs, node) for node in nodes):
            return
        units = {"CPU": "threads", "GPU": "GPUs", "memory": "bytes of memory"}
        most = {what: max((node.get(what, 0) for node in nodes), default=0) for what in needs}
        lacking = [what for what, number in needs.items() if most[what] < number]
        asked = " and ".join(f"{needs[w]:,} {units[w]}" for w in (lacking[:1] or [w for w in needs if needs[w]]))
        limit = f"has more than {most[lacking[0]]:,.0f}" if lacking else "has all of that"
        raise FitError(
            f"step `{name}` takes {asked}, and no machine of the cluster {limit}",
            "add one, or `--set target.backend.scales=true` where the cluster adds it itself",
        )

    def _nodes(self) -> list[Mapping[str, float]]:
        # Resources of the live nodes.
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        # Nodes join and leave.
        now = time.monotonic()
        if now - self._looked > _LOOKS:
            self._slots, self._looked = sum(_fits(self._needs, node) for node in self._nodes()), now
        return self._slots

    def _begin(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if self._address == "local":  # local only: no port is open to other machines
            options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", **_within(this_process())}
        ends = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(self._address, **options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ends)  # Ray has replaced the handler
        except Exception as error:
            reason = " ".join(str(error).split())
            raise MissingRequirement(
                f"the cluster at {self._address} cannot be reached: {reason}", "`ray status` shows its state"
            ) from error
        hosts = {node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]}
        if not self._trusted:
            for host in hosts:  # this machine's address may belong to a cluster of many nodes
                _check_trust(host)
        if self._same_machine and len(hosts) > 1:
            raise UsageError(
                f"the cluster has {len(hosts)} machines, and the cache is on one of them",
                "name what they share: `--set store=s3://bucket/prefix`, or a folder that all of them mount",
            )
        here = self._ray.get_runtime_context().get_node_id()
        near = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._board = self._ray.remote(Board).options(num_cpus=0, scheduling_strategy=near).remote()
        self._task = self._ray.remote(max_retries=0)(act)

    def _retry(self, name: str, error: Exception) -> Event | Raised:
        # The process or node failed, not the step.
        self._begun.discard(name)
        self._lost[name] += 1
        reason = type(error).__name__
        if self._lost[name] > _AGAIN or isinstance(error, self._ray.exceptions.RuntimeEnvSetupError):
            first = next(iter(str(error).splitlines()), "")
            failed = StepError(
                f"step `{name}` failed: its process was lost {self._lost[name]} times ({reason}: {first})",
                "where memory ran out, `target.memory` says how much there is",
            )
            if self._lost[name] > _AGAIN:
                failed.step = name
            return Raised(failed)
        self.start(None, name)
        return Note(f"`{name}` is retried: its process was lost ({reason})")


def _within(limits: Limits) -> dict[str, int]:
    # Options of a cluster for this run alone: Ray reads the limits of the outermost control group only. Steps exchange
    # artifacts through the store, so that a tenth of the memory is enough for objects.
    options = {"num_cpus": limits.cores.value}
    if limits.memory.source != "the machine":
        objects = max(_LEAST_OBJECTS, limits.memory.value // 10)
        options |= {"object_store_memory": objects, "_memory": max(0, limits.memory.value - objects)}
    return options


def _fits(needs: Mapping[str, int], node: Mapping[str, float]) -> int:
    # Number of steps with these needs that fit on a node.
    return min(int(node.get(what, 0) // number) for what, number in needs.items() if number)


class Board:
    """Actor that collects the events of running tasks until the run reads them."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)

    def drain(self) -> list[Event]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events


def act(work: RunStep, name: str, board: Any) -> list[Event | Raised]:
    """Run a step in a task: send progress events to the board and return the others."""
    ended: list[Event | Raised] = []

    def emit(event: Event) -> None:
        if isinstance(event, Started | Progress | Waiting):
            board.put.remote(event)
        else:
            ended.append(event)

    try:
        work(name, emit)
    except AutosparseError as error:
        ended.append(Raised(error))
    except Exception as error:
        known = is_ours(error) or is_of_machine(error)
        ended.append(Raised(unexpected(error, name) if known else _broken(name, error)))
    return ended


def _broken(name: str, error: BaseException) -> StepError:
    message = f"step `{name}` failed: {type(error).__name__}: {error}"
    return StepError(message, "every machine must have the same release of autosparse and its libraries")


def _library() -> ModuleType:
    with optional("ray", purpose="backend `ray`", install="'autosparse[ray]'"):
        import ray as library
        import ray.util.scheduling_strategies
    return library


def _known(address: str, *, trusted: bool) -> str:
    """Return the address of a cluster. Raises UsageError for one over a network without token authentication."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _current()
    if "://" in address:
        raise UsageError(
            f"the cluster at {address} would be reached through a proxy, which steps cannot be followed through",
            "run on a machine of the cluster, as by `ray job submit`",
        )
    if not trusted:
        _check_trust(address.rpartition(":")[0].strip("[]") or address)
    return address


def _check_trust(host: str) -> None:
    """Raise UsageError for a machine that others reach without a token, as far as this machine knows."""
    is_loopback = host == "localhost"
    with suppress(ValueError):
        is_loopback = ipaddress.ip_address(host).is_loopback
    if not is_loopback and os.environ.get("RAY_AUTH_MODE") != "token":
        raise UsageError(
            f"the cluster at {host} is reached over a network and asks for no token: anyone there may run anything",
            "set RAY_AUTH_MODE=token where it is started and here, or `--set target.backend.trusted=true`",
        )


def _current() -> str:
    try:
        return Path(_CURRENT).read_text(encoding="utf-8").strip()
    except OSError:
        raise MissingRequirement(
            "there is no Ray cluster on this machine",
            "`ray start --head` starts one, `--set target.backend.address=local` one for this run alone",
        ) from None

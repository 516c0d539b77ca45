"""Where else a run's numbers go: programs that people follow runs with, `pip install 'autosparse[track]'`.

A tracker is a registered function of what is `Followed`; its keyword-only arguments are the options in YAML. It says of
itself which `package` must be installed. Numbers are named by the steps that measured them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from autosparse.registry import Registry


@dataclass(frozen=True)
class Followed:
    """A run: its name, its folder, and the settings of its spec, path -> value."""

    name: str
    folder: Path
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """Takes numbers as they come; `close` is told whether the run came to its end."""

    def log(self, name: str, value: float, step: int) -> None: ...
    def close(self, *, finished: bool) -> None: ...


Open: TypeAlias = Callable[..., Tracker]
trackers: Registry[Open] = Registry("tracker", "trackers")

"""Generated specs and options, by the strategies of the tests of hostile specs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from tests.faults.commands import References
from tests.faults.judge import Verdict
from tests.faults.kinds import Trial

_EXAMPLES = 200
_TESTS = "tests.faults.test_specs"


def specs(known: References, random: Random) -> Iterator[Trial]:
    """Load two hundred generated specs at a time: only errors of autosparse leave the loader."""
    if find_spec(_TESTS) is None:
        return
    handle: Any = import_module(_TESTS).test_only_errors_of_ours_leave_the_loader.hypothesis
    while True:
        number = random.getrandbits(64)

        def judge(number: int = number) -> Verdict:
            return _judge(known, handle, number)

        yield Trial(f"{_EXAMPLES} specs of hypothesis, seed {number}", judge, _EXAMPLES)


def _judge(known: References, handle: Any, number: int) -> Verdict:
    folder = known.world.folder
    folder.mkdir(exist_ok=True)

    def load(**drawn: Any) -> None:
        handle.inner_test(folder, **drawn)

    rules = settings(
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    try:
        given(**handle._given_kwargs)(rules(seed(number)(load)))()
    except Exception as error:
        example = " ".join(getattr(error, "__notes__", ()))
        return Verdict("failed", f"{type(error).__name__}: {str(error)[:160]} {' '.join(example.split())[:300]}")
    return Verdict("one line")

"""Threads of torch during calls of the Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from autosparse.api import prune, score, self_test
from autosparse.backends import usable_cores
from autosparse.errors import OwnCodeError

MANY = usable_cores().value + 2
BATCH = torch.ones(4, 3), torch.arange(4) % 2


@pytest.fixture
def many_threads() -> Iterator[None]:
    """Give torch more threads than cores, as it has by default in a container with a quota."""
    before = torch.get_num_threads()
    torch.set_num_threads(MANY)
    yield
    torch.set_num_threads(before)


def calls() -> dict[str, Callable[..., Any]]:
    """The entry points that compute with the caller's network and loss."""
    return {
        "prune": lambda model, loss: prune(model, [BATCH], 0.5, method="snip", loss=loss),
        "score": lambda model, loss: score(model, [BATCH], criterion="snip", loss=loss),
    }


@pytest.mark.parametrize("name", calls())
@pytest.mark.usefixtures("many_threads")
def test_a_call_uses_the_usable_cores_and_restores_the_number(name: str) -> None:
    """Within the call torch has at most one thread a core; the caller has its own number again afterwards."""
    seen = []

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return torch.nn.functional.cross_entropy(outputs, y)

    calls()[name](torch.nn.Linear(3, 2), loss)

    assert seen
    assert max(seen) <= usable_cores().value
    assert MANY == torch.get_num_threads()


@pytest.mark.parametrize("name", calls())
@pytest.mark.usefixtures("many_threads")
def test_an_error_restores_the_number(name: str) -> None:
    """An error of the caller's loss leaves the caller's number of threads."""

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(1)  # a loss that changes the number itself
        raise ZeroDivisionError

    with pytest.raises(OwnCodeError, match="ZeroDivisionError"):
        calls()[name](torch.nn.Linear(3, 2), loss)

    assert MANY == torch.get_num_threads()


@pytest.mark.usefixtures("many_threads")
def test_the_self_test_and_examinations_restore_the_number() -> None:
    """The other entry points that compute leave the caller's number of threads."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    masks = prune(model, [BATCH], 0.5, method="magnitude")
    masks.examine(BATCH[0])

    assert "" == self_test("cpu").problem
    assert MANY == torch.get_num_threads()


def test_one_thread_stays_one_thread() -> None:
    """A caller with a single thread keeps it: the number is never raised."""
    seen = []

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return torch.nn.functional.cross_entropy(outputs, y)

    score(torch.nn.Linear(3, 2), [BATCH], criterion="snip", loss=loss)

    assert {1} == {*seen}

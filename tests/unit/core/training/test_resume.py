"""An interrupted training continues from its checkpoint with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.torch_compat.random_state import global_states, restore_global_states, seeded
from autosparse.core.training.loop import train, train_sparse
from autosparse.core.training.recipe import Recipe
from autosparse.core.training.update_rules import update_rules
from autosparse.core.weights import Tensors
from tests.unit.core.conftest import Small, assert_same, images_of, random_masks, small, snapshot
from tests.unit.core.conftest import seeded as generator
from tests.unit.core.training.test_update_rules import pruning_of

RECIPE = Recipe(epochs=3.5, batch=4, lr=0.05, crop=1, precision="float32")
IMAGES = 18  # five batches an epoch, the last one smaller


class Interrupted(Exception):
    """The end of a process in the middle of a training."""


class Memory:
    """A checkpoint in memory that is saved after every step, and ends the training after some of them."""

    def __init__(self, steps: int) -> None:
        self.steps, self.saved = steps, 0
        self.content: tuple[dict[str, Any], Tensors] | None = None

    @property
    def is_due(self) -> bool:
        """After every step."""
        return True

    def load(self) -> tuple[dict[str, Any], Tensors] | None:
        """The state that was saved last."""
        return self.content

    def save(self, value: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Keep copies, and end the training after the last of the steps."""
        self.content = dict(value), {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.saved += 1
        if self.saved == self.steps:
            raise Interrupted


class Dropping(Small):
    """A network that draws from torch's global generator while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch, with dropout."""
        return super().forward(nn.functional.dropout(x, 0.3, training=self.training))


def network() -> Small:
    """The small network with dropout, always the same."""
    made = Dropping()
    made.load_state_dict(small().state_dict())
    return made


@pytest.mark.parametrize("steps", [1, 4, 5, 9, 17])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_continues_with_the_same_bytes(optimizer: Any, steps: int) -> None:
    """At any step, also in the middle of an epoch: weights, statistics and losses are the same."""
    recipe = replace(RECIPE, optimizer=optimizer)
    whole = network()
    with seeded(5):
        expected = train(whole, images_of(IMAGES), recipe, generator(1), masks=random_masks(small()))
    memory, interrupted = Memory(steps), network()
    with seeded(5), pytest.raises(Interrupted):
        train(interrupted, images_of(IMAGES), recipe, generator(1), masks=random_masks(small()), checkpoint=memory)
    resumed = network()
    with seeded(99):
        losses = train(resumed, images_of(IMAGES), recipe, generator(1), masks=random_masks(small()), checkpoint=memory)

    assert expected == losses
    assert_same(snapshot(whole), snapshot(resumed))


@pytest.mark.parametrize("steps", [2, 11, 23])
@pytest.mark.parametrize("rule", [entry.name for entry in update_rules])
def test_sparse_training_continues_with_the_same_bytes(rule: str, steps: int) -> None:
    """Masks, their changes and the rule's random draws as well, whatever rule changes them."""

    def trained(memory: Memory | None, seed: int) -> tuple[Tensors, Any]:
        sparse = update_rules[rule].facts["starts"] == "sparse"
        options: dict[str, Any] = {"grow": "random", "every": 2} if rule == "drop_and_grow" else {}
        if rule == "iterative":
            options = {"rounds": 2}
        updates = update_rules[rule].function(pruning_of(small(), 20), generator(3), **options)
        model, masks = network(), random_masks(small()) if sparse else None
        with seeded(seed):
            course = train_sparse(
                model, images_of(IMAGES), RECIPE, generator(1), updates, masks=masks, checkpoint=memory
            )
        return snapshot(model), course

    whole, expected = trained(None, 5)
    memory = Memory(steps)
    if steps >= 17 and rule != "iterative":
        memory.steps = 16
    with pytest.raises(Interrupted):
        trained(memory, 5)
    resumed, course = trained(memory, 99)

    assert_same(whole, resumed)
    assert_same(expected.masks, course.masks)
    assert expected.changes == course.changes
    assert expected.losses == course.losses


def test_global_generators_are_restored() -> None:
    """Torch, Python and numpy draw the same numbers again, through JSON and tensors."""
    import json
    import random

    import numpy

    with seeded(3):
        tensors, value = global_states()
        drawn = torch.rand(3), random.random(), numpy.random.rand()
        restore_global_states(tensors, json.loads(json.dumps(value)))
        again = torch.rand(3), random.random(), numpy.random.rand()

    assert torch.equal(drawn[0], again[0])
    assert drawn[1:] == again[1:]

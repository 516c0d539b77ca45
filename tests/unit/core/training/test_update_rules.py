"""Masks that change during training: dynamic sparse training, gradual, alternating and iterative pruning."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.schedule import Pruning, exponential_counts
from autosparse.core.selection import selections
from autosparse.core.training.loop import SparseTraining, train, train_sparse
from autosparse.core.training.recipe import Recipe, training_steps_of
from autosparse.core.training.update_rules import drawn_by, exchanged, exchanged_in_rows, path_products, update_rules
from autosparse.core.training.updates import MaskUpdates, Moment
from autosparse.core.weights import describe_layers, full_masks, kept, prunable_weights, total_of
from tests.unit.core.conftest import SHAPE, Small, assert_same, images_of, random_masks, seeded, small

RECIPE = Recipe(epochs=6, batch=4, lr=0.05, crop=0, precision="float32")
IMAGES = 12
STEPS = 18


def pruning_of(model: torch.nn.Module, keep: int, allocation: str = "global") -> Pruning:
    """Magnitude of the trained weights, in the quotas of an allocation."""
    example = torch.zeros((1, *SHAPE))
    evidence = Evidence.dense(model, describe_layers(model, example), lambda count: [], seeded(0), lambda: example)
    return Pruning(
        evidence,
        total_of(evidence.weights),
        keep,
        score=criteria["magnitude"].function,
        allocate=allocations[allocation].function,
        select=selections["top"].function,
    )


def trained(
    rule: str, recipe: Recipe = RECIPE, *, sparse: bool = False, **options: Any
) -> tuple[Small, SparseTraining]:
    """A small network trained under a rule that leaves 20 of its weights, or keeps half of them throughout."""
    model = small()
    masks = random_masks(model) if sparse else None
    keep = sum(kept(masks).values()) if masks else 20
    updates = update_rules[rule].function(pruning_of(small(), keep), seeded(3), **options)
    return model, train_sparse(model, images_of(IMAGES), recipe, seeded(1), updates, masks=masks)


def test_an_exchange_drops_the_weakest_and_grows_the_most_promising() -> None:
    """The weakest of the kept weights goes, and the best of the others comes; the number stays."""
    mask = torch.tensor([True, True, True, False, False])
    strength, promise = torch.tensor([3.0, 1.0, 2.0, 9.0, 9.0]), torch.tensor([9.0, 0.1, 9.0, 0.2, 0.3])

    assert [True, False, True, False, True] == exchanged(mask, strength, promise, 1).tolist()


def test_a_dropped_weight_may_grow_again() -> None:
    """A dropped weight competes with the others: RigL's authors score all weights outside the remaining mask."""
    mask = torch.tensor([True, True, False])

    made = exchanged(mask, torch.tensor([1.0, 2.0, 0.0]), torch.tensor([5.0, 0.0, 1.0]), 1)

    assert [True, True, False] == made.tolist()


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_dynamic_sparse_training_keeps_every_layers_count(grow: str) -> None:
    """Each layer keeps its number of weights, and different ones; masked weights are zero at the end."""
    model, result = trained("drop_and_grow", sparse=True, grow=grow, every=2, share=0.5)
    begin = random_masks(small())

    assert kept(begin) == kept(result.masks)
    assert any(not torch.equal(begin[name], mask) for name, mask in result.masks.items())
    assert all(not bool(weight[~result.masks[name]].any()) for name, weight in prunable_weights(model).items())


def test_updates_follow_the_cosine() -> None:
    """Updates come every few steps until the end, and replace as much as the cosine of their step says."""
    _, result = trained("drop_and_grow", sparse=True, grow="random", every=3, share=0.4, end=0.75)
    counts = kept(random_masks(small()))

    assert [0, 3, 6, 9, 12] == [change.step for change in result.changes]
    for change in result.changes:
        part = 0.4 * (1 + math.cos(math.pi * change.step / (0.75 * STEPS))) / 2
        assert sum(int(part * count) for count in counts.values()) >= change.grown


@pytest.mark.parametrize(("steps", "number"), [(10, 8), (785, 31), (4000, 30), (40_000, 300)])
def test_short_trainings_update_often(steps: int, number: int) -> None:
    """By default 100 steps lie between updates, and in short trainings fewer: 30 updates before 75 % of the steps."""
    updates = update_rules["drop_and_grow"].function(pruning_of(small(), 20), seeded())

    assert number == sum(updates.due(step, steps) for step in range(steps))


def test_an_update_by_gradients_takes_the_place_of_a_step() -> None:
    """With one update at step 0 of a one-step training, RigL leaves all kept weights as they were."""
    one = replace(RECIPE, epochs=1, batch=IMAGES)
    model, result = trained("drop_and_grow", one, sparse=True, every=1, end=1.0)

    for name, weight in prunable_weights(model).items():
        stayed = result.masks[name] & random_masks(small())[name]
        assert torch.equal(prunable_weights(small())[name][stayed], weight[stayed])


def test_rigl_grows_by_the_dense_gradient() -> None:
    """The grown weights are those with the largest gradient of the masked network, computed by hand."""
    one = replace(RECIPE, epochs=1, batch=IMAGES, flip=False)
    _, result = trained("drop_and_grow", one, sparse=True, every=1, end=1.0, share=0.5)

    model, masks, images = small(), random_masks(small()), images_of(IMAGES)
    model.train()
    with torch.no_grad():
        for name, weight in prunable_weights(model).items():
            weight.mul_(masks[name])
    inputs, labels = next(images.in_order(IMAGES))
    torch.nn.functional.cross_entropy(model(inputs), labels).backward()
    for name, weight in prunable_weights(model).items():
        expected = by_hand(masks[name], weight.detach().abs(), weight.grad.abs(), 0.5)  # type: ignore[union-attr]
        assert torch.equal(expected, result.masks[name]), name


def by_hand(mask: Tensor, strength: Tensor, promise: Tensor, share: float) -> Tensor:
    """RigL's exchange by sorting lists."""
    on = mask.flatten().nonzero().flatten().tolist()
    count = int(share * len(on))
    stays = sorted(on, key=lambda at: (-float(strength.flatten()[at]), at))[: len(on) - count]
    rest = [at for at in range(mask.numel()) if at not in stays]
    grown = sorted(rest, key=lambda at: (-float(promise.flatten()[at]), at))[:count]
    made = torch.zeros(mask.numel(), dtype=torch.bool)
    made[[*stays, *grown]] = True
    return made.view(mask.shape)


def test_gradual_pruning_reaches_the_count_by_the_cubic_schedule() -> None:
    """The kept weights fall by (1 - progress)^3 to the requested number, and pruned weights stay pruned."""
    model, result = trained("gradual", every=4, end=0.75)
    total = total_of(prunable_weights(model))
    steps = [0, 4, 8, 12, 13]

    assert steps == [change.step for change in result.changes]
    assert [20 + round((1 - (step + 1) / 14) ** 3 * (total - 20)) for step in steps] == [
        change.kept for change in result.changes
    ]
    assert all(change.grown == 0 for change in result.changes)
    assert sum(kept(result.masks).values()) == 20


def test_gradual_pruning_keeps_the_largest_trained_weights() -> None:
    """With one update at the last step the masks are the magnitude masks of the dense network's training."""
    _, result = trained("gradual", begin=1.0, end=1.0)
    dense = small()
    train(dense, images_of(IMAGES), RECIPE, seeded(1))
    values = torch.cat([weight.detach().abs().flatten() for weight in prunable_weights(dense).values()])
    bound = values.sort(descending=True).values[19]

    for name, weight in prunable_weights(dense).items():
        assert torch.equal(weight.detach().abs() >= bound, result.masks[name])


def test_alternating_phases_end_sparse() -> None:
    """Sparse and dense phases alternate; regrown weights start from zero; the last phase is sparse."""
    model, result = trained("alternating", phases=2, begin=0.2, end=0.8)
    total = total_of(prunable_weights(model))

    assert [20, total, 20] == [change.kept for change in result.changes]
    assert [4, 9, 15] == [change.step for change in result.changes]
    assert [0, total - 20, 0] == [change.grown for change in result.changes]


def test_iterative_pruning_repeats_the_recipe() -> None:
    """Rounds prune after each training but the last, and the schedule of learning rates starts again."""
    recipe = replace(RECIPE, epochs=1)
    model, result = trained("iterative", recipe, rounds=3)
    total = total_of(prunable_weights(model))
    cycle = training_steps_of(recipe, IMAGES)

    assert exponential_counts(total, 20, 3) == [change.kept for change in result.changes]
    assert [cycle - 1, 2 * cycle - 1, 3 * cycle - 1] == [change.step for change in result.changes]
    assert len(result.losses) == 4


def test_without_updates_training_is_the_usual_one() -> None:
    """Rule `none` trains as the fixed masks do, bit for bit."""
    model, result = trained("none", sparse=True)
    usual = small()
    losses = train(usual, images_of(IMAGES), RECIPE, seeded(1), masks=random_masks(small()))

    assert losses == result.losses
    assert_same(dict(usual.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_grown_weights_start_without_optimizer_state(optimizer: str) -> None:
    """Weights that grow start with zero momentum: with a learning rate of nearly zero they hardly move."""
    grown_at = 8

    def change(moment: Any) -> Any:
        return full_masks(moment.weights)

    updates = MaskUpdates(lambda step, steps: step == grown_at, change, replaces_step=True)
    model = small()
    recipe = replace(RECIPE, optimizer=optimizer, lr=0.05, schedule="steps", drops=(0.45,), drop=1e-9, warmup=0.0)  # type: ignore[arg-type]
    result = train_sparse(model, images_of(IMAGES), recipe, seeded(1), updates, masks=random_masks(model))
    fresh = {name: ~mask for name, mask in random_masks(small()).items()}

    assert [grown_at] == [change.step for change in result.changes]
    assert all(
        float(weight.detach()[fresh[name]].abs().max()) < 1e-6 for name, weight in prunable_weights(model).items()
    )


@pytest.mark.parametrize("entry", [*update_rules], ids=lambda entry: entry.name)
def test_every_rule_is_reproducible_and_exact(entry: Any) -> None:
    """Two trainings by one rule give the same bytes, with exactly the requested number of weights."""
    sparse = entry.facts["starts"] == "sparse"
    first, one = trained(entry.name, sparse=sparse)
    second, other = trained(entry.name, sparse=sparse)
    asked = sum(kept(random_masks(small())).values()) if sparse else 20

    assert_same(dict(first.state_dict()), dict(second.state_dict()))
    assert_same(one.masks, other.masks)
    assert asked == sum(kept(one.masks).values())


def test_an_exchange_in_rows_keeps_every_output() -> None:
    """By hand: half of four weights go in the first row, half of two in the second, none of one in the third."""
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
    strength = torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0, 0, 0, 0, 0]])
    promise = torch.tensor([[0.0, 0.1, 0.0, 0.0, 5.0, 4.0], [0.5, 0.0, 0.1, 0.9, 0.2, 0.3], [9.0, 8, 7, 6, 5, 4]])
    shape = (1, 3, 6, 1)
    made = exchanged_in_rows(mask.view(shape), strength.view(shape), promise.view(shape), 0.5).view(3, 6)

    expected = torch.tensor([[1, 0, 1, 0, 1, 1], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
    assert torch.equal(expected, made)


def test_few_weights_in_every_row_change_too() -> None:
    """Of three weights in each of ten rows a tenth is three: one in three of the rows, the weakest weights first."""
    mask = torch.zeros(10, 8, dtype=torch.bool)
    mask[:, :3] = True
    strength, promise = torch.arange(80.0).view(10, 8), torch.rand(10, 8, generator=seeded(2))
    shape = (1, 10, 8, 1)
    made = exchanged_in_rows(mask.view(shape), strength.view(shape), promise.view(shape), 0.1).view(10, 8)

    assert [3] * 10 == made.sum(dim=1).tolist()
    assert [0, 1, 2] == (~made & mask).any(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_constant_fan_in_stays(grow: str) -> None:
    """From balanced masks every output keeps its number of weights through a training; an update changes some."""
    model = small()
    given = pruning_of(small(), 60)
    scores = given.score(given.evidence)
    quotas = {layer.name: layer.size // 3 for layer in given.layers}
    start = selections["balanced"].function(scores, quotas, given.evidence)
    updates = update_rules["drop_and_grow"].function(given, seeded(3), grow=grow, within="output", every=1, share=0.5)
    made = train_sparse(model, images_of(IMAGES), RECIPE, seeded(1), updates, masks=start)

    def fan_in(masks: dict[str, Tensor], name: str) -> list[int]:
        return given.evidence.layers_by_name[name].spread(masks[name]).flatten(2).sum(dim=2).flatten().tolist()

    assert any(change.grown for change in made.changes)
    for name in start:
        assert fan_in(start, name) == fan_in(made.masks, name)
        assert max(fan_in(start, name)) - min(fan_in(start, name)) <= 1


def test_growth_adds_as_many_weights_at_every_update() -> None:
    """From half of the weights, straight to all of them at the end of growth; what has grown stays."""
    _, result = trained("path_growth", sparse=True, start=0.5, every=4, end=0.75)
    keep = sum(kept(random_masks(small())).values())

    assert [0, 4, 8, 12, 13] == [change.step for change in result.changes]
    assert [round(keep * (0.5 + 0.5 * step / 13)) for step in (0, 4, 8, 12, 13)] == [
        change.kept for change in result.changes
    ]
    grown = [change.grown for change in result.changes]
    assert grown == [0, *(after.kept - before.kept for before, after in pairwise(result.changes))]


def test_growth_begins_among_the_masks() -> None:
    """The first weights are some of those of the method's masks; weights that grow are others than the present ones."""
    masks = random_masks(small())
    moment = moment_of(small(), masks)
    updates = update_rules["path_growth"].function(pruning_of(small(), sum(kept(masks).values())), seeded(3))
    first = updates.change(moment)
    later = updates.change(replace(moment, step=5, masks=first))

    assert sum(kept(first).values()) < sum(kept(later).values())
    for name, mask in masks.items():
        assert not bool((first[name] & ~mask).any())
        assert not bool((first[name] & ~later[name]).any())


def moment_of(model: torch.nn.Module, masks: dict[str, Tensor], step: int = 0) -> Moment:
    """A moment of a training of 18 steps."""
    weights = {name: weight.detach() * masks[name] for name, weight in prunable_weights(model).items()}
    return Moment(step, STEPS, weights, weights, masks, lambda: {**model.state_dict(), **weights})


def test_path_products_are_those_of_the_other_weights() -> None:
    """By hand, in two linear layers: the present weights into an input's unit, times those out of the output's."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    first, second = torch.tensor([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]]), torch.tensor([[2.0, -1.0], [0.5, 4.0]])
    model.load_state_dict({"0.weight": first, "1.weight": second})
    masks = {
        "0.weight": torch.tensor([[1, 0, 1], [0, 0, 0]]).bool(),
        "1.weight": torch.tensor([[1, 0], [0, 1]]).bool(),
    }
    example = torch.zeros(1, 3)
    evidence = Evidence.dense(model, describe_layers(model, example), lambda count: [], seeded(0), lambda: example)
    given = replace(pruning_of(small(), 5), evidence=evidence)
    made = path_products(given, moment_of(model, masks))

    after = (second.abs() * masks["1.weight"]).sum(dim=0)
    before = (first.abs() * masks["0.weight"]).sum(dim=1)
    assert_same({"0.weight": after.view(2, 1).expand(2, 3).double()}, {"0.weight": made["0.weight"]})
    assert_same({"1.weight": before.expand(2, 2).double()}, {"1.weight": made["1.weight"]})


def test_growth_draws_in_proportion() -> None:
    """Of 8,000 draws of one weight each has its share, within 4 standard deviations; scores of zero are never drawn."""
    scores = {"a": torch.tensor([1.0, 0.0, 5.0]), "b": torch.tensor([[2.0], [2.0]])}
    among = {"a": torch.tensor([True, True, True]), "b": torch.tensor([[True], [False]])}
    generator, draws = seeded(4), 8000
    counts = torch.zeros(5)
    for _ in range(draws):
        made = drawn_by(scores, among, 1, generator)
        counts += torch.cat([made["a"].flatten(), made["b"].flatten()])

    for count, share in zip(counts.tolist(), (1 / 8, 0.0, 5 / 8, 2 / 8, 0.0), strict=True):
        assert abs(count - draws * share) <= 4 * math.sqrt(draws * share * (1 - share))


def test_growth_fills_up_with_weights_on_no_path() -> None:
    """Weights of score zero follow, in any layer, where fewer than asked have one."""
    scores = {"a": torch.tensor([3.0, 0.0, 0.0]), "b": torch.zeros(2)}
    among = {name: torch.ones_like(values, dtype=torch.bool) for name, values in scores.items()}
    drawn = [drawn_by(scores, among, 3, seeded(seed)) for seed in range(20)]

    assert all(bool(made["a"][0]) and sum(kept(made).values()) == 3 for made in drawn)
    assert {bool(made["b"].any()) for made in drawn} == {True, False}


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_growth_in_one_step_keeps_the_masks(end: float) -> None:
    """A training of one step, or growth that ends at once, leaves the method's masks."""
    one = replace(RECIPE, epochs=1, batch=IMAGES) if end else RECIPE
    _, result = trained("path_growth", one, sparse=True, end=end)

    assert_same(random_masks(small()), result.masks)

"""Masks learned with the weights, and short training before scores: learned values, and nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Batch, Evidence
from autosparse.core.sanity import invert
from autosparse.core.schedule import Pruning, keeps_weights, schedules, training_steps
from autosparse.core.selection import selections
from autosparse.core.training.mask_search import learn_scores, ranks, threshold
from autosparse.core.training.masked_steps import Learner, learn_briefly, warmed_up
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, kept, prunable_weights, total_of
from tests.unit.core.conftest import (
    SHAPE,
    all_ones,
    assert_same,
    batch_of,
    evidence_of,
    random_masks,
    seeded,
    small,
    snapshot,
)

PLAIN = Recipe(lr=0.5, momentum=0.0, weight_decay=0.0, precision="float32")
VARIANTS: list[dict[str, Any]] = [
    {},
    {"train_weights": False, "anneal": 0.0},
    {"relaxation": "concrete", "parts": 1},
    {"quotas": "free"},
]


def pruning(evidence: Evidence, keep: int, *, criterion: str = "magnitude", allocation: str = "erk") -> Pruning:
    """A pruning by registered choices, trained gently."""
    return Pruning(
        evidence,
        total_of(evidence.weights),
        keep,
        score=criteria[criterion].function,
        allocate=allocations[allocation].function,
        select=selections["top"].function,
        recipe=replace(PLAIN, lr=0.05, momentum=0.9),
    )


def search(given: Pruning, **options: Any) -> Tensors:
    """Masks that are learned in a few steps."""
    return schedules["search"].function(given, **{"steps": 6, **options})


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("allocation", allocations.names)
def test_counts_are_exact(allocation: str, options: dict[str, Any]) -> None:
    """The total is exact; fixed quotas are those that the criterion's scores were given, layer by layer."""
    given = pruning(evidence_of(small(), SHAPE), 57, allocation=allocation)
    masks = search(given, **options)

    assert 57 == sum(kept(masks).values())
    if options.get("quotas") != "free":
        assert given.allocate(given.score(given.evidence), given.evidence.layers, 57) == kept(masks)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_search_is_a_function_of_its_evidence(options: dict[str, Any]) -> None:
    """Twice the same masks, bit for bit, whatever the global generator was at, and other masks than without steps."""
    first = search(pruning(evidence_of(small(), SHAPE), 57), **options)
    torch.rand(3)
    second = search(pruning(evidence_of(small(), SHAPE), 57), **options)
    longer = search(pruning(evidence_of(small(), SHAPE), 57), **{"steps": 60, "score_lr": 0.1, **options})
    at_once = pruning(evidence_of(small(), SHAPE), 57).in_rounds([57])

    assert_same(first, second)
    assert any(not torch.equal(longer[name], at_once[name]) for name in longer)


@pytest.mark.parametrize("options", [*VARIANTS, None], ids=str)
def test_everything_is_rewound(options: dict[str, Any] | None) -> None:
    """Parameters, statistics, modes, gradients and the global generator are as they were."""
    network = small().train()
    network.norm.eval()
    evidence = evidence_of(network, SHAPE)
    before, weights, random = snapshot(network), dict(evidence.weights), torch.get_rng_state()
    given = pruning(evidence, 57)
    if options is None:
        schedules["linear"].function(given, rounds=2, steps=3)
    else:
        search(given, **options)

    assert_same(before, snapshot(network))
    assert_same(weights, evidence.weights)
    assert_same(all_ones(network), evidence.masks)
    assert torch.equal(random, torch.get_rng_state())
    assert (True, False) == (network.training, network.norm.training)
    assert all(parameter.grad is None for parameter in network.parameters())


def telling(informative: int, inputs: int = 20) -> tuple[nn.Module, Callable[[], Iterator[Batch]]]:
    """A network of two layers, and batches in which only some inputs determine the label."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 2))

    def stream() -> Iterator[Batch]:
        generator = seeded(3)
        while True:
            x = torch.randn(64, inputs, generator=generator)
            yield x, (x[:, :informative].sum(dim=1) > 0).long()

    return network, stream


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize("options", [{**options, "anneal": 0.7} for options in VARIANTS], ids=str)
def test_weights_of_inputs_that_tell_are_kept(options: dict[str, Any], criterion: str) -> None:
    """Most kept weights of the first layer read the informative inputs: 4 of 20, so chance is a fifth."""
    with torch.random.fork_rng():
        network, stream = telling(4)
    evidence = replace(evidence_of(network, (20,)), stream=stream)
    given = pruning(evidence, round(0.1 * total_of(evidence.weights)), criterion=criterion, allocation="uniform")
    chance = given.in_rounds([given.keep])["0.weight"]
    scores = search(given, steps=150, score_lr=0.05, **options)["0.weight"]

    assert float(chance[:, :4].sum() / chance.sum()) < 0.4
    assert float(scores[:, :4].sum() / scores.sum()) > 0.8


def test_free_quotas_move_between_layers() -> None:
    """With one threshold over all learned scores, layers end with other counts than they began with."""
    with torch.random.fork_rng():
        network, stream = telling(1)
    given = pruning(replace(evidence_of(network, (20,)), stream=stream), 60, allocation="global")
    fixed, free = (kept(search(given, steps=80, score_lr=0.05, quotas=quotas)) for quotas in ("fixed", "free"))

    assert kept(given.in_rounds([60])) == fixed
    assert fixed != free
    assert 60 == sum(free.values())


def test_a_step_by_hand() -> None:
    """A presence gets w dL/d(w m), pruned weights too; a weight is trained as much as it is present."""
    layer = nn.Linear(2, 1, bias=False)
    layer.load_state_dict({"weight": torch.tensor([[2.0, 3.0]])})
    batch = (torch.tensor([[5.0, 7.0]]), torch.zeros(1))
    evidence = replace(evidence_of(layer, (2,)), objective=lambda outputs, _: outputs.sum())
    learner = Learner(evidence, PLAIN, steps=2)
    presence = torch.tensor([1.0, 0.0])

    assert [10.0, 21.0] == learner.step(batch, presence).tolist()
    # One cycle begins at 0.04 of its peak; the gradient of the weight that is there is 5.
    torch.testing.assert_close(torch.tensor([[2.0 - 0.04 * 0.5 * 5, 3.0]]), learner.learned()["weight"])
    assert [[2.0, 3.0]] == layer.weight.tolist()
    learner.step(batch, presence, weights=False)
    torch.testing.assert_close(torch.tensor([[1.9, 3.0]]), learner.learned()["weight"])


def test_a_vector_has_names_again() -> None:
    """A part of the vector of presences returns under its name, in its shape."""
    evidence = evidence_of(small(), SHAPE)
    learner = Learner(evidence, PLAIN, steps=1)

    assert_same(evidence.weights, learner.named(learner.vector(evidence.weights)))


def test_ranks_by_hand() -> None:
    """Ranks lie evenly between 0 and 1, the highest nearest to 1; of equal scores the first is higher."""
    assert [0.875, 0.375, 0.625, 0.125] == ranks(torch.tensor([3.0, 1.0, 3.0, -2.0])).tolist()
    assert [[0.75], [0.25]] == ranks(torch.tensor([[0.0], [0.0]])).tolist()


def test_thresholds_by_hand() -> None:
    """As many scores reach the threshold as were asked for."""
    scores = torch.tensor([0.3, 0.9, 0.1, 0.5])

    assert [0, 1, 2, 3, 4] == [int((scores >= threshold(scores, count)).sum()) for count in range(5)]


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_no_steps_are_as_before(schedule: str) -> None:
    """With 0 steps rounds are what they were without the option, and nothing is drawn for training."""
    given = pruning(evidence_of(small(), SHAPE), 57, criterion="snip")
    masks = schedules[schedule].function(given, rounds=3, steps=0)

    assert_same(schedules[schedule].function(given, rounds=3), masks)
    assert torch.equal(seeded().get_state(), given.evidence.generator.get_state())


@pytest.mark.parametrize("rewind", [True, False])
def test_rounds_score_what_was_trained(rewind: bool) -> None:
    """Every round scores trained weights under its masks: from initialization again, or from the last round's end."""
    seen: list[Evidence] = []
    evidence = evidence_of(small(), SHAPE)

    def score(given: Evidence) -> Tensors:
        seen.append(given)
        return criteria["magnitude"].function(given)

    total = total_of(evidence.weights)
    masks = replace(pruning(evidence, 40), score=score).in_rounds([total, total, 40], steps=4, rewind=rewind)
    first, second, third = seen
    before = snapshot(small())["norm.running_mean"]

    assert 40 == sum(kept(masks).values())
    for given in seen:
        assert all(not torch.equal(given.weights[name], weight) for name, weight in evidence.weights.items())
        assert not torch.equal(given.state()["norm.running_mean"], before)
    same = [torch.equal(first.weights[name], second.weights[name]) for name in first.weights]
    assert [rewind] * 4 == same  # the masks were full in both
    assert all(not bool(third.weights[name][~third.masks[name]].any()) for name in third.weights)


def test_masked_weights_take_no_part() -> None:
    """Masked learning does not depend on the values of pruned weights."""
    network = small()
    masks = random_masks(network)
    other = small()
    with torch.no_grad():
        for name, weight in prunable_weights(other).items():
            weight[~masks[name]] = 9.0

    def after(model: nn.Module) -> Tensors:
        evidence = evidence_of(model, SHAPE, masks=masks)
        return learn_briefly(evidence, evidence.training_batches(), PLAIN, 3).weights

    assert_same(after(network), after(other))


def test_training_lowers_the_loss() -> None:
    """The loss of the batch that is trained on falls; criteria see the trained network, BatchNorm too."""
    batch = batch_of(SHAPE, images=16)
    evidence = evidence_of(small(), SHAPE, batches=[batch])
    learned = learn_briefly(evidence, evidence.training_batches(), replace(PLAIN, lr=0.1), 30)

    assert float(learned.loss(learned.weights, batch)) < 0.8 * float(evidence.loss(evidence.weights, batch))
    assert_same(evidence.masks, learned.masks)


def test_a_warm_up_of_no_steps_changes_nothing() -> None:
    """The network is as it is, and nothing is drawn: scores at initialization do not move."""
    evidence = evidence_of(small(), SHAPE)
    before = evidence.generator.get_state()

    assert evidence is warmed_up(evidence, PLAIN, 0)
    assert torch.equal(before, evidence.generator.get_state())


def test_a_warmed_up_network_is_trained_under_its_masks() -> None:
    """It equals `learn_briefly` on the first batches, and pruned weights stay zero."""
    network = small()
    masks = random_masks(network)
    first, second = (evidence_of(network, SHAPE, masks=masks) for _ in range(2))

    warm = warmed_up(first, PLAIN, 3)

    assert_same(learn_briefly(second, second.training_batches(), PLAIN, 3).weights, warm.weights)
    assert all(not bool(weight[~masks[name]].any()) for name, weight in warm.weights.items())
    assert any(not torch.equal(weight, first.weights[name]) for name, weight in warm.weights.items())
    assert_same(masks, warm.masks)


def test_precision_is_the_recipes() -> None:
    """The forward pass is in bfloat16 where the recipe says so, the loss in float32."""
    seen: list[torch.dtype] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.layer(x)
            seen.append(output.dtype)
            return output

    learner = Learner(evidence_of(Recorder(), (4,)), replace(PLAIN, precision="bfloat16"), 1)
    seen.clear()
    gradient = learner.step(batch_of((4,)), torch.ones(12))

    assert [torch.bfloat16] == seen
    assert torch.float32 == gradient.dtype


@pytest.mark.parametrize("steps", [2, 30])
def test_divergence_is_an_error(steps: int) -> None:
    """A learning rate that is far too high is said to be the reason, not a score that is not a number."""
    given = replace(pruning(evidence_of(small(), SHAPE), 57), recipe=replace(PLAIN, lr=1e30))

    with pytest.raises(ValueError, match="diverged: a lower learning rate"):
        search(given, steps=steps)
    with pytest.raises(ValueError, match="diverged: a lower learning rate"):
        schedules["linear"].function(given, rounds=1, steps=steps)


@pytest.mark.parametrize("train_weights", [True, False])
def test_parts_of_a_batch_are_updates(train_weights: bool) -> None:
    """Under one mask two parts are two steps over half the batch, and no part is a single example."""
    inputs, labels = batch_of(SHAPE, images=12)

    def learned(size: int, steps: int, parts: int = 1) -> Tensors:
        def stream() -> Iterator[Batch]:
            return itertools.cycle(zip(inputs.split(size), labels.split(size), strict=True))

        evidence = replace(evidence_of(small(), SHAPE), stream=stream)
        return learn_scores(
            evidence, evidence.weights, lambda *_: kept(evidence.masks), replace(PLAIN, momentum=0.9),
            steps=steps, parts=parts, score_lr=0.1,
            train_weights=train_weights,
        )  # fmt: skip

    halves = learned(2, steps=6)
    assert_same(halves, learned(4, steps=3, parts=2))
    assert_same(halves, learned(4, steps=3, parts=9))
    assert any(not torch.equal(scores, halves[name]) for name, scores in learned(4, steps=3).items())


def test_a_mask_holds_for_the_parts_of_a_batch() -> None:
    """Counts are asked for once a step."""
    asked: list[float] = []
    evidence = evidence_of(small(), SHAPE)

    def counts(progress: float, scores: Tensors) -> dict[str, int]:
        asked.append(progress)
        return kept(evidence.masks)

    learn_scores(evidence, evidence.weights, counts, PLAIN, steps=4, parts=2, score_lr=0.1)

    assert [0.0, 0.25, 0.5, 0.75] == asked


def test_progress_is_told_step_by_step() -> None:
    """An observer hears of every step, of those between rounds too."""
    events: list[tuple[int, int]] = []
    given = replace(pruning(evidence_of(small(), SHAPE), 57), observe=lambda *step: events.append(step))
    search(given, steps=3)
    schedules["linear"].function(given, rounds=2, steps=2)

    assert [(1, 3), (2, 3), (3, 3), (1, 4), (2, 4), (3, 4), (4, 4)] == events


@pytest.mark.parametrize("quotas", ["fixed", "free"])
def test_nothing_is_learned_in_vain(quotas: str) -> None:
    """If the selection ignores scores, only free quotas take training; fixed ones are as in one shot."""
    events: list[int] = []
    given = pruning(evidence_of(small(), SHAPE), 57)
    blind = replace(
        given, select=selections["shuffle"].function, blind=True, observe=lambda done, total: events.append(total)
    )
    masks = search(blind, quotas=quotas)

    assert kept(given.in_rounds([57])) == kept(masks)
    assert ([1] if quotas == "fixed" else [6] * 6) == events


@pytest.mark.parametrize(
    ("expected", "schedule", "selection", "options"),
    [
        (0, "one_shot", "top", {}),
        (0, "linear", "top", {"rounds": 10}),
        (120, "linear", "shuffle", {"rounds": 4, "steps": 30}),
        (400, "search", "top", {"steps": 400, "quotas": "fixed"}),
        (0, "search", "shuffle", {"steps": 400, "quotas": "fixed"}),
        (400, "search", "shuffle", {"steps": 400, "quotas": "free"}),
    ],
)
def test_training_steps_are_counted(expected: int, schedule: str, selection: str, options: dict[str, Any]) -> None:
    """Rounds times steps; schedules that only score take none, nor do those whose scores nobody looks at."""
    choices = {"schedule": {"name": schedule, "options": options}, "selection": {"name": selection}}

    assert expected == training_steps(choices)


def test_a_search_with_free_quotas_is_inverted_by_its_own_scores() -> None:
    """Both runs learn under the same quotas, step by step: the second selects by the negated scores of the first."""
    selected: list[Tensors] = []

    def select(scores: Tensors, quotas: dict[str, int], evidence: Evidence) -> Tensors:
        selected.append(scores)
        return selections["top"].function(scores, quotas, evidence)

    given = replace(pruning(evidence_of(small(), SHAPE), 57, allocation="global"), select=select)
    schedule = partial(schedules["search"].function, steps=30, quotas="free", score_lr=0.1, anneal=0.0)
    invert(schedule, given)

    first, second = selected
    assert all(torch.equal(-values, second[name]) for name, values in first.items())


@pytest.mark.parametrize("options", [{}, {"quotas": "free"}, {"relaxation": "concrete", "parts": 1}], ids=str)
def test_a_search_may_keep_its_weights(options: dict[str, Any]) -> None:
    """Without rewinding the masks are the same, and the trained state is handed over: all of it, and changed."""
    rewound = search(pruning(evidence_of(small(), SHAPE), 57), **options)
    state: Tensors = {}
    given = replace(pruning(evidence_of(small(), SHAPE), 57), keep_weights=state.update)
    untouched: Tensors = {}
    search(replace(given, keep_weights=untouched.update), **options)
    masks = search(given, rewind=False, **options)

    assert_same(rewound, masks)
    assert not untouched
    initial = given.evidence.state()
    assert {name: tensor.shape for name, tensor in initial.items()} == {name: t.shape for name, t in state.items()}
    assert all(not torch.equal(state[name], initial[name]) for name in given.evidence.weights)


def test_only_a_search_that_trains_weights_keeps_them() -> None:
    """Quotas that are filled at random without a search leave nothing to keep."""

    def keeps(schedule: dict[str, Any], selection: str = "top") -> bool:
        return keeps_weights({"schedule": schedule, "selection": {"name": selection, "options": {}, "version": 1}})

    options = {"steps": 9, "quotas": "fixed"}
    assert keeps({"name": "search", "options": {**options, "rewind": False}})
    assert not keeps({"name": "search", "options": options})
    assert not keeps({"name": "search", "options": {**options, "rewind": False}}, "shuffle")
    assert not keeps({"name": "exponential", "options": {"rounds": 2, "steps": 4, "rewind": False}})

"""Agreement of scores with the order of weights, measured on held-out layers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.features import Features
from autosparse.core.ranking import HeldOut, Split, agreement, cross_validate, spearman
from autosparse.core.weights import Tensors

VECTOR = st.lists(st.integers(-5, 5), min_size=3, max_size=30)


def test_spearman_by_hand() -> None:
    """1 - 6 sum d² / n (n² - 1) without ties."""
    assert pytest.approx(0.5) == spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0]))
    assert pytest.approx(-1.0) == spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    assert pytest.approx(1.0) == spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1e9, 0.0, 1e-9]))


def test_equal_values_share_their_mean_rank() -> None:
    """Ranks 1.5, 1.5, 3 against 1, 2, 3 correlate by the root of three quarters."""
    assert pytest.approx(math.sqrt(0.75)) == spearman(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("size", [2, 5])
def test_constant_vectors_have_no_correlation(size: int) -> None:
    """A constant on either side, or on both, is zero and not a failure."""
    constant, rising = torch.full((size,), 3.0), torch.arange(float(size))

    assert 0.0 == spearman(constant, rising)
    assert 0.0 == spearman(rising, constant)
    assert 0.0 == spearman(constant, constant)


def test_single_weight_has_no_correlation() -> None:
    """The weight of a layer that has only one is a constant: zero, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0.0 == spearman(torch.tensor([1.0]), torch.tensor([2.0]))


@given(first=VECTOR, data=st.data())
def test_spearman_agrees_with_scipy(first: list[int], data: st.DataObject) -> None:
    """Ties or not, it is scipy's correlation, the same both ways round."""
    from scipy.stats import spearmanr

    second = data.draw(st.lists(st.integers(-5, 5), min_size=len(first), max_size=len(first)))
    constant = len(set(first)) == 1 or len(set(second)) == 1
    expected = 0.0 if constant else float(spearmanr(first, second).statistic)

    assert pytest.approx(expected, abs=1e-9) == spearman(torch.tensor(first), torch.tensor(second))
    assert pytest.approx(expected, abs=1e-9) == spearman(torch.tensor(second), torch.tensor(first))


def tables(layers: int) -> Features:
    """One column of six numbers in each layer, layers apart by a thousand."""
    return Features(("magnitude",), {f"{i}": torch.arange(6.0)[:, None] + 1000 * i for i in range(layers)})


def own_labels(features: Features) -> Tensors:
    """Labels that are the features."""
    return {name: table[:, 0] for name, table in features.values.items()}


@pytest.mark.parametrize(("layers", "folds"), [(7, 3), (4, 4), (2, 5), (5, 1)])
def test_every_layer_is_held_out_once(layers: int, folds: int) -> None:
    """Each layer is predicted in exactly one fold, from layers that are not in it while there are others."""
    features, learned, predicted = tables(layers), list[list[str]](), list[str]()

    def learn(given: Features, labels: Tensors) -> Tensors:
        assert list(given.values) == list(labels)
        learned.append(list(labels))
        return {}

    def predict(state: Tensors, given: Features) -> Tensors:
        predicted.extend(given.values)
        assert folds == 1 or not set(learned[-1]) & set(given.values)
        return {name: table[:, 0] for name, table in given.values.items()}

    result = cross_validate(learn, predict, features, own_labels(features), folds)

    assert sorted(features.values) == sorted(predicted)
    assert min(folds, layers) == len(learned)
    assert pytest.approx(1.0) == result.overall
    assert pytest.approx(1.0) == result.within


@pytest.mark.parametrize(("stop", "expected"), [(1, [(1.0, 2)]), (2, [(1.0, 2), (-1.0, 1)]), (9, None)])
def test_folds_may_be_left_out(stop: int, expected: list[tuple[float, int]] | None) -> None:
    """After any fold the rest is, when it is enough; the mean is of those that were measured."""
    features, events = tables(3), list[tuple[float, int]]()

    def enough(fold: HeldOut, left: int) -> bool:
        events.append((round(fold.overall, 9), left))
        return len(events) == stop

    def predict(state: Tensors, given: Features) -> Tensors:
        return {name: table[:, 0] * (1 if len(events) % 2 == 0 else -1) for name, table in given.values.items()}

    agreed = cross_validate(lambda given, labels: {}, predict, features, own_labels(features), 3, enough=enough)

    assert (expected or [(1.0, 2), (-1.0, 1), (1.0, 0)]) == events
    assert pytest.approx(sum(value for value, _ in events) / len(events)) == agreed.overall


def test_a_scorer_that_knows_layers_only_has_nothing_within() -> None:
    """Predicting each layer's mean orders weights across layers but not inside one."""
    features = tables(4)

    result = cross_validate(
        lambda given, labels: {},
        lambda state, given: {name: table[:, 0].mean().expand(6) for name, table in given.values.items()},
        features,
        own_labels(features),
        folds=2,
    )

    assert 0.8 < result.overall < 1
    assert 0.0 == result.within


def test_agreement_by_hand() -> None:
    """Two of the three survivors are among the three highest scores; by the layers' numbers 3/4 + 2/4 would be."""
    labels = {"1:a": torch.tensor([1.0, 1.0, 0.5, 0.0]), "1:b": torch.tensor([1.0, 0.0, 0.0, 0.0])}
    scores = {"1:a": torch.tensor([9.0, 8.0, 0.0, 0.0]), "1:b": torch.tensor([1.0, 7.0, 0.0, 0.0])}

    agreed, beyond, room = agreement(scores, labels, ["1:a", "1:b"], {})

    assert pytest.approx(2 / 3) == agreed
    assert pytest.approx((2 - (2 * 2 / 4 + 1 * 1 / 4)) / 3) == beyond
    assert room == 1


def test_quotas_agree_as_far_as_layers_have_room_for_their_survivors() -> None:
    """Three survivors in one layer and one in the other, two kept in each: there is room for three of the four."""
    labels = {"1:a": torch.tensor([1.0, 1.0, 1.0, 0.0]), "1:b": torch.tensor([1.0, 0.0, 0.0, 0.0])}
    scores = {"1:a": torch.tensor([0.0, 0.0, 9.0, 8.0]), "1:b": torch.tensor([0.0, 7.0, 6.0, 0.0])}

    assert pytest.approx((1 / 4, 1 / 4 - (2 * 3 / 4 + 2 * 1 / 4) / 4, 3 / 4)) == agreement(
        scores, labels, [*labels], {}
    )


def test_a_sampled_layer_counts_for_all_its_weights() -> None:
    """Of a layer of 40 weights four are known: each stands for ten."""
    labels = {"1:a": torch.tensor([1.0, 0.0, 0.0, 0.0]), "1:b": torch.tensor([1.0, 1.0, 0.0, 0.0])}
    scores = {"1:a": torch.tensor([0.9, 0.1, 0.1, 0.1]), "1:b": torch.tensor([0.8, 0.0, 0.7, 0.0])}

    # 12 survivors: the first ten and one of the two are found, as the weight of score 0.7 comes before the other.
    assert pytest.approx(11 / 12) == agreement(scores, labels, ["1:a", "1:b"], {"1:a": 40})[0]


def test_a_shuffle_inside_layers_finds_nothing_beyond_quotas() -> None:
    """Scores that know how many survive in a layer, and not which, come to what the layers' numbers do."""
    generator = torch.Generator().manual_seed(0)
    labels = {f"1:{n}": (torch.rand(5000, generator=generator) < share).float() for n, share in enumerate((0.1, 0.6))}
    scores = {name: torch.rand(5000, generator=generator) + float(part.mean()) for name, part in labels.items()}

    agreed, beyond, room = agreement(scores, labels, list(labels), {})

    assert agreed > 0.4
    assert abs(beyond) < 0.03
    assert room > 0.9


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_is_found_where_all_or_none_survive(share: float) -> None:
    """No number of highest scores says anything there, nor does a score that is no number."""
    labels = {"1:a": torch.full((4,), share)}

    assert (0.0, 0.0, 0.0) == agreement({"1:a": torch.rand(4)}, labels, ["1:a"], {})
    half = {"1:a": torch.tensor([1.0, 1.0, 0.0, 0.0])}
    assert (0.0, 0.0, 0.0) == agreement({"1:a": torch.tensor([1.0, math.nan, 0.0, 0.0])}, half, ["1:a"], {})


@pytest.mark.parametrize(
    ("split", "folds"),
    [
        ("layers", [{"0.100:a", "0.101:a", "1.100:a", "1.101:a"}, {"0.100:b", "0.101:b", "1.100:c", "1.101:c"}]),
        ("seeds", [{"0.100:a", "0.100:b", "1.100:a", "1.100:c"}, {"0.101:a", "0.101:b", "1.101:a", "1.101:c"}]),
        ("networks", [{"0.100:a", "0.100:b", "0.101:a", "0.101:b"}, {"1.100:a", "1.100:c", "1.101:a", "1.101:c"}]),
    ],
)
def test_what_is_held_out(split: Split, folds: list[set[str]]) -> None:
    """Layers of one name, all networks at a seed, or a network at all seeds."""
    names = [
        f"{network}.{seed}:{layer}"
        for network, group in ((0, "ab"), (1, "ac"))
        for seed in (100, 101)
        for layer in group
    ]
    features = Features(("magnitude",), {name: torch.rand(6, 1) for name in names})
    held: list[set[str]] = []

    def predict(state: Tensors, given: Features) -> Tensors:
        held.append(set(given.values))
        return {name: table[:, 0] for name, table in given.values.items()}

    cross_validate(lambda given, labels: {}, predict, features, own_labels(features), 2, split)

    assert (
        folds if split != "layers" else [folds[0] | {n for n in names if n.endswith("c")}, {"0.100:b", "0.101:b"}]
    ) == held


@pytest.mark.parametrize(("split", "text"), [("seeds", "one seed"), ("networks", "one network")])
def test_one_source_cannot_be_held_out(split: Split, text: str) -> None:
    """An error, not a score on training layers."""
    features = Features(("magnitude",), {"100:a": torch.rand(4, 1), "100:b": torch.rand(4, 1)})

    with pytest.raises(ValueError, match=text):
        cross_validate(lambda f, s: {}, lambda s, f: {}, features, own_labels(features), 2, split)


def test_the_twins_of_a_held_out_layer_are_held_out_too() -> None:
    """With several sources, a layer is held out of all of them at once, and every layer once."""
    names = [f"{seed}:stages.{layer}" for seed in (100, 101) for layer in range(5)]
    features = Features(("magnitude",), {name: torch.rand(8, 1) for name in names})
    labels = {name: torch.rand(8) for name in names}
    judged: list[str] = []

    def learn(features: Features, labels: Tensors) -> Tensors:
        return dict.fromkeys(labels, torch.zeros(()))

    def predict(learned: Tensors, features: Features) -> Tensors:
        seen = {name.partition(":")[2] for name in learned}

        assert not seen & {name.partition(":")[2] for name in features.values}

        judged.extend(features.values)
        return {name: values[:, 0] for name, values in features.values.items()}

    cross_validate(learn, predict, features, labels, folds=3)

    assert sorted(names) == sorted(judged)


@pytest.mark.parametrize("split", ["layers", "seeds", "networks"])
def test_the_rounds_of_a_layer_are_held_out_together(split: Split) -> None:
    """Whatever is held out, no scorer learns from a layer at one round and is judged on it at another."""
    names = [
        f"{network}.{seed}@{number}:conv.{layer}"
        for network in (0, 1) for seed in (100, 101) for number in (1, 2, 10) for layer in range(3)
    ]  # fmt: skip
    features = Features(("magnitude",), {name: torch.rand(8, 1) for name in names})
    labels = {name: (torch.rand(8) < 0.5).float() for name in names}
    judged: list[str] = []

    def learn(features: Features, labels: Tensors) -> Tensors:
        return dict.fromkeys(labels, torch.zeros(()))

    def predict(learned: Tensors, features: Features) -> Tensors:
        def places(names: Iterable[str]) -> set[tuple[str, str]]:
            return {(name.partition("@")[0], name.partition(":")[2]) for name in names}

        assert learned
        assert not places(learned) & places(features.values)

        judged.extend(features.values)
        return {name: values[:, 0] for name, values in features.values.items()}

    cross_validate(learn, predict, features, labels, folds=3, split=split)

    assert sorted(names) == sorted(judged)


def test_survivors_are_found_in_each_round() -> None:
    """A scorer that orders the weights of each round finds all that survive, though no threshold does in all rounds."""
    labels = {"100@1:a": torch.tensor([1.0, 1.0, 1.0, 0.0]), "100@2:a": torch.tensor([1.0, 0.0, 0.0])}
    scores = {"100@1:a": torch.tensor([9.0, 8.0, 7.0, 6.0]), "100@2:a": torch.tensor([3.0, 2.0, 1.0])}
    tables = {"100@1:b": torch.zeros(2, 1), **{name: torch.zeros(len(part), 1) for name, part in labels.items()}}
    shares = {"100@1:b": torch.tensor([1.0, 0.0]), **labels}

    agreed = cross_validate(
        lambda features, labels: {},
        lambda state, features: {name: scores.get(name, shares[name]) for name in features.values},
        Features(("magnitude",), tables),
        shares,
        folds=2,
    )

    assert 1.0 == agreed.precision


def test_a_single_layer_cannot_be_held_out() -> None:
    """A network of one layer leaves no training layer: an error, not a score on training layers."""
    features = Features(("magnitude",), {"100:only": torch.rand(8, 1)})

    with pytest.raises(ValueError, match="one layer"):
        cross_validate(lambda f, s: {}, lambda s, f: {}, features, {"100:only": torch.rand(8)}, folds=3)


def test_a_prediction_that_is_no_number_ranks_last() -> None:
    """A scorer that diverged gets the worst value, so that a study goes on without it."""
    assert -1.0 == spearman(torch.tensor([0.1, float("nan"), 0.3]), torch.tensor([1.0, 2.0, 3.0]))

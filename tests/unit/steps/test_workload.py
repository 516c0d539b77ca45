"""Counted work: the multiply-adds that torch counts, whatever the machine, its load and the kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from autosparse.core.allocation import macs
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.images import Images, batch_sizes
from autosparse.core.scorers import macs_of, scorers
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.cost.work import count_dense_training, count_work
from autosparse.measure.probe import evidence_of, learn_scorer, made_up_images, random_tables
from autosparse.steps.workload import GRADIENT, HESSIAN_PRODUCT, NOTHING, Counted, images_in, sum_counted
from tests.plans import DIGITS, compiled

IMAGES = 8


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Two convolutions, normalization and a linear layer."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, padding=1, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Images:
    """Random images of ten classes."""
    return made_up_images(IMAGES, (3, 8, 8), 10, torch.device("cpu"))


@pytest.fixture
def evidence(network: torch.nn.Module, images: Images) -> Evidence:
    """Evidence about the network from one batch."""
    return evidence_of(network, images)


def counted_by_torch(work: Callable[[], object]) -> float:
    """Return the multiply-adds of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 2


def first_of(evidence: Evidence) -> int:
    """Return the multiply-adds of the first layer: torch leaves its gradient in the images out."""
    return evidence.layers[0].size * evidence.layers[0].positions


def test_training_an_image_counts_three_forward_passes(
    network: torch.nn.Module, images: Images, evidence: Evidence
) -> None:
    """A pass forward and two backward, less the first layer's gradient in the images, which is never computed."""

    def trained(epochs: int) -> float:
        recipe, generator = Recipe(epochs=epochs, batch=4, crop=0), torch.Generator().manual_seed(0)
        return counted_by_torch(lambda: train(network, images, recipe, generator))

    two_epochs = trained(4) - trained(2)  # without what a training takes to begin

    passes = GRADIENT * macs(evidence.layers) - first_of(evidence)
    steps = 4 * macs(evidence.layers)  # the memory layout of the inputs is checked by a pass of one
    assert 2 * IMAGES * passes == pytest.approx(two_epochs, abs=steps)


def test_a_forward_pass_counts_one(network: torch.nn.Module, images: Images, evidence: Evidence) -> None:
    """Of an evaluation; passes that check the memory layout come on top, for any number of images."""
    assert isinstance(images.pixels, torch.Tensor)
    half = replace(images, pixels=images.pixels[: IMAGES // 2], labels=images.labels[: IMAGES // 2])
    whole, part = (
        counted_by_torch(partial(accuracy, network, some, "float32", batch=IMAGES)) for some in (images, half)
    )

    assert IMAGES // 2 * macs(evidence.layers) == whole - part


@pytest.mark.parametrize("name", ["snip", "synflow", "magnitude", "random"])
def test_criteria_without_hessian_products_count_exactly(name: str, evidence: Evidence) -> None:
    """Three forward passes for a gradient over an image, or for a pass of ones; none without either."""
    entry = criteria[name]
    options = {"images": IMAGES} if "images" in entry.options else {}
    passes = IMAGES * entry.facts.get("gradients", 0) + entry.facts.get("flows", 0)

    expected = passes * (GRADIENT * macs(evidence.layers) - first_of(evidence))
    assert expected == counted_by_torch(lambda: entry.function(evidence, **options))


@pytest.mark.parametrize(("name", "options"), [("grasp", {"parts": 1}), ("prospr", {"steps": 1}), ("prospr", {})])
def test_a_hessian_product_counts_nine_forward_passes(name: str, options: dict[str, Any], evidence: Evidence) -> None:
    """Up to the first layer, of which torch leaves out the gradients in the images."""
    entry = criteria[name]
    given = {**{option: entry.options[option].default for option in entry.options}, **options, "images": IMAGES}
    gradients, products = (
        fact(given) if callable(fact := entry.facts[part]) else fact for part in ("gradients", "hessian_products")
    )
    counted = counted_by_torch(lambda: entry.function(evidence, **given))

    most = IMAGES * (GRADIENT * gradients + HESSIAN_PRODUCT * products) * macs(evidence.layers)
    assert most - IMAGES * (gradients + 5 * products) * first_of(evidence) <= counted <= most


@pytest.mark.parametrize("name", ["paper", "mlp", "hazard"])
def test_perceptrons_count_their_layers(name: str) -> None:
    """One forward pass for the score of a weight; three for each weight of an update, less the first layer's inputs."""
    options = {"batch": 512, "steps": 3}
    one, learning = macs_of(name, options)
    tables = random_tables(name, options, torch.device("cpu"))
    state = learn_scorer(name, options, tables, 1)
    weights = sum(map(len, tables.values.values()))

    assert weights * one == counted_by_torch(lambda: scorers[name].facts["predict"](state, tables))
    assert learning == 3 * 512 * 3 * one
    actual = counted_by_torch(lambda: learn_scorer(name, options, tables, 3))
    assert 0.7 * learning < actual <= learning


def test_a_scorer_in_closed_form_counts_nothing() -> None:
    """Its few sums over layers are no multiply-adds of a network."""
    assert (0, 0) == macs_of("quota", {})


def test_images_are_counted_by_batches() -> None:
    """The last batch of an epoch is smaller; a single left image joins the one before."""
    assert [4, 4, 2] == batch_sizes(10, 4)
    assert [0, 4, 8, 10, 14, 20] == [images_in(steps, 4, 10) for steps in (0, 1, 2, 3, 4, 6)]
    assert [4, 9] == [images_in(steps, 4, 9) for steps in (1, 2)]


def test_a_plan_counts_trainings_of_its_dense_network() -> None:
    """A mask without training costs exactly 0, a pruned network as much as the dense one, IRP a training a round."""
    plan = compiled(DIGITS, "irp={rounds: 3, epochs: 6, rewind_to: 5}")
    works, once = count_work(plan), count_dense_training(plan)
    network = plan.steps["init/resnet8/seed0"].network.facts
    steps = 12 * len(batch_sizes(1197, plan.spec.training.batch))

    assert Counted(steps, 12 * 1197, 3 * 12 * 1197 * network.macs) == once
    assert once == works["train/dense/seed0"].load.counted == works["train/snip/0.98/seed0"].load.counted
    assert NOTHING == works["mask/erk/0.9/seed0"].load.counted == works["mask/magnitude/0.9/seed0"].load.counted
    assert Counted(0, 256, 3 * 256 * network.macs) == works["mask/snip/0.9/seed0"].load.counted
    assert Counted(0, 200, 12 * 100 * network.macs) == works["mask/grasp/0.9/seed0"].load.counted
    assert Counted(0, 0, 3 * 100 * network.macs) == works["mask/synflow/0.9/seed0"].load.counted
    batch = plan.spec.training.batch
    source = works["irp/seed100/round1"].load.counted
    assert steps // 2 - 5 == source.steps
    assert 6 * 1197 - 5 * batch + 300 == source.images  # and the validation images
    assert Counted(5, 5 * batch, 15 * batch * network.macs) == works["rewind/seed100"].load.counted


def test_factors_take_memory_and_scaling_takes_nothing() -> None:
    """Sign-In holds six more vectors of all parameters; neither option changes counted work or the dense network."""
    plain, scaled, factored = (
        compiled(DIGITS, *some) for some in ([], ["training.rescale=0.5"], ["training.reparameterization=sign_in"])
    )
    before, same, more = (count_work(plan) for plan in (plain, scaled, factored))
    name, vector = "train/snip/0.98/seed0", 4 * plain.steps["init/resnet8/seed0"].network.facts.parameters

    assert before == same
    assert before["train/dense/seed0"] == more["train/dense/seed0"]
    assert before[name].load.counted == more[name].load.counted
    assert before[name].load.memory[0]["bytes"] + 6 * vector == more[name].load.memory[0]["bytes"]
    assert before[name].kind != more[name].kind


def test_the_unit_needs_no_dense_network_in_the_plan() -> None:
    """It comes from the recipe, not from a step; masks, seeds, precision, kernels and threads change nothing."""
    dense = count_dense_training(compiled(DIGITS))
    other = ["compare=[snip]", "seeds=[0,1]", "training.precision=float32", "target.threads=1"]

    assert dense == count_dense_training(compiled(DIGITS, *other))
    assert dense == count_dense_training(compiled(DIGITS, "training.kernels=compiled"))
    assert dense is not None
    assert 2 * dense.images == sum_counted([dense, dense]).images == (dense * 2).images
    longer = count_dense_training(compiled(DIGITS, "training.epochs=24"))
    assert longer == dense * 2


def test_a_search_and_a_learned_scorer_count_their_work() -> None:
    """Steps of a search are steps of a training; the paper's scorer takes 1.18 million multiply-adds a weight."""
    plan = compiled(DIGITS, "method=mask_search", "scorer=paper", "compare=[learned]")
    works, network = count_work(plan), plan.steps["init/resnet8/seed0"].network.facts
    search, learned = (works[f"mask/{name}/0.9/seed0"].load.counted for name in ("mask_search", "learned"))

    assert 400 == search.steps
    assert 3 * search.images * network.macs == search.macs
    gradient = 3 * learned.images * network.macs
    assert 1_180_768 * network.total == learned.macs - gradient
    assert works["scorer"].load.counted.macs == 3 * 1000 * 1024 * 1_180_768


def test_trials_count_their_folds_and_their_proxy() -> None:
    """A scorer is learned once a fold; a proxy learns it once more, and trains the network that it prunes."""
    plain, proxied = (count_work(compiled(DIGITS, *some)) for some in ([], ["tuning.proxy={epochs: 2, weight: 0.5}"]))
    once = plain["scorer"].load.counted.macs
    trial, proxy = (works["trial/0"].load.counted for works in (plain, proxied))

    assert 3 * once < trial.macs < 4 * once
    assert (0, 0) == (trial.steps, trial.images)
    assert 2 * len(batch_sizes(1197, 128)) == proxy.steps
    assert proxy.macs - trial.macs > once


def test_a_calibration_counts_its_images() -> None:
    """Of `int8` alone; its training images are in memory. One network has all three models, in folders of their own."""
    emit = "emit=[onnx, {name: onnx, quantize: int8}, {name: onnx, quantize: dynamic}]"
    plan = compiled(DIGITS, emit, "budget=0.9")
    works = {name.split("/")[1]: count_work(plan)[name].load for name, step in plan.steps.items() if "emit" in name}
    (macs,) = {step.network.facts.macs for name, step in plan.steps.items() if name == "init/resnet8/seed0"}
    plain, static, dynamic = (works[name] for name in ("onnx", "onnx-int8", "onnx-dynamic"))

    assert (256, 256 * macs) == (static.counted.images - plain.counted.images, static.counted.macs - plain.counted.macs)
    assert plain.counted == dynamic.counted
    assert 256 == static.units["forward"] - plain.units["forward"]
    assert [len(plain.memory)] * 2 == [len(static.memory) - 1, len(dynamic.memory)]
    assert (16, 1.0) == (static.memory[-1]["forward"], static.memory[-1]["bytes"] / dynamic.memory[0]["bytes"])
    assert plain.memory[0]["bytes"] < dynamic.memory[0]["bytes"]
    assert static.about != plain.about

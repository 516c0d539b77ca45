"""What steps have to do, counted: images trained, gradients, passes, bytes; before anything is known of a machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autosparse.backends import EVALUATION_BATCH
from autosparse.core.criteria import criteria
from autosparse.core.irp import RANK_IMAGES
from autosparse.core.sanity import left_out
from autosparse.core.schedule import schedules, training_steps
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.selection import selections
from autosparse.core.training.loop import of_a_step
from autosparse.cost.counted import Counted, Inputs, with_compiler
from autosparse.exporters import exporters
from autosparse.models.facts import NetworkFacts
from autosparse.plan.builder import scorer_options
from autosparse.plan.compile import LABEL_EXAMPLES, LABEL_ROUNDS
from autosparse.plan.lookup import kernels_of, network_of, place_of
from autosparse.plan.model import Plan, Step
from autosparse.spec import Pretrained
from autosparse.store import digest

SAMPLE_BATCH = 256
_DECODERS = 64 * 2**20  # what reading a set takes beside its images, such as encoded files
_UNTRAINED: Mapping[str, Any] = {"batch": 0, "crop": 0, "precision": "float32"}
_LINE, _CARD = 600, 8_000  # bytes of a small JSON file and of a model's card


def count_work(plan: Plan) -> dict[str, Counted]:
    """The work of every step whose network is known; traces networks that were never seen.

    Steps on data that is not there yet are left out: neither the images' shape nor their number is known.
    """
    facts: dict[str, NetworkFacts] = {}
    found: dict[str, Counted] = {}
    representative: dict[str, str] = {}
    groups, scorer = _feature_groups(plan), plan.spec.scorer
    updates = 1 if isinstance(scorer, Pretrained) else scorer.options().get("steps", 1)
    warm_up = scorer_options(plan.spec, plan.steps).get("warm_up", 0)
    for name, step in plan.steps.items():
        if not (place := place_of(plan, step)):
            continue
        start, source = place
        if start not in facts:
            facts[start] = network_of(plan, start)
            representative.setdefault(facts[start].identity, start)
        kernels = kernels_of(plan, step, facts[start].total)
        inputs = Inputs(facts[start], source, len(step.inputs), groups, updates, warm_up, kernels)
        found[name] = _COUNTS[step.operation](step, inputs, representative[facts[start].identity])
    return with_compiler(found)


def _feature_groups(plan: Plan) -> tuple[str, ...]:
    scorer = plan.spec.scorer
    if isinstance(scorer, Pretrained):
        return tuple(plan.steps["scorer"].options["scorer"]["features"]) if "scorer" in plan.steps else ()
    return groups_of(scorer.name, scorer.options())


def _kind(step: Step, network: str, **options: Any) -> str:
    return digest([step.operation, step.version, network, options])


def _data(step: Step, of: Inputs, network: str) -> Counted:
    size = of.images * of.image_bytes
    return Counted(
        _kind(step, "", identity=step.options["identity"]),
        1.0,
        {"step": 1, "open": 1, "decoded": size},
        ({"bytes": 3 * size + _DECODERS},),
        size + 8 * of.images,
    )


def _init(step: Step, of: Inputs, network: str) -> Counted:
    return Counted(
        _kind(step, of.facts.identity),
        1.0,
        {"step": 1, "build": 2, "bytes": of.state_bytes},
        ({"bytes": 3 * of.state_bytes},),
        of.state_bytes + _LINE + 100 * len(of.facts.layers),
        network,
    )


def _trained(step: Step, of: Inputs, network: str) -> Counted:
    recipe = step.options["training"]
    batch = min(recipe["batch"], of.source.train_images)
    images = recipe["epochs"] * of.source.train_images - step.options.get("rewind_to", 0) * batch
    data = of.source.train_images * of.image_bytes
    parameters = 7 * 4 * of.facts.parameters
    held = {"data": (1 + _border(of, recipe["crop"])) * data, "bytes": parameters, "train": batch}
    read = {"data": 3 * data, "bytes": 2 * of.state_bytes}
    kept = {name: value for name, value in recipe.items() if name not in ("epochs", "lr", "weight_decay", "momentum")}
    kept |= {name: step.options[name] for name in ("rewind_to",) if name in step.options}
    kept |= {"kernels": of.kernels} if "kernels" in recipe else {}
    kept |= {"images": images} if of.kernels == "compiled" else {}  # compiling takes as long for few as for many
    units: dict[str, float] = {"step": 1, "build": 1, **of.trained(images), "bytes": data + 2 * of.state_bytes}
    size = of.state_bytes + _LINE
    after: dict[str, float] = {}
    if step.operation == "irp":
        units |= {"forward": of.source.validation_images, "select": of.facts.total}
        if step.options["rank_by"] == "snip":
            kept["rank_by"] = "snip"
            units["gradient"] = RANK_IMAGES
        size = 5 * of.facts.total + _LINE
        validated = min(of.source.validation_images, EVALUATION_BATCH)
        after = {"data": data, "bytes": parameters, "forward": validated}
    return Counted(
        _kind(step, of.facts.identity, shape=list(of.source.shape), **kept),
        float(images),
        units,
        (held, read, after),
        size,
        network,
        recipe["batch"],
        recipe["precision"],
        of.kernels,
    )


def _rewound(step: Step, of: Inputs, network: str) -> Counted:
    recipe = step.options["training"]
    whole = _trained(step, of, network)
    images = float(step.options["steps"] * min(recipe["batch"], of.source.train_images))
    own = {"batch": recipe["batch"], **({"compiled": images} if of.kernels == "compiled" else {})}
    kind = _kind(step, of.facts.identity, shape=list(of.source.shape), **own)
    return replace(whole, kind=kind, amount=images, units={**whole.units, **of.trained(images)})


def _label(step: Step, of: Inputs, network: str) -> Counted:
    data = of.source.train_images * of.image_bytes
    rounds = sum(role.startswith("round") for role in step.inputs)
    masks = rounds * of.facts.total
    apart = {name: step.options[name] for name in ("progressive", "warm_up", "training") if name in step.options}
    times = min(rounds, apart.get("progressive", 1))  # the network is described
    recipe = apart.get("training", _UNTRAINED)
    batch = min(recipe["batch"], of.source.train_images)
    images = min(step.options["images"], of.source.train_images)
    described = 3 * 4 * of.columns * _largest(of)  # a layer at a time
    return Counted(
        _kind(step, of.facts.identity, images=images, rounds=len(step.inputs), **apart),
        1.0,
        {
            "step": 1,
            "build": 1,
            "gradient": times * images,
            "flow": times * of.feature_flows,
            "features": times * of.facts.total,
            "train": times * apart.get("warm_up", 0) * batch,
            "bytes": data + masks,
        },
        (
            {"data": 3 * data, "bytes": masks},
            {"data": data, "bytes": masks + 3 * of.state_bytes, "gradient": min(images, SAMPLE_BATCH)},
            {"data": data, "bytes": masks + 3 * of.state_bytes + described},
            *_warming_up(of, recipe, masks),
        ),
        of.facts.total + _examples(of, times) + _LINE,
        network,
        recipe["batch"],
        recipe["precision"],
    )


def _trial(step: Step, of: Inputs, network: str) -> Counted:
    scorer = step.options["scorer"]
    sources = sum(role.startswith("label") for role in step.inputs)
    examples = sources * _examples(of, _described(scorer["name"]))
    steps = step.options["folds"] * scorer["options"].get("steps", 1)
    aims = {name: step.options[name] for name in ("pruner", "proxy", "method", "training") if name in step.options}
    kind = _kind(step, of.facts.identity, scorer=scorer, folds=step.options["folds"], sources=sources, **aims)
    units = {"step": 1, "scorer": steps, "bytes": examples}
    work = Counted(kind, 1.0, units, ({"bytes": 4 * examples},), _LINE + 100 * len(step.inputs))
    return _validated(step, of, network, work) if "proxy" in step.options else work


def _validated(step: Step, of: Inputs, network: str, work: Counted) -> Counted:
    # A trial with its proxy's training: the scorer is fitted once more, to all examples.
    options = step.options
    recipe = {**options["training"], "epochs": options["proxy"]["epochs"]}
    brief = {"training": of_a_step(recipe)}
    whole = replace(work, units={**work.units, "scorer": work.units["scorer"] * (1 + 1 / options["folds"])})
    parts = (
        whole,
        _mask(replace(step, options={"method": options["method"], **brief}), of, network),
        _trained(replace(step, options={"training": recipe}), of, network),
    )
    units = {**_units(parts), "forward": of.source.validation_images}
    memory = tuple(phase for part in parts for phase in part.memory)
    about = {name: recipe[name] for name in ("batch", "precision")}
    return replace(whole, units=units, memory=memory, network=network, kernels=of.kernels, **about)


def _tune(step: Step, of: Inputs, network: str) -> Counted:
    return Counted(_kind(step, ""), 1.0, {"step": 1}, ({},), _LINE + 100 * len(step.inputs))


def _scorer(step: Step, of: Inputs, network: str) -> Counted:
    sources = sum(role.startswith("label") for role in step.inputs)
    examples = sources * _examples(of, _described(step.options["name"]))
    kind = _kind(step, of.facts.identity, name=step.options["name"], sources=sources)
    return Counted(kind, 1.0, {"step": 1, "scorer": of.updates, "bytes": examples}, ({"bytes": 3 * examples},), 30_000)


def _pretrained(step: Step, of: Inputs, network: str) -> Counted:
    return Counted(_kind(step, ""), 1.0, {"step": 1}, ({},), 30_000)


def _mask(step: Step, of: Inputs, network: str) -> Counted:
    method = step.options["method"]
    schedule, criterion = method["schedule"], method["criterion"]
    rounds = schedule["options"].get("rounds", 1)
    scorings = rounds + ("repair" in method)
    facts = {
        name: fact(criterion["options"]) if callable(fact) else fact
        for name, fact in criteria[criterion["name"]].facts.items()
    }
    images = min(criterion["options"].get("images", 0), of.source.train_images)
    at_once = math.ceil(min(images, SAMPLE_BATCH) / criterion["options"].get("parts", 1))
    data = of.source.train_images * of.image_bytes
    held = (4 + facts.get("states", 0)) * of.state_bytes
    described = 3 * 4 * of.columns * _largest(of) if facts.get("features") else 0  # a layer at a time
    passes = facts.get("gradients", 0)
    recipe = step.options.get("training", _UNTRAINED)
    warm_up = of.warm_up if facts.get("needs_scorer") else 0
    batch = min(recipe["batch"], of.source.train_images)
    cost = schedules[schedule["name"]].facts.get("step_cost")
    trained = training_steps(method) * (cost(schedule["options"]) if cost else 1)
    turns = selections[method["selection"]["name"]].facts.get("flows_per_layer", 0)
    apart = {**({"training": recipe} if batch else {}), **({"warm_up": warm_up} if warm_up else {})}
    units = {
        "step": 1,
        "build": 1,
        "bytes": data + of.state_bytes + 5 * of.facts.total * sum(role.startswith("round") for role in step.inputs),
        "gradient": scorings * passes * images,
        # What the masks cut and how many paths they leave takes three; reconnecting, a few for each thing cut.
        "flow": rounds * (facts.get("flows", 0) + turns * len(of.facts.layers))
        + 3
        + (20 if "repair" in method else 0)
        + (scorings * of.feature_flows if facts.get("features") else 0),
        "features": scorings * facts.get("features", 0) * of.facts.total,
        "predict": scorings * of.facts.total * bool(facts.get("needs_scorer")),
        "select": rounds * of.facts.total,
        "train": (trained + scorings * warm_up) * batch,
    }
    return Counted(
        _kind(step, of.facts.identity, method=method, images=images, **apart),
        1.0,
        units,
        (
            {"data": 3 * data, "bytes": of.state_bytes},
            {"data": data, "bytes": held, "gradient": at_once * min(2, math.ceil(passes))},
            {"data": data, "bytes": held + described},
            {"data": (1 + _border(of, recipe["crop"])) * data, "bytes": 3 * held * bool(batch), "train": batch},
            {"data": data, "bytes": held + 32 * of.facts.total},  # paths are counted in float64
        ),
        of.facts.total + _LINE + 240 * len(of.facts.layers),
        network,
        recipe["batch"],
        recipe["precision"],
    )


def _trains(method: Mapping[str, Any], of: Inputs) -> bool:
    # Whether making its masks takes training steps.
    needs_scorer = criteria[method["criterion"]["name"]].facts.get("needs_scorer")
    return bool(training_steps(method) or (needs_scorer and of.warm_up))


def _warming_up(of: Inputs, recipe: Mapping[str, Any], beside: int) -> tuple[Mapping[str, float], ...]:
    # What is held while a network is trained for some steps; nothing where it is not.
    if not recipe["batch"]:
        return ()
    batch = min(recipe["batch"], of.source.train_images)
    data = of.source.train_images * of.image_bytes
    return ({"data": (1 + _border(of, recipe["crop"])) * data, "bytes": beside + 12 * of.state_bytes, "train": batch},)


def _shuffled(step: Step, of: Inputs, network: str) -> Counted:
    data = of.source.train_images * of.image_bytes
    return Counted(
        _kind(step, of.facts.identity),
        1.0,
        {"step": 1, "build": 1, "bytes": data + of.state_bytes, "flow": 3},
        (
            {"data": 3 * data, "bytes": of.state_bytes},
            {"data": data, "bytes": 4 * of.state_bytes + 32 * of.facts.total},
        ),
        of.facts.total + _LINE + 240 * len(of.facts.layers),
        network,
    )


def _sanity(step: Step, of: Inputs, network: str) -> Counted:
    # What the dearest of the candidates takes that the check is not left out for.
    options, check = step.options, step.options["check"]
    trained = _trained(step, of, network)
    evaluated = _evaluate(replace(step, options={"precision": options["training"]["precision"]}), of, network)
    parts = [trained, evaluated]
    if check not in ("shuffle", "reinitialize"):
        methods = [method for method in options["candidates"].values() if not left_out(check, method)]
        brief = {"training": of_a_step(options["training"])}
        masks = [
            _mask(replace(step, options={"method": method, **(brief if _trains(method, of) else {})}), of, network)
            for method in methods
        ]
        times = 2 if check == "invert" else 1
        units = {unit: times * max(mask.units[unit] for mask in masks) for unit in masks[0].units}
        parts += [replace(masks[0], units=units, memory=tuple(phase for mask in masks for phase in mask.memory))]
    recipe = options["training"]
    return Counted(
        _kind(step, of.facts.identity, check=check, candidates=sorted(options["candidates"]), training=recipe),
        1.0,
        _units(parts),
        tuple(phase for part in parts for phase in part.memory),
        3 * _LINE,
        network,
        recipe["batch"],
        recipe["precision"],
        of.kernels,
    )


def _evaluate(step: Step, of: Inputs, network: str) -> Counted:
    images = of.source.validation_images + of.source.test_images
    data = images * of.image_bytes
    return Counted(
        _kind(step, of.facts.identity, images=images, precision=step.options["precision"]),
        1.0,
        {"step": 1, "build": 1, "forward": images, "bytes": data + of.state_bytes},
        (
            {"data": 3 * data, "bytes": 2 * of.state_bytes},
            {"data": data, "bytes": 2 * of.state_bytes, "forward": min(images, EVALUATION_BATCH)},
        ),
        2 * _LINE + 260 * len(of.facts.layers),
        network,
        precision=step.options["precision"],
    )


def _emit(step: Step, of: Inputs, network: str) -> Counted:
    size, images = of.state_bytes + of.facts.total, of.source.test_images
    builds = 4 + exporters[step.options["format"]].facts.get("builds", 0)
    data = images * of.image_bytes
    return Counted(
        _kind(step, of.facts.identity, format=step.options["format"], images=images),
        1.0,
        # Another process, one for the run, opens it and gives its outputs for the test images as this one does.
        {
            "step": 1,
            "build": builds,
            "forward": 2 * images,
            "bytes": 2 * size + of.state_bytes + 2 * data,
        },
        (
            {"data": 3 * data, "bytes": 5 * of.state_bytes},
            {"data": data, "bytes": 5 * of.state_bytes, "forward": min(images, EVALUATION_BATCH)},
        ),
        size + _CARD + 150 * len(of.facts.layers),
        network,
    )


def _units(parts: Sequence[Counted]) -> dict[str, float]:
    return {unit: sum(part.units.get(unit, 0) for part in parts) for part in parts for unit in part.units}


def _border(of: Inputs, crop: int) -> float:
    # How large the copy of a split is, with a border that random crops are taken from, against the split itself.
    height, width = of.source.shape[1:]
    return (height + 2 * crop) * (width + 2 * crop) / (height * width) if crop else 0.0


def _examples(of: Inputs, times: int) -> int:
    # Bytes of the examples of a network that is described so many times.
    return 4 * (of.columns + 1) * sum(min(LABEL_EXAMPLES, times * layer.size) for layer in of.facts.layers)


def _described(scorer: str) -> int:
    return LABEL_ROUNDS if scorers[scorer].facts.get("progressive") else 1


def _largest(of: Inputs) -> int:
    return max(layer.size for layer in of.facts.layers)


_COUNTS: Mapping[str, Callable[[Step, Inputs, str], Counted]] = {
    "data": _data, "init": _init, "irp": _trained, "rewind": _rewound, "train": _trained, "label": _label,
    "trial": _trial, "tune": _tune, "scorer": _scorer, "pretrained": _pretrained, "mask": _mask,
    "shuffle": _shuffled, "evaluate": _evaluate, "emit": _emit, "sanity": _sanity,
}  # fmt: skip

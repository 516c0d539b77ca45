"""compile(spec) -> Plan: every step with its key, before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from autosparse.core.features import feature_groups
from autosparse.core.presets import OTHER_WEIGHTS
from autosparse.core.scorers import groups_of
from autosparse.core.training.recipe import of_a_step, training_steps_of
from autosparse.core.weights import keep_count
from autosparse.errors import UsageError
from autosparse.planning.budgets import describe_patterns, plan_budget
from autosparse.planning.builder import (
    Builder,
    blame,
    facts_of,
    keyed_proxy,
    keyed_recipe,
    scorer_of,
    tunable_limits,
)
from autosparse.planning.cells import Named, Recipes, add_cell, add_dense, emit_cell
from autosparse.planning.checks import controls_of, plan_checks
from autosparse.planning.latency import add_tables
from autosparse.planning.model import Cell, Plan, PlannedBudget
from autosparse.planning.orders import add_stages, add_start, add_ticket, ordered
from autosparse.planning.size import check_size
from autosparse.planning.sources import add_network, add_oracle_rounds, add_rounds, recipe_paths, source_paths
from autosparse.planning.starts import check_recipe, check_sources, describe_starts, trained_start
from autosparse.spec import DENSE, Method, Pretrained, Spec, with_horizon, with_selections
from autosparse.spec.choices import Choice
from autosparse.steps.label import EXAMPLES, IMAGES, ROUNDS
from autosparse.steps.mask import takes_training
from autosparse.steps.scorer import read_scorer
from autosparse.steps.tuning.study import SELECTION


def compile_plan(spec: Spec, name: str) -> Plan:
    """Compile a resolved spec to a plan of steps, each with its cache key. Nothing runs.

    Keys contain what determines results, and neither names nor the target.

    Args:
        spec: Resolved spec: every `auto` has a value.
        name: Name of the plan, mostly the stem of the spec's file.

    Returns:
        The plan: every step with its options, inputs and key, and the cells of the comparison.

    Raises:
        UsageError: If the data, the network or user code contradicts the spec; errors of values are InvalidValue.

    Examples:
        >>> from pathlib import Path
        >>> from autosparse.backends import this_machine
        >>> from autosparse.spec import load_spec, resolve
        >>> path = Path("snip.yaml")
        >>> text = "{version: 1, model: lenet, dataset: digits, method: snip, compare: [], controls: []}"
        >>> _ = path.write_text(text)
        >>> loaded = load_spec(path, budget=["0.9", "0.98"])
        >>> plan = compile_plan(resolve(loaded.spec, this_machine()), loaded.name)
        >>> [step.name for step in plan.of("mask")]
        ['mask/snip/0.9/seed0', 'mask/snip/0.98/seed0']
    """
    check_size(spec)
    build = Builder()
    # The networks to prune come first: their errors show before an IRP is paid for.
    networks = {seed: add_network(build, spec.model, spec.dataset, seed, "network", _PRUNED) for seed in spec.seeds}
    source = build.sources[networks[spec.seeds[0]]["data"]]
    # The length of a training is unknown until the images exist; no key is final until then.
    horizons = frozenset(method.name for method in spec.methods if method.horizon is not None)
    spec = with_horizon(spec, training_steps_of(spec.training, source.train_images) if source.known else 1)
    learned = any(method.needs_scorer for method in spec.methods)
    pretrained = None
    if learned and isinstance(spec.scorer, Pretrained):
        with blame("scorer.pretrained"):
            pretrained = read_scorer(spec.scorer.pretrained)
    spec = with_selections(spec, pretrained)
    scorer = _scorer(build, spec, pretrained, networks) if learned else None
    check_sources(build, networks.values())
    check_recipe(build, spec, networks.values())
    budgets = _budgets(build, spec, networks[spec.seeds[0]])
    cells: list[Cell] = []
    references: list[Cell] = []
    recipes: Recipes = {}
    ticket = add_ticket(build, spec) if any(method.needs_order for method in spec.methods) else ""
    tables = add_tables(build, spec, networks[spec.seeds[0]], budgets)
    for seed in spec.seeds:
        plain = networks[seed]
        started = add_start(build, plain, ticket, "network") if ticket and spec.ticket.initialize else plain
        for budget in budgets:
            method_mask = ""
            for one in _methods(spec):
                base = started if one.starts_from_ticket else plain
                given = dict(base)
                if one.method is None or not one.method.starts_dense:
                    made = {"scorer": scorer, "order": ticket, "latency": tables.get(budget.name), "mask": method_mask}
                    given["mask"] = _mask(build, spec, one, base, budget, budgets, seed, made, horizons)
                cells.append(add_cell(build, spec, given, one, budget, seed, recipes))
                method_mask = method_mask or cells[-1].mask or ""  # the method precedes its controls
        if DENSE in spec.compare:
            cells.append(add_dense(build, spec, plain, seed, recipes))
        references += [add_dense(build, spec, plain, seed, recipes, length) for length in spec.dense_lengths]
    first = [cell for cell in cells if cell.role == "method" and cell.seed == spec.seeds[0]]
    for cell, budget in zip(first, budgets, strict=True):
        emit_cell(build, spec, cell, budget, cells)
    checks = tuple(plan_checks(build, spec, cells, budgets))
    remarks = (*describe_starts(build, spec), *describe_patterns(spec))
    return Plan(
        name, spec, build.steps, build.sources, tuple(cells), references=tuple(references), checks=checks,
        horizons=horizons, starts=build.starts, remarks=remarks,
    )  # fmt: skip


def named_user_code(spec: Spec) -> tuple[str, ...]:
    """Return the user code that a spec names.

    Args:
        spec: Validated spec.

    Returns:
        Names as written, such as `nets.py:build`, each once.
    """
    choices: tuple[Choice | None, ...] = (
        spec.model,
        spec.dataset,
        *((*spec.irp.networks, spec.irp.dataset) if spec.learns else ()),
    )
    if any(method.needs_order for method in spec.methods):
        choices = (*choices, spec.ticket.model, spec.ticket.dataset)
    named = (choice.name for choice in choices if choice is not None and choice.entry.facts.get("user_code"))
    return tuple(dict.fromkeys(named))


def _budgets(build: Builder, spec: Spec, network: Mapping[str, str]) -> list[PlannedBudget]:
    budgets = []
    for index, budget in enumerate(spec.budget):
        if isinstance(budget, float):
            budgets.append(PlannedBudget(str(budget), budget))
        elif build.sources[network["data"]].known:
            facts = facts_of(build.steps[network["init"]])
            with blame(f"budget.{index}"):
                budgets.append(plan_budget(budget, facts, spec.model.short_name))
        else:  # the size of the network is unknown until the images exist; no key is final until then
            budgets.append(PlannedBudget(str(budget), None, budget))
    return budgets


def _methods(spec: Spec) -> list[Named]:
    def named(name: str, method: Method | None, role: str) -> Named:
        ticket = (method or spec.method).needs_order and not name.endswith(f".{OTHER_WEIGHTS}")
        return Named(name, method, role, starts_from_ticket=ticket)

    controls = [named(name, method, "control") for name, method in controls_of(spec)]
    compared = [named(method.name, method, "compared") for method in spec.compared]
    return [named(spec.method.name, spec.method, "method"), *controls, *compared]


def _mask(
    build: Builder,
    spec: Spec,
    one: Named,
    base: Mapping[str, str],
    budget: PlannedBudget,
    budgets: Sequence[PlannedBudget],
    seed: int,
    made: Mapping[str, str | None],
    horizons: Collection[str],
) -> str:
    # The masks that a network is trained under; `made` are the other steps that some methods take, by role.
    step_name, method = f"mask/{one.name}/{budget.name}/seed{seed}", one.method
    needed = {
        "mask": method is None,
        "scorer": method is not None and method.needs_scorer,
        "order": method is not None and method.needs_order,
        "latency": method is not None and budget.is_latency,
    }
    inputs = {**base, **{role: step for role, step in made.items() if needed[role] and step}}
    if method is None:
        return build.add(step_name, "shuffle", {"seed": seed}, inputs, one.purpose)
    if method.needs_rounds:
        inputs |= add_oracle_rounds(build, spec, base, budget, seed, one.purpose)
    options, paths = _mask_options(build, spec, method, budget, seed), {"method": one.path}
    if one.name in horizons:  # the horizon sets the steps of a search
        paths["method.schedule.options.steps"] = f"{one.path}.horizon"
    if method.shares_search:
        inputs = {**base, "order": add_stages(build, one, inputs, budgets, options, paths)}
        options = ordered(options, method)
    return build.add(step_name, "mask", options, inputs, one.purpose, paths=paths)


def _mask_options(build: Builder, spec: Spec, method: Method, budget: PlannedBudget, seed: int) -> dict[str, Any]:
    # Without `updates`: equal masks to start from have equal keys.
    choices = {part: choice for part, choice in method.choices().items() if part != "updates"}
    options = {"method": choices, **budget.options, "seed": seed}
    if takes_training(method.choices(), scorer_of(spec, build.steps)[1].get("warm_up", 0)):
        options["training"] = of_a_step(keyed_recipe(spec.training))
    return options


_PRUNED = {"model": "model", "identity": "dataset", "seed": "seeds"}
"""option -> path of the spec, for the networks to prune"""


def _scorer(
    build: Builder, spec: Spec, pretrained: dict[str, Any] | None, networks: Mapping[int, Mapping[str, str]]
) -> str:
    if isinstance(spec.scorer, Pretrained):
        assert pretrained is not None
        return _pretrained(build, spec.scorer.pretrained, pretrained, networks)
    labels = _labels(build, spec)
    chosen = {"name": spec.scorer.name, "version": spec.scorer.entry.version}
    # Trials start from the spec's values. Keys write out the tuned ones, even where they equal the defaults.
    tuned = {name: spec.scorer.options()[name] for name in spec.tuning.options}
    scorer = {**chosen, "options": {**spec.scorer.keyed()["options"], **tuned}}
    space = {name: tunable_limits(spec.scorer.entry.options[name]) for name in spec.tuning.options}
    trials: dict[str, str] = {}
    assert isinstance(spec.tuning.trials, int), "compile takes a resolved spec"
    method = next(method for method in spec.methods if method.needs_scorer)
    proxy = keyed_proxy(spec.tuning, method, spec.irp.training)
    if "selections" in proxy:
        space[SELECTION] = {"values": [*proxy["selections"]]}
    given = {**labels, **(_proxy(build, spec, proxy["proxy"]["seed"]) if proxy and spec.tuning.trials else {})}
    aims = {name: getattr(spec.tuning, name) for name in ("split", "objective", "sampler", "parallel", "pruner")}
    finished: dict[str, str] = {}
    paths = recipe_paths(spec)
    for number in range(spec.tuning.trials):
        # A trial's inputs are those of earlier batches, so its key does not depend on the number of later trials.
        if number % spec.tuning.parallel == 0:
            finished = dict(trials)
        options = {
            "scorer": scorer, "space": space, "folds": spec.tuning.folds, "number": number, "seed": spec.tuning.seed,
            **aims, **proxy,
        }  # fmt: skip
        inputs = {**given, **finished}
        trials[f"trial.{number:04d}"] = build.add(f"trial/{number}", "trial", options, inputs, "scorer", paths=paths)
    tune = build.add("tune", "tune", {"scorer": scorer}, trials, "scorer")
    return build.add("scorer", "scorer", {**chosen, "seed": spec.tuning.seed}, {**labels, "tune": tune}, "scorer")


def _proxy(build: Builder, spec: Spec, seed: int) -> dict[str, str]:
    irp = spec.irp
    assert irp.dataset is not None, "compile takes a resolved spec"
    paths = source_paths(spec, "tuning.proxy.seed")
    network = add_network(build, irp.networks[0], irp.dataset, seed, "scorer", paths)
    if build.sources[network["data"]].known and spec.tuning.proxy is not None:
        facts, sparsity = facts_of(build.steps[network["init"]]), spec.tuning.proxy.sparsity
        if (keep := keep_count(facts.total, sparsity)) < len(facts.layers):
            with blame("tuning.proxy.sparsity"):
                what = f"{facts.total:,} weights of {irp.networks[0].short_name} for {len(facts.layers)} layers"
                message = f"sparsity {sparsity:g} leaves {keep} of the {what}"
                raise UsageError(message, f"at most {1 - len(facts.layers) / facts.total:.6g} leaves one in each")
    return network


def _pretrained(build: Builder, folder: str, about: dict[str, Any], networks: Mapping[int, Mapping[str, str]]) -> str:
    with blame("scorer.pretrained"):
        for seed, network in networks.items():
            if trained_start(build.steps, network) in about.get("starts", ()):
                message = (
                    f"scorer {folder} learned from the network to prune, which starts from the same trained weights at "
                    "every seed: it would be judged on a network it learned from"
                )
                raise UsageError(message, "take a scorer that learned from another network")
            if {role: build.steps[name].key for role, name in network.items()} in about["learned_from"]:
                message = (
                    f"scorer {folder} learned from the network to prune at seed {seed}, which biases its evaluation"
                )
                raise UsageError(message, "such as `seeds: [1]`")
    return build.add("scorer", "pretrained", {"scorer": about}, {}, "scorer", access={"pretrained": folder})


def _labels(build: Builder, spec: Spec) -> dict[str, str]:
    irp = spec.irp
    if len(irp.networks) == 1:
        return {f"label.{s}": _label(build, spec, irp.networks[0], 0, s, f"seed{s}") for s in irp.seeds}
    labels: dict[str, str] = {}
    for number, model in enumerate(irp.models):
        twin = any(other.short_name == model.short_name for other in irp.models[:number])
        home = f"{model.short_name}.{number + 1}" if twin else model.short_name
        for seed in irp.seeds:
            labels[f"label.{number}.{seed}"] = _label(build, spec, model, number, seed, f"{home}/seed{seed}")
    return labels


def _label(build: Builder, spec: Spec, model: Choice, number: int, seed: int, home: str) -> str:
    irp, scorer = spec.irp, spec.scorer
    assert irp.dataset is not None, "compile takes a resolved spec"
    assert isinstance(irp.rounds, int)
    assert not isinstance(scorer, Pretrained)
    network = add_network(build, model, irp.dataset, seed, "source", source_paths(spec, "irp.seeds", number))
    rounds = add_rounds(build, spec, network, irp.rounds, seed, home, "source")
    options = {
        "images": IMAGES,
        "examples": EXAMPLES,
        "features": {name: feature_groups[name].version for name in groups_of(scorer.name, scorer.options())},
        "seed": seed,
    }
    if scorer.entry.facts.get("progressive"):
        options["progressive"] = ROUNDS
    if warm_up := scorer.options()["warm_up"]:
        options |= {"warm_up": warm_up, "training": of_a_step(keyed_recipe(irp.training))}
    return build.add(f"label/{home}", "label", options, {**rounds, **network}, "source", paths=recipe_paths(spec))

"""`prune` and `score`: masks and scores of any network at its present weights, which stay unchanged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autosparse.api.batches import Examples, Signature
from autosparse.api.caller import warn
from autosparse.api.hold import copy_of, named_parameters, unwrap
from autosparse.api.masks import Masks, evidence_of
from autosparse.backends import fitting_threads
from autosparse.core.allocation import macs as macs_of
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence, mean_cross_entropy
from autosparse.core.graph.slicing import Slicing
from autosparse.core.layer_kinds import Kind, declare_layers, declared_of
from autosparse.core.schedule import Pruning
from autosparse.core.torch_compat.autocast_state import autocast_suspended
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import Unit
from autosparse.core.units.cost import in_macs, in_weights
from autosparse.core.weights import (
    Tensors,
    explain_unprunable,
    keep_count,
    left_out,
    prunable_weights,
    sparsity_of,
    total_of,
    unprunable,
)
from autosparse.core.zero_scores import with_signal
from autosparse.errors import AutosparseError, UsageError
from autosparse.lazy_torch import torch
from autosparse.pretrained import DEFAULT
from autosparse.spec.budget import Sparsity
from autosparse.spec.choices import Choice, Seed
from autosparse.spec.diagnostics import explain
from autosparse.spec.document import Document, Mark, plain_values
from autosparse.spec.method import Method, searched
from autosparse.spec.resolve import filled, selection_of
from autosparse.spec.section import Section
from autosparse.steps.scorer import make_scorer, read_scorer, read_state
from autosparse.steps.tickets.folder import load_ticket
from autosparse.text import listed, quoted

# For schedules that train: a default for any network; a spec sets a suitable value.
_RECIPE = Recipe(optimizer="adamw", lr=1e-3, precision="float32")

AnySection = TypeVar("AnySection", bound=Section)
Loss = Callable[[Any, Any], "torch.Tensor"]


class Request(Section):
    """Arguments of `prune` that a spec has as well."""

    method: Method
    sparsity: Sparsity
    seed: Seed


def prune(
    model: torch.nn.Module,
    batches: Iterable[Any] | None = None,
    sparsity: float | None = None,
    *,
    method: str | Mapping[str, Any] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    scorer: str | Path | None = None,
    prunable: Mapping[str, Kind] | None = None,
    exclude: Sequence[str] = (),
    unit: str | Mapping[str, Any] | None = None,
    macs: float | None = None,
    ticket: str | Path | None = None,
    initialize: bool = False,
) -> Masks:
    """Return masks that keep exactly `round((1 - sparsity) * total)` of the model's prunable weights.

    With `unit="2:4"`, or any N of M, the N highest of every M consecutive inputs stay: the unit gives the sparsity.
    Layers whose inputs are no multiple of M stay whole, with a warning.

    With `unit="channel"` whole coupled groups of channels leave, the most that fit: at most that many weights, or at
    most the share `macs` of the multiply-adds. `Masks.shrink` then makes the smaller network, before any training. It
    needs batches, for the input shape, also where the criterion looks at none.

    With `method="ticket"` the masks are those of a `ticket`, found on other images for its initial weights, which the
    model gets with `initialize`. On other initial weights such masks are little better than random ones.

    The model stays unchanged, but for `initialize`; `Masks.apply` and `Masks.hold` zero weights. Scoring uses a copy on
    the model's device, in float32 if the model has lower precision (on Apple's GPUs, which lack float64, on the CPU).
    An AutosparseWarning reports every deviation from the request, such as zero scores of zero-initialized branches, or
    more than a tenth of the parameters in layers that are not prunable.

    Within the call torch uses at most the cores of the process's limits (affinity, container, cluster job), and
    no more than the cores that are idle (on Linux). It never uses more threads than before, and has
    the caller's number again afterwards. The number of threads may change the last bits of gradients, and so the order
    of weights with almost equal scores: for identical masks at any load, call `torch.set_num_threads(1)` before.

    Args:
        model: Network at initialization. It may be compiled, parallel or an average.
        batches: Iterable of `(x, y)`, such as a DataLoader. x is a tensor, several in a tuple or list (by position) or
            in a mapping (by name), each `[batch, ...]`; y is the loss's target. Only as many examples as the
            criterion's `images` are fetched, and every round uses the same; a smaller set is used whole. The criteria
            random and magnitude need no batches; SynFlow needs one, for the input shape.
        sparsity: Fraction of the prunable weights to remove, in [0, 1). A unit of N of M gives it.
        method: Name of a preset, or a mapping as in a spec: `criterion` and optionally `allocation`, `selection`,
            `schedule`, `repair` and `horizon`, the mask-training budget in steps. Mask training uses AdamW with a peak
            learning rate of 0.001. By default `learned`, and of whole channels `snip`.
        loss: Function `loss(outputs, y)` that returns the mean over a batch as a scalar tensor; by default
            cross-entropy.
        seed: Seed of all random draws, including dropout.
        scorer: Scorer of methods with the criterion `learned`, such as the default method: the name of a bundled
            scorer, or the folder of a finished run, `runs/NAME-N/scorer`. By default the bundled `cifar-v1`.
        prunable: Weights of custom layers to prune, name or pattern -> axes: `linear` [outputs, inputs], `transposed`
            [inputs, outputs] or `embedding` [rows, features], as in `{"*.c_attn.weight": "transposed"}`.
        exclude: Weights to leave dense, by name or pattern, such as `["head"]`.
        unit: Part of the network that is pruned as a whole, `weight` or `channel`; a pattern such as `2:4`; or a
            mapping with options as in a spec, such as `{"name": "channel", "multiple": 8}` or `{"n": 2, "m": 4}`.
            Overrides the unit of `method`.
        macs: Budget in place of `sparsity`: share of the dense network's multiply-adds to keep, in (0, 1], counted in
            prunable layers. Whole channels give a warning if other layers take more than a twentieth.
        ticket: Ticket of the method `ticket`: folder of a finished run, `runs/NAME-N/ticket`.
        initialize: Set the model to the ticket's initial weights. Layers that the ticket lacks keep theirs.

    Returns:
        Masks of the prunable weights, in model order, each on the device of its weight.

    Raises:
        UsageError: If an argument is invalid, or the sparsity leaves fewer weights than layers.
        AutosparseError: If scores are not finite or all zero, or mask training diverges.

    Examples:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
        >>> batches = [(torch.rand(16, 8), torch.arange(16) % 4)]
        >>> masks = prune(model, batches, 0.75, method="snip")
        >>> masks
        Masks(2 weights, 96 of 384 kept: sparsity 0.75)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> hold = masks.hold(optimizer)  # train as usual: pruned weights stay zero

        A method of your choice:

        >>> method = {"criterion": "synflow", "schedule": {"name": "exponential", "rounds": 10}}
        >>> prune(model, batches, 0.9, method=method).kept
        38

    References:
        AutoSparse, arXiv 2408.14757, for the default method; the paper of each criterion is in its docstring.
    """
    if isinstance(batches, int | float):
        hint = "such as a DataLoader; how much to remove is `sparsity=0.95`"
        raise UsageError(f"`batches` must be batches of `(x, y)` but is {batches}", hint)
    request = request_of(_with_unit(method, unit), sparsity or 0.0, seed, has_ticket=ticket is not None)
    if ticket is None and initialize:
        raise UsageError("`initialize` sets the weights of a ticket, but there is none", "pass `ticket`, too")
    if (given := request.method.given_sparsity) is not None and macs is None:
        sparsity = given if sparsity is None else sparsity
        request = request.model_copy(update={"sparsity": sparsity})
        if refused := request.method.misfit(request.sparsity):
            raise UsageError(f"`sparsity` {refused}", f"leave it out, or give {given:.4g}")
    _check_masks_alone(request.method)
    _check_budget(sparsity, macs)
    plain = unwrap(model)
    scorer = DEFAULT if scorer is None else scorer
    about = read_scorer(scorer) if request.method.needs_scorer else None
    if about is not None:
        request = request.model_copy(update={"method": filled(request.method, selection_of(about))})
    with isolated(plain, request.seed):
        evidence = gather(plain, batches, loss, request, scorer, prunable, exclude, positions=macs is not None)
        if sentence := left_out(evidence.model):
            evidence.note(sentence)
        values: Tensors = {}
        if ticket is not None:
            evidence, values = _with_ticket(evidence, ticket, initialize=initialize)
        total, keep = _amounts(evidence, request.sparsity, macs)
        masks, slicing, channels = _made(evidence, request.method, total, keep, macs)
    _set_values(plain, values)
    weights = named_parameters(plain)
    placed = {name: mask.to(weights[name].device) for name, mask in masks.items()}
    declared = declared_of(evidence.model).kinds
    return Masks(
        placed,
        model=plain,
        unprunable=unprunable(evidence.model),
        declared=declared,
        slicing=slicing,
        channels=channels,
    )


def _with_ticket(evidence: Evidence, folder: str | Path, *, initialize: bool) -> tuple[Evidence, Tensors]:
    # Evidence with a ticket's order, at its initial weights if these are wanted, and the values to set in the model.
    fitted = load_ticket(folder).fitted(evidence.model.state_dict())
    new = [name for name in evidence.weights if name not in fitted.order]
    if len(new) == len(evidence.weights):
        raise UsageError(
            f"no weight of ticket {folder} fits the model: names or kernels differ",
            f"the model has {listed([*evidence.weights], 3)}",
        )
    for note in fitted.notes:
        evidence.note(note)
    if new:
        evidence.note(f"the ticket has no {listed(new)}: pruned at random there")
    if not initialize:
        evidence.note(
            "the ticket's masks belong to its initial weights, which the model does not have: "
            "`initialize=True` sets them"
        )
    _set_values(evidence.model, fitted.state if initialize else {})
    return replace(evidence, survival=fitted.order), fitted.state if initialize else {}


def _set_values(model: torch.nn.Module, values: Tensors) -> None:
    state = model.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)


def _made(
    evidence: Evidence, method: Method, total: int, keep: int, macs: float | None
) -> tuple[Tensors, Slicing | None, Mapping[str, Sequence[int]]]:
    # Masks of weights, and of whole channels the smaller network and the channels kept.
    pruning, unit = _pruning(evidence, method, total, keep, macs)
    try:
        chosen = _function(method.schedule)(pruning)
        costs = {layer.name: 1 if macs is None else layer.positions for layer in evidence.layers}
        masks = _function(method.repair)(evidence, pruning.spread(chosen), pruning.score, costs)
        return masks, unit.slicing(chosen), unit.counts(chosen)
    except ValueError as error:
        where = f"sparsity {sparsity_of(total, keep):g}" if macs is None else f"{100 * macs:.3g}% of the multiply-adds"
        message = f"criterion `{method.criterion.name}` at {where}: {error}"
        raise AutosparseError(message, getattr(error, "hint", None)) from error


def pruning_of(evidence: Evidence, method: Method, sparsity: float) -> Pruning:
    """Return the choices of a method for a network and a sparsity.

    Args:
        evidence: Network.
        method: Method of single weights.
        sparsity: Fraction of the prunable weights to remove, in [0, 1).

    Returns:
        The input of schedules and update rules.

    Raises:
        UsageError: If the sparsity leaves fewer weights than layers.
    """
    total, keep = _amounts(evidence, sparsity, None)
    return _pruning(evidence, method, total, keep, None)[0]


def _pruning(evidence: Evidence, method: Method, total: int, keep: int, macs: float | None) -> tuple[Pruning, Unit]:
    try:
        unit = _function(method.unit)(evidence)
        cost = (in_weights if macs is None else in_macs)(evidence.layers)
        keep = unit.amount(keep, cost)
    except ValueError as error:
        raise AutosparseError(f"unit `{method.unit.name}`: {error}") from error
    pruning = Pruning(
        evidence,
        total,
        keep,
        score=with_signal(_function(method.criterion)),
        allocate=unit.limited(_function(method.allocation), cost),
        select=unit.filled(_function(method.selection)),
        recipe=_RECIPE,
        blind=method.selection.entry.facts.get("blind", False),
        unit=unit if method.has_unit else None,
    )
    return pruning, unit


def _check_masks_alone(method: Method) -> None:
    # Methods whose masks mean nothing without a training of theirs.
    if method.updates_masks:
        raise UsageError(
            f"method `{method.name}` changes masks during training, and `prune` makes them before",
            "`sparse_training` changes them in a loop, a spec in `autosparse run`",
        )
    if method.keeps_weights:
        raise UsageError(
            f"method `{method.name}` continues from the weights of its search, and `prune` returns masks alone",
            "`rewind: true`, or a spec in `autosparse run`",
        )


def _check_budget(sparsity: float | None, macs: float | None) -> None:
    if (sparsity is None) == (macs is None):
        raise UsageError("`prune` needs a sparsity, or else `macs`", "such as `sparsity=0.95` or `macs=0.3`")
    if macs is None:
        return
    if isinstance(macs, bool) or not isinstance(macs, int | float) or not 0 < macs <= 1:
        raise UsageError(f"`macs` must be above 0 and at most 1 but is {quoted(macs)}", "0.3 keeps 30 % of them")


def _with_unit(method: str | Mapping[str, Any] | None, unit: str | Mapping[str, Any] | None) -> str | Mapping[str, Any]:
    if method is None:
        return "learned" if unit is None else {"name": "own", "unit": unit}
    if unit is None:
        return method
    changed = {"preset": method} if isinstance(method, str) else {**method}
    return {**changed, "name": "own", "unit": unit}


def _amounts(evidence: Evidence, sparsity: float, macs: float | None) -> tuple[int, int]:
    # Weights or multiply-adds, in total and to keep.
    if macs is not None:
        total = macs_of(evidence.layers)
        return total, math.floor(macs * total)
    total, layers = total_of(evidence.weights), len(evidence.layers)
    if (keep := keep_count(total, sparsity)) < layers:
        raise UsageError(
            f"sparsity {sparsity:g} leaves {keep} of {total} weights for {layers} layers",
            f"at most {1 - layers / total:.6g} leaves one in each",
        )
    return total, keep


def score(
    model: torch.nn.Module,
    batches: Iterable[Any] | None = None,
    *,
    criterion: str,
    loss: Loss | None = None,
    seed: int = 0,
    scorer: str | Path | None = None,
    prunable: Mapping[str, Kind] | None = None,
    exclude: Sequence[str] = (),
    **options: Any,
) -> Tensors:
    """Return one-shot scores of a criterion; higher is kept.

    The model stays unchanged; the arguments not described here, and the number of threads, are those of `prune`.

    Args:
        model: Network at initialization.
        batches: Iterable of `(x, y)`; see `prune`.
        criterion: Name of the criterion, such as `snip`; `autosparse list criteria` lists them.
        loss: Function `loss(outputs, y)` that returns a scalar tensor; by default cross-entropy.
        seed: Seed of all random draws, including dropout.
        scorer: Scorer of the criterion `learned`: a bundled one by name, or the folder of a finished run.
        prunable: Weights of custom layers to score, name or pattern -> axes; see `prune`.
        exclude: Weights to leave out, by name or pattern.
        **options: Options of the criterion, such as `images` or `temperature`.

    Returns:
        Scores, name -> tensor of the weight's shape and device, in the precision of their computation (float64 for
        SynFlow, except on Apple's GPUs).

    Raises:
        UsageError: If an argument is invalid, or the criterion needs IRP rounds.

    Examples:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> batch = torch.tensor([[1.0, 3.0]]), torch.zeros(1)
        >>> score(model, [batch], criterion="snip", images=1, loss=lambda outputs, y: outputs.mean())
        {'weight': tensor([[1., 6.]])}
    """
    request = request_of({"criterion": {"name": criterion, **options}}, 0.0, seed)
    scorer = DEFAULT if scorer is None else scorer
    plain = unwrap(model)
    with isolated(plain, request.seed):
        evidence = gather(plain, batches, loss, request, scorer, prunable, exclude)
        scores = _function(request.method.criterion)(evidence)
    weights = named_parameters(plain)
    return {name: _placed(values.detach(), weights[name].device) for name, values in scores.items()}


def request_of(method: Any, sparsity: Any, seed: Any, *, has_ticket: bool = False) -> Request:
    """Return the validated method, sparsity and seed.

    Args:
        method: Name of a preset, or a mapping as in a spec.
        sparsity: Fraction of the prunable weights to remove.
        seed: Seed of all random draws.
        has_ticket: Whether the caller has a ticket.

    Returns:
        The request.

    Raises:
        UsageError: If a value is invalid, or the method needs a spec's run.
    """
    named = {"name": "own", **method} if isinstance(method, Mapping) else method
    request = validated(Request, {"method": named, "sparsity": sparsity, "seed": seed})
    if isinstance(request.method.horizon, str):
        raise UsageError(
            f"a horizon of {request.method.horizon} is a share of a training that only a spec describes",
            "give it in steps, such as `horizon: 300`",
        )
    request = request.model_copy(update={"method": searched(request.method, 0)})
    if request.method.needs_rounds:
        others = ", ".join(entry.name for entry in criteria if not {"needs_rounds", "needs_order"} & entry.facts.keys())
        raise UsageError(
            f"criterion `{request.method.criterion.name}` needs {request.method.needs}, which only a spec's run makes",
            f"write a spec for `autosparse run`, or choose one of {others}",
        )
    if request.method.needs_order != has_ticket:
        if has_ticket:
            raise UsageError(f"method `{request.method.name}` takes no ticket", 'write `method="ticket"`')
        raise UsageError(
            f"method `{request.method.name}` needs a ticket",
            "pass `ticket` to `prune`, the folder `runs/NAME-N/ticket` of a finished run",
        )
    return request


def _function(choice: Choice) -> Callable[..., Any]:
    return partial(choice.entry.function, **choice.options())


def gather(
    plain: torch.nn.Module,
    batches: Iterable[Any] | None,
    loss: Loss | None,
    request: Request,
    scorer: str | Path,
    prunable: Mapping[str, Kind] | None,
    exclude: Sequence[str],
    *,
    positions: bool = False,
) -> Evidence:
    """Return evidence on a copy of a network; the arguments are those of `prune`.

    Args:
        plain: Unwrapped network.
        batches: Batches, if the criterion needs some.
        loss: Loss of the criterion; by default cross-entropy.
        request: Method and seed.
        scorer: Scorer of the criterion `learned`.
        prunable: Weights of custom layers.
        exclude: Weights to leave dense.
        positions: Whether to count multiply-adds, which needs batches.

    Returns:
        Evidence on the copy, on the network's device.

    Raises:
        UsageError: If no weight is prunable, or the network cannot be copied.
    """
    prunable_weights(plain)  # raises for uninitialized lazy layers, which cannot be copied either
    device = _device(plain)
    model = declare_layers(copy_of(plain).to(device), prunable, exclude)
    if not prunable_weights(model):
        raise UsageError(
            f"the model has no prunable weight: {explain_unprunable(model)}",
            "weights of convolutions, linear layers and attention are, if they train, and what `prunable` declares",
        )
    if any(part.is_floating_point() and part.itemsize < 4 for part in model.parameters()):
        model = model.float()
    needed = request.method.needs_scorer
    return evidence_of(
        model,
        Examples(batches, device, Signature(model), seed=request.seed),
        {},
        seed=request.seed,
        positions=positions,
        objective=loss or mean_cross_entropy,
        note=cache(warn),  # each warning once
        scorer=make_scorer(read_scorer(scorer), read_state(scorer), _RECIPE, device) if needed else None,
    )


def _device(plain: torch.nn.Module) -> torch.device:
    devices = dict.fromkeys(tensor.device for tensor in [*plain.parameters(), *plain.buffers()])
    if len(devices) > 1 or any(device.type == "meta" for device in devices):
        raise UsageError(
            f"the model's tensors lie on {', '.join(map(str, devices))}, but scoring needs them on one device",
            "move the model, such as with `model.to('cpu')`, and load its weights",
        )
    device = next(iter(devices), torch.device("cpu"))
    # Some criteria compute in float64, as their authors do, which Apple's GPUs lack.
    return torch.device("cpu") if device.type == "mps" else device


def _placed(scores: torch.Tensor, device: torch.device) -> torch.Tensor:
    return (scores.float() if device.type == "mps" else scores).to(device)


@contextmanager
def isolated(plain: torch.nn.Module, seed: int) -> Iterator[None]:
    """Seed all generators, with default gradients, precision and fitting threads; restore everything afterwards.

    Args:
        plain: Unwrapped network, whose device counts.
        seed: Seed of the generators.

    Yields:
        Nothing.
    """
    with fitting_threads(), seeded(seed), torch.inference_mode(False), torch.enable_grad(), autocast_suspended():
        yield


def validated(section: type[AnySection], arguments: Mapping[str, Any]) -> AnySection:
    """Return arguments as a section of a spec.

    Args:
        section: Class of the section.
        arguments: Value of each field, as a program writes it.

    Returns:
        The section.

    Raises:
        UsageError: If a value is invalid; the message is that of a spec.
    """
    given = plain_values(arguments)
    try:
        return section.model_validate(given, strict=True)
    except ValidationError as error:
        problem = explain(error.errors(include_url=False), Document(given, {(): Mark("autosparse")}))[0]
        raise UsageError(problem.message, problem.hint) from None

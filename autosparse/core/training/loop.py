"""The one training loop and the one recipe that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

from autosparse.borders import optional
from autosparse.core.images import Images, batch_sizes, epoch
from autosparse.core.torch_compat.memory_layout import flattened, in_shape, lay_out
from autosparse.core.training.optimizers import Update, adam, sgd
from autosparse.core.weights import prunable_weights
from autosparse.errors import MissingExtra, StepError
from autosparse.lazy_torch import torch

MOST_EPOCHS = 100_000
"""The limit of any training."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe. Every field is an option of a spec's `training`."""

    epochs: Annotated[
        int | float, Gt(0), Le(MOST_EPOCHS), "passes over the training set; 2.5 stops halfway in the third"
    ] = 160
    batch: Annotated[int, Ge(1), "batch size, in images"] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], "optimizer"] = "sgd"
    lr: Annotated[float, Gt(0), "peak learning rate"] = 0.1
    momentum: Annotated[float, Ge(0), Lt(1), "momentum of SGD"] = 0.9
    nesterov: Annotated[bool, "Nesterov momentum of SGD"] = True
    weight_decay: Annotated[float, Ge(0), "weight decay on every parameter"] = 5e-4
    schedule: Annotated[Literal["cosine", "one_cycle", "steps", "constant"], "learning-rate schedule"] = "cosine"
    warmup: Annotated[float, Ge(0), Lt(1), "fraction of the steps with linear learning-rate warm-up"] = 0.05
    drops: Annotated[
        tuple[Annotated[float, Gt(0), Lt(1)], ...], "milestones of schedule `steps`, as fractions of the steps"
    ] = (0.375, 0.75)
    drop: Annotated[float, Gt(0), Lt(1), "learning-rate factor at each milestone of schedule `steps`"] = 0.2
    label_smoothing: Annotated[float, Ge(0), Lt(1), "label smoothing: fraction spread over all classes"] = 0.0
    crop: Annotated[int, Ge(0), "random crop: largest shift in pixels"] = 4
    flip: Annotated[bool, "random horizontal flip"] = True
    cutout: Annotated[int, Ge(0), "Cutout: side in pixels of a square filled with the mean colour"] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], "precision of the forward pass; auto: bfloat16 if the processor has it"
    ] = "auto"
    kernels: Annotated[
        Literal["dense", "sparse", "compiled"],
        "kernels of masked layers. sparse: float32 sparse kernels on a CPU, if masks keep at most 1/16 of the "
        "multiply-adds, else dense (extra `sparse`). compiled: torch.compile, which takes seconds per training; the "
        "plan shows whether it pays off",
    ] = "dense"


FEW = 0.0625
"""The largest share of multiply-adds at which sparse kernels are faster, at any precision of dense ones and any number
of threads: measured on ResNet-20, ResNet-18 and a VGG (benchmarks/)."""

STEP_FIELDS = (
    "batch", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "crop", "flip", "cutout", "precision",
)  # fmt: skip
"""The fields of a recipe that define a step when masks are learned: not the number of steps, nor fields that depend on
it, and no label smoothing, since the loss is that of criteria."""


def of_a_step(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe that define a step, as far as they are given."""
    return {name: recipe[name] for name in STEP_FIELDS if name in recipe}


DENSE = "`--set training.kernels=dense` uses dense kernels"
_COMPILERS = ("InvalidCxxCompiler", "TritonMissing")  # torch's errors for a missing compiler
_LEAST = 2  # images that batch normalization needs

Forward: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
Observe = Callable[..., None]
"""A callback with epochs done, total epochs, and the mean loss of the last one."""


class Team(Protocol):
    """Processes that train one network together: each takes its share of every batch and has the same weights."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def mean(self, tensor: torch.Tensor) -> None: ...
    def lead(self, tensor: torch.Tensor) -> None: ...


def train(
    model: torch.nn.Module,
    images: Images,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    begin: int = 0,
    end: int | None = None,
    observe: Observe = lambda *_: None,
    team: Team | None = None,
) -> list[float]:
    """Train `model` in place and return the mean training loss of every epoch.

    Steps before `begin` and from `end` on are skipped, with their batches. `masks` (name -> bool, as of
    `prunable_weights`) hold after every step, despite momentum and weight decay. The batches depend on the generator
    alone: every method at a seed sees the same images in the same order. Raises ValueError for a mask of no prunable
    weight.

    A `team` averages its gradients in every step (data-parallel training); the batch size is the recipe's. BatchNorm
    uses the statistics of each share, and at the end averages the running ones.
    """
    images = lay_out(model, images)
    model.train()
    flat = _flatten(model, channels_last=not images.contiguous)
    present = None if masks is None else _flat_mask(model, flat, masks, channels_last=not images.contiguous)
    if present is not None:
        flat.data.mul_(present)
    if team is not None:
        team.lead(flat.data)
        if present is not None:
            team.lead(present)
    with _kernels(model, images, recipe, masks if team is None else None) as forward:
        history = _epochs(forward, flat, images, recipe, generator, present, begin, end, observe, team)
    if team is not None:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                team.mean(buffer)
    return history


def _kernels(
    model: torch.nn.Module, images: Images, recipe: Recipe, masks: Mapping[str, torch.Tensor] | None
) -> AbstractContextManager[Forward]:
    # The network's forward pass while it trains.
    if recipe.kernels == "compiled":
        return compiled(model)
    if masks is None or recipe.kernels == "dense" or images.labels.device.type != "cpu":
        return nullcontext(model)
    with optional("numba", purpose="`training.kernels: sparse`", install="'autosparse[sparse]'"):
        from autosparse.core.sparse.training import share_left, sparse_kernels
    example, _ = next(images.in_order(1))
    return sparse_kernels(model, masks) if share_left(model, masks, example) <= FEW else nullcontext(model)


def _epochs(
    forward: Forward,
    flat: torch.nn.Parameter,
    images: Images,
    recipe: Recipe,
    generator: torch.Generator,
    present: torch.Tensor | None,
    begin: int,
    end: int | None,
    observe: Observe,
    team: Team | None,
) -> list[float]:
    optimizer = update_rule(flat, recipe)
    steps = training_steps_of(recipe, len(images))
    stop = steps if end is None else min(end, steps)
    step = 0
    epochs = math.ceil(recipe.epochs)
    history: list[float] = []
    for done in range(epochs):
        total, seen = torch.zeros((), device=flat.device), 0.0
        for inputs, labels in epoch(
            images, batch=recipe.batch, crop=recipe.crop, flip=recipe.flip, cutout=recipe.cutout, generator=generator
        ):
            if step >= stop:
                break
            if step < begin:
                step += 1
                continue
            optimizer.lr = recipe.lr * learning_rate(recipe, step / steps)
            whole = len(labels)
            if team is not None:
                inputs, labels = _share(inputs, team), _share(labels, team)
            with autocast(flat.device, recipe.precision):
                outputs = forward(inputs)
            loss = torch.nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=recipe.label_smoothing)
            assert flat.grad is not None
            flat.grad.zero_()
            count: float = len(labels)
            if team is None:
                loss.backward()
            else:  # every image weighs the same, whatever the size of its share
                count = len(labels) if len(labels) < whole else whole / team.size
                (loss * (count * team.size / whole)).backward()
                team.mean(flat.grad)
            optimizer.step()
            if present is not None:
                flat.data.mul_(present)
            total += loss.detach() * count
            seen += count
            step += 1
        if seen:
            history.append(_mean_loss(total, seen, team))
        observe(done + 1, epochs, history[-1] if seen else None)
        if step >= stop:
            break
    return history


def training_steps_of(recipe: Recipe, images: int) -> int:
    """Return the number of steps of a training: a fraction of an epoch takes that share of its batches."""
    return max(1, round(recipe.epochs * len(batch_sizes(images, recipe.batch))))


def accuracy(model: torch.nn.Module, images: Images, precision: str, *, batch: int = 1000) -> float:
    """Return the share of the images whose highest output is their label, in percent, with running statistics."""
    correct = 0
    images = lay_out(model, images)
    model.eval()
    with torch.no_grad(), autocast(images.labels.device, precision):
        for inputs, labels in images.in_order(batch):
            correct += int((model(inputs).argmax(dim=1) == labels).sum())
    return 100 * correct / len(images)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the learning rate at a share of the steps in [0, 1), as a multiple of the peak."""
    warmup = 0.3 if recipe.schedule == "one_cycle" else recipe.warmup
    if progress < warmup:
        return 0.04 + 0.96 * progress / warmup
    rest = (progress - warmup) / (1 - warmup)
    match recipe.schedule:
        case "cosine" | "one_cycle":
            return (1 + math.cos(math.pi * rest)) / 2
        case "steps":
            return recipe.drop ** sum(progress >= share for share in recipe.drops)
        case "constant":
            return 1.0


def update_rule(flat: torch.nn.Parameter, recipe: Recipe) -> Update:
    """Return the recipe's optimizer over one vector of parameters."""
    # Fused: one pass over the vector instead of three.
    shared: dict[str, Any] = {"weight_decay": recipe.weight_decay, "fused": flat.device.type in ("cpu", "cuda")}
    if recipe.optimizer == "adamw":
        return adam([flat], recipe.lr, **shared)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return sgd([flat], recipe.lr, momentum=recipe.momentum, nesterov=nesterov, **shared)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a forward pass has a recipe's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _share(batch: torch.Tensor, team: Team) -> torch.Tensor:
    # The share of one member; every member takes the whole of a batch that is too small to share.
    return batch if len(batch) < _LEAST * team.size else batch.tensor_split(team.size)[team.rank]


def _mean_loss(total: torch.Tensor, seen: float, team: Team | None) -> float:
    if team is None:
        return float(total) / seen
    both = torch.stack([total, torch.tensor(seen, device=total.device)])
    team.mean(both)
    return float(both[0] / both[1])


def _flatten(model: torch.nn.Module, *, channels_last: bool) -> torch.nn.Parameter:
    # All parameters become views of one vector, and their gradients views of another: the optimizer,
    # the masks and clearing gradients are then one call each instead of one per tensor.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.nn.Parameter(torch.cat([flattened(parameter, channels_last) for parameter in parameters]).detach())
    flat.grad = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, gradient in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        parameter.data = in_shape(values, parameter.shape, channels_last)
        parameter.grad = in_shape(gradient, parameter.shape, channels_last)
    return flat


def _flat_mask(
    model: torch.nn.Module, flat: torch.nn.Parameter, masks: Mapping[str, torch.Tensor], *, channels_last: bool
) -> torch.Tensor:
    weights = prunable_weights(model)
    if unknown := masks.keys() - weights.keys():
        raise ValueError(f"masks of weights that are not prunable: {', '.join(sorted(unknown))}")
    # By identity: a tied weight has another name among the model's parameters.
    present = {id(weights[name]): mask.to(flat.device) for name, mask in masks.items()}
    parts = [
        flattened(present[id(parameter)], channels_last).to(flat.dtype)
        if id(parameter) in present
        else torch.ones(parameter.numel(), dtype=flat.dtype, device=flat.device)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    return torch.cat(parts)


@contextmanager
def compiled(model: torch.nn.Module) -> Iterator[Forward]:
    """Yield a forward pass of `model`, compiled for the first batch's size; other batches run uncompiled.

    Recompiled for every training, so that results do not depend on earlier compilations in the process. Raises
    MissingExtra without a C++ compiler or, on GPUs, Triton, and StepError for a network that torch cannot compile.
    """
    size: int | None = None
    on_cpu = next(model.parameters()).device.type == "cpu"
    # Releases of torch before 2.14 reuse code on disk even if it was compiled for another number of threads.
    options: dict[str, Any] = {"cpp.threads": torch.get_num_threads()} if on_cpu else {}
    torch.compiler.reset()
    made = torch.compile(model, dynamic=False, options=options)

    def forward(images: torch.Tensor) -> torch.Tensor:
        nonlocal size
        size = size or len(images)
        return made(images) if len(images) == size else model(images)  # type: ignore[no-any-return]

    try:
        yield forward
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise _explained(error) from error
        raise
    finally:
        torch.compiler.reset()


def _explained(error: Exception) -> MissingExtra | StepError:
    message = f"{type(error).__name__}: {error}"
    if any(name in message for name in _COMPILERS):
        needed = "Triton" if "Triton" in message else "a C++ compiler"
        return MissingExtra(f"torch compiles with {needed}, and finds none", f"install it, or {DENSE}")
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return StepError(f"torch cannot compile this network: {first}", DENSE)
